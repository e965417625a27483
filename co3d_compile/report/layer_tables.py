"""Where the numbers come from, as tables: the delay, the state, and the sums by layer and by module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from co3d_compile.report.data import DelayPart, LayerReport, ModuleReport, OutputReport
from co3d_compile.report.modules import enclosing
from co3d_compile.report.tables import broken, headed, named, numbers, share_of, some
from co3d_compile.report.wording import cause, stride

LARGEST = 8
WIDE = 40
"""For a path beside few columns."""
APPROXIMATE = "~: approximate"


def critical_paths(outputs: Sequence[OutputReport], depth: int | None = None) -> Iterator[RenderableType]:
    """Per output what makes its delay: each layer, or the modules of a depth; equal paths once."""
    for path, group in groupby(outputs, key=lambda output: output.critical_path):
        if not path:
            continue
        names = [output.name for output in group]
        title = "Delay" if len(outputs) == 1 else f"Delay of {', '.join(names)}"
        yield headed(f"{title}: what waits for later frames, in ticks", _critical_path(path, depth))


def _critical_path(path: Sequence[DelayPart], depth: int | None) -> RenderableType:
    table = numbers("layer" if depth is None else "module", "adds", "delay")
    if depth is None:
        for part in path:
            table.add_row(_adding(part), f"{part.ticks:+}", str(part.sum))
        return table
    for module, group in groupby(path, key=lambda part: enclosing(part.path, depth)):
        parts = list(group)
        added = sum(part.ticks for part in parts)
        table.add_row(Text(module or "(top level)", style="bold"), f"{added:+}", str(parts[-1].sum))
    return table


def _adding(part: DelayPart) -> Text:
    return named(part.path or part.layer, cause(part), WIDE)


def largest_states(layers: Sequence[LayerReport]) -> Iterator[RenderableType]:
    """The layers that hold the most bytes, and who makes them hold so much."""
    by_name = {layer.name: layer for layer in layers}
    kept = sorted((layer for layer in layers if layer.state_bytes), key=lambda layer: -layer.state_bytes)
    if not kept:
        return
    table = numbers("kept of, needed by", "elements", "bytes", "share")
    for layer in kept[:LARGEST]:
        cells = (str(layer.history + layer.sums), f"{layer.state_bytes:,}", f"{layer.state_share:.1%}")
        table.add_row(_kept(layer, by_name.get(layer.needed_by)), *cells)
    rest = kept[LARGEST:]
    if rest:
        share = sum(layer.state_share for layer in rest)
        table.add_row(f"{len(rest)} more", "", f"{sum(layer.state_bytes for layer in rest):,}", f"{share:.1%}")
    yield headed("Largest states", table)


def _kept(layer: LayerReport, reader: LayerReport | None) -> Text:
    kept = named(layer.path or layer.name, layer.operation, WIDE)
    if layer.sums:
        kept.append(f"\n  {layer.sums} as partial sums", style="dim")
    if reader is not None:
        path = broken(reader.path or reader.name, WIDE).replace("\n", "\n    ")
        kept.append(f"\n  for {path} {reader.operation}", style="dim")
    return kept


def layer_sections(layers: Sequence[LayerReport]) -> Iterator[RenderableType]:
    """Those that pad, and those that compute, keep, pad or approximate something, or are held."""
    padded = [layer for layer in layers if layer.padding]
    if padded:
        yield headed("Padding: in every clip, none in mid-stream", _padding(padded))
    yield headed("Layers", _layers(layers))


def _padding(layers: Sequence[LayerReport]) -> RenderableType:
    table = numbers("layer", "own", "in all", "clip")
    for layer in layers:
        cells = (str(layer.padding), str(layer.shift), f"{layer.padded_share:.0%}")
        table.add_row(named(layer.path or layer.name, layer.operation, WIDE), *cells)
    return Group(_legend("frames of its own, with all before it; share of the clip's elements with any"), table)


def _layers(layers: Sequence[LayerReport]) -> RenderableType:
    table = numbers("layer", "stride", "delay", "pad", "MACs", "", "state", "")
    for layer in layers:
        if layer.macs_per_frame or layer.state_bytes or layer.padding or layer.held or layer.law == "approximate":
            table.add_row(*_layer_cells(layer))
    legend = "stride and delay in ticks, pad in frames, MACs per frame, state in bytes"
    return Group(_legend(legend, *_told(layers)), table)


def _told(layers: Sequence[LayerReport]) -> Iterator[str]:
    """What the marks mean that are there."""
    if any(layer.law == "approximate" for layer in layers):
        yield APPROXIMATE
    if any(layer.form == "transposed" for layer in layers):
        yield "T: transposed form, which keeps partial sums"
    if any(layer.held for layer in layers):
        yield "held 1: fires 1 tick later than it could, so that less is kept"


def _layer_cells(layer: LayerReport) -> tuple[RenderableType, ...]:
    marks = {"~": layer.law == "approximate", "T": layer.form == "transposed", f"held {layer.held}": layer.held}
    operation = " ".join((layer.operation, *(mark for mark, holds in marks.items() if holds)))
    macs, state = share_of(layer.macs_per_frame, layer.macs_share), share_of(layer.state_bytes, layer.state_share)
    name = named(layer.path or layer.name, operation)
    return (name, stride(layer), str(layer.delay), some(layer.padding), *macs, *state)


def modules(modules: Sequence[ModuleReport], depth: int) -> RenderableType:
    """The tree down to a depth, every module with the sums of all that is in it."""
    table = numbers("module", "layers", "pad", "shift", "MACs", "", "state", "")
    for module in modules:
        if module.depth <= depth:
            table.add_row(*_module_cells(module))
    marks = [APPROXIMATE] if modules[0].approximate else []
    legend = _legend("with all that is in them; shift: padding with that of all before", *marks)
    return headed("Modules", Group(legend, table))


def _module_cells(module: ModuleReport) -> tuple[RenderableType, ...]:
    name = module.path.rpartition(".")[2] or "(all)"
    mark = f" {module.approximate}~" if module.approximate else ""
    title = Text.assemble("  " * module.depth, (name, "bold"), mark)
    macs, state = share_of(module.macs_per_frame, module.macs_share), share_of(module.state_bytes, module.state_share)
    return (title, str(module.layers), some(module.padding), some(module.shift), *macs, *state)


def _legend(text: str, *marks: str) -> Text:
    return Text("\n".join((text, *marks)), style="dim")

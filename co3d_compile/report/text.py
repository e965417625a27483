"""The report as tables for a terminal: readable at 80 columns and when piped, no number cut short."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from co3d_compile.report.data import InputReport, LastResortReport, LayerReport, OutputReport, Report, Totals

PATH_WIDTH = 30


def render_report(report: Report) -> RenderableType:
    """What a terminal shows: outputs, totals, layers."""
    return Group(
        *_inputs(report.inputs),
        *(_output(output) for output in report.outputs),
        *(_last_resort(part) for part in report.last_resorts),
        _totals(report.totals, report.start, report.rate),
        _layers(report.layers),
    )


def _inputs(inputs: tuple[InputReport, ...]) -> Iterator[RenderableType]:
    """Where time lies, unless it is where one expects it."""
    if all(len(given.shape) == 5 and given.time_axis == 2 for given in inputs):
        return
    table = _facts()
    for given in inputs:
        _add(table, given.name, f"time is axis {given.time_axis}", f"shape {_shape(given.shape)} for the clip")
    yield _headed("Input", table)


def _output(output: OutputReport) -> RenderableType:
    title = f"Output {output.name}" if output.name != "output" else "Output"
    return _headed(title, Group(_clock(output), *_approximations(output)))


def _clock(output: OutputReport) -> Table:
    table = _facts()
    _add(table, "made by", output.path or "the top level", f"shape {_shape(output.shape)} for the clip")
    _add(table, "law", "exact" if output.exact else "approximate", "" if output.exact else "where and why: below")
    if output.carried:
        _add(table, "carried on", ", ".join(output.carried), "since the start, or the last reset")
    _add(table, "stride", f"{_stride(output)} ticks" if output.stride > 1 else "every tick")
    _add(table, "delay", f"{output.delay} ticks", _formula(output.formulas.delay))
    frames = f"{output.receptive_field} frames"
    if output.carried:
        _add(table, "receptive field", "unbounded", f"{frames} besides what is carried")
    else:
        _add(table, "receptive field", frames, _formula(output.formulas.receptive_field))
    _add(table, "steady from tick", f"{output.steady_tick}", _formula(output.formulas.steady_tick))
    _add(table, "aggregated padding", f"{output.padding} frames", "none in mid-stream")
    return table


def _approximations(output: OutputReport) -> Iterator[RenderableType]:
    """Each reason once, above the modules that it holds for."""
    for reason in dict.fromkeys(entry.reason for entry in output.approximations):
        yield Text(f"approximate: {reason}")
        for entry in output.approximations:
            if entry.reason == reason:
                yield Text(f"  {entry.path}", overflow="fold")
    if output.deviation is not None:
        yield Text(
            f"on a random clip it differs from the original by {output.deviation.largest:.2g} of the original at most, "
            f"by {output.deviation.median:.2g} in the median"
        )


def _last_resort(part: LastResortReport) -> RenderableType:
    """What is recomputed for every window, why, and what could be done."""
    lines = [Text("from there on everything runs on whole windows, exactly as on a clip")]
    for refusal in part.refusals:
        lines.append(Text(f"{refusal.path or '(top level)'}: {refusal.operation}: {refusal.reason}"))
        lines.append(Text(f"  try: {refusal.hint}"))
    return _headed(f"Not streamed: {part.path or 'the top level'}", Group(*lines))


def _totals(totals: Totals, start: str, rate: str) -> RenderableType:
    table = _facts()
    _add(table, "MACs per clip", f"{totals.clip_macs:,}", "the original, once per clip")
    _add(table, "MACs per frame", f"{totals.macs_per_frame:,.0f}", "mean of a period")
    _add(table, "clip / frame", f"{totals.saving:.2f}")
    _add(table, "streamed", f"{totals.share_streamed:.1%}", "of the MACs per clip")
    if totals.period > 1:
        _add(table, "heaviest tick", f"{totals.heaviest_tick:,}", f"MACs, of a period of {totals.period} ticks")
        _add(table, "lightest tick", f"{totals.lightest_tick:,}", "MACs")
    _add(table, "state", f"{totals.state_bytes:,} bytes", f"{totals.state_elements:,} numbers")
    _add(table, "", "", _formula(totals.formulas.state_bytes))
    _add(table, "  all direct", f"{totals.earliest_state_bytes:,} bytes", "everything as early as it can fire")
    if totals.prefer == "speed":
        _add(table, "  for memory", f"{totals.smallest_state_bytes:,} bytes", "the least there is; speed was preferred")
    _add(table, "weights", f"{totals.weight_bytes:,} bytes", f"{totals.parameters:,} numbers")
    _add(table, "gates", f"{totals.gates}")
    _add(table, "start", start)
    _add(table, "rate", rate)
    return _headed("Totals, for one stream", table)


def _layers(layers: tuple[LayerReport, ...]) -> RenderableType:
    """The layers that compute, keep or pad something."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("layer", overflow="fold", ratio=1)
    for heading in ("stride", "delay", "pad", "MACs", "", "state", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in layers:
        if layer.macs_per_frame or layer.state_bytes or layer.padding:
            table.add_row(*_layer_cells(layer))
    return _headed("Layers: clock, padding in frames, MACs per frame, bytes of state", table)


def _layer_cells(layer: LayerReport) -> tuple[RenderableType, ...]:
    name = Text.assemble((_broken(layer.path or layer.name), "bold"), f" {layer.operation}")
    macs = (_scaled(layer.macs_per_frame), f"{layer.macs_share:.1%}") if layer.macs_per_frame else ("", "")
    state = (_scaled(layer.state_bytes), f"{layer.state_share:.1%}") if layer.state_bytes else ("", "")
    return (name, _stride(layer), str(layer.delay), str(layer.padding) if layer.padding else "", *macs, *state)


def _facts() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold", style="dim")
    return table


def _add(table: Table, *cells: str) -> None:
    """A row of plain text: what stands in brackets is no markup."""
    if any(cells):
        table.add_row(*(Text(cell) for cell in cells))


def _headed(title: str, body: RenderableType) -> RenderableType:
    return Group(Text(title, style="bold underline"), Padding(body, (0, 0, 1, 2)))


def _formula(written: str) -> str:
    """Only where there is something to turn."""
    return f"= {written}" if "W" in written else ""


def _stride(clocked: OutputReport | LayerReport) -> str:
    return str(clocked.stride) if clocked.elements == 1 else f"{clocked.stride}/{clocked.elements}"


def _broken(path: str) -> str:
    """A long path on two lines, broken at a dot: the layers' column is so wide on a terminal of 80 columns."""
    cut = path.rfind(".", 0, PATH_WIDTH) + 1
    return path if len(path) <= PATH_WIDTH or not cut else f"{path[:cut]}\n  {path[cut:]}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)


def _scaled(number: float) -> str:
    """Three digits and a power of a thousand."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"

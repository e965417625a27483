"""The layers summed by the tree of the user's modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from co3d_compile.report.data import LayerReport, ModuleReport


def roll_up(layers: Sequence[LayerReport]) -> tuple[ModuleReport, ...]:
    """Every module with all that is in it, in the order of the first layers, each before those in it.

    Law: a module's sums are those of the modules right below it and of the layers that are its own.
    """
    return tuple(_module(path, inside) for path, inside in _modules("", list(layers)))


def enclosing(path: str, depth: int) -> str:
    """The module of that depth around a path; the path itself where it is less deep."""
    return ".".join(path.split(".")[:depth])


def _modules(path: str, inside: list[LayerReport]) -> Iterator[tuple[str, list[LayerReport]]]:
    yield path, inside
    depth = _depth(path)
    children: dict[str, list[LayerReport]] = {}
    for layer in inside:
        if _depth(layer.path) > depth:
            children.setdefault(enclosing(layer.path, depth + 1), []).append(layer)
    for child, layers in children.items():
        yield from _modules(child, layers)


def _depth(path: str) -> int:
    return len(path.split(".")) if path else 0


def _module(path: str, layers: list[LayerReport]) -> ModuleReport:
    return ModuleReport(
        path=path,
        depth=_depth(path),
        layers=len(layers),
        approximate=sum(layer.law == "approximate" for layer in layers),
        padding=sum(layer.padding for layer in layers),
        shift=max(layer.shift for layer in layers),
        padded_share=max(layer.padded_share for layer in layers),
        macs_per_frame=sum(layer.macs_per_frame for layer in layers),
        macs_share=sum(layer.macs_share for layer in layers),
        clip_macs=sum(layer.clip_macs for layer in layers),
        state_bytes=sum(layer.state_bytes for layer in layers),
        state_share=sum(layer.state_share for layer in layers),
    )

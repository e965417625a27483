"""Layers that are drawn as one: a layer and what only treats its elements one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from co3d_compile.report.data import LayerReport

Chain = tuple[LayerReport, ...]


def chains_of(layers: Sequence[LayerReport]) -> list[Chain]:
    """Every layer once, in the order of their first ones: a batch norm and a ReLU stand with their convolution."""
    made = {layer.name: layer for layer in layers}
    readers = Counter(read.layer for layer in layers for read in layer.reads)
    found: dict[str, list[LayerReport]] = {}
    heads: dict[str, LayerReport] = {}
    for layer in layers:
        joins = _joins(layer, made, heads, readers)
        heads[layer.name] = heads[layer.reads[0].layer] if joins else layer
        found.setdefault(heads[layer.name].name, []).append(layer)
    return [tuple(chain) for chain in found.values()]


def _joins(
    layer: LayerReport, made: Mapping[str, LayerReport], heads: Mapping[str, LayerReport], readers: Counter[str]
) -> bool:
    """It adds neither time nor work to the one layer that it reads, which nobody else reads."""
    if len(layer.reads) != 1 or layer.macs_per_frame or layer.kernel != 1:
        return False
    (read,) = layer.reads
    source = made[read.layer]
    if source.operation == "input" or readers[source.name] != 1 or read.wait:
        return False
    return _clock(layer) == _clock(source) and _beside(layer.path, heads[source.name].path)


def _beside(path: str, head: str) -> bool:
    """It stands in the module that holds the first one."""
    around, _, _ = head.rpartition(".")
    return not around or path == around or path.startswith(f"{around}.")


def _clock(layer: LayerReport) -> tuple[object, ...]:
    return layer.stride, layer.elements, layer.delay, layer.span

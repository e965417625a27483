"""Where the parts of a row stand on the axis of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from co3d_compile.report.data import LayerReport
from co3d_compile.report.page.axis import Axis
from co3d_compile.report.page.outline import Row

Kind = Literal["span", "reach", "wait", "tick"]
"""
span   the input frames that the first element depends on
reach  from the first element of what is read to the newest that goes into the row's first element
wait   from there until the row's first element is made: a residual that is held back
tick   the first element itself: the delay; drawn about its middle
"""


@dataclass(frozen=True)
class Mark:
    """A part of a row: places from 0 to 1 on the axis.

    Attributes:
        inside: of a layer within the module that the row stands for.
    """

    kind: Kind
    start: float
    stop: float
    inside: bool = False


@dataclass(frozen=True)
class Link:
    """From a row that makes something to one that reads it; both are chains of layers.

    Attributes:
        at: the place of the first element that is made.
        waits: the reader holds it back.
    """

    maker: Row
    reader: Row
    at: float
    waits: bool


def marks_of(row: Row, axis: Axis, layers: Mapping[str, LayerReport]) -> list[Mark]:
    """From back to front."""
    first, last = row.result.span
    within = _module(row, axis, layers) if row.rows else _chain(row, axis, layers)
    delay = row.result.delay
    return [
        Mark("span", axis.at(first), axis.at(last + 1)),
        *within,
        Mark("tick", axis.middle(delay), axis.middle(delay)),
    ]


def links_of(rows: Sequence[Row], axis: Axis) -> list[Link]:
    """Of all rows that are chains."""
    chains = [row for outer in rows for row in outer.walk() if not row.rows]
    maker = {layer.name: (row, layer) for row in chains for layer in row.layers}
    return [
        Link(maker[read.layer][0], row, axis.middle(maker[read.layer][1].delay), read.wait > 0)
        for row in chains
        for read in row.layers[0].reads
    ]


def _chain(row: Row, axis: Axis, layers: Mapping[str, LayerReport]) -> Iterator[Mark]:
    head = row.layers[0]
    for read in head.reads:
        made = layers[read.layer].delay
        if read.tick > made:
            yield Mark("reach", axis.middle(made), axis.middle(read.tick))
    yield from _waits(head, axis, inside=False)


def _module(row: Row, axis: Axis, layers: Mapping[str, LayerReport]) -> Iterator[Mark]:
    """From the first element that comes in to the first that goes out, and all that waits between them."""
    own = {layer.name for layer in row.layers}
    read = [layers[read.layer].delay for layer in row.layers for read in layer.reads if read.layer not in own]
    if read and min(read) < row.result.delay:
        yield Mark("reach", axis.middle(min(read)), axis.middle(row.result.delay))
    for layer in row.layers:
        yield from _waits(layer, axis, inside=True)


def _waits(layer: LayerReport, axis: Axis, *, inside: bool) -> Iterator[Mark]:
    for read in layer.reads:
        if read.wait > 0:
            yield Mark("wait", axis.middle(read.tick), axis.middle(layer.delay), inside)

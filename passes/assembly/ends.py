"""Where a slice of time ends that is written as a number of frames, such as ``x[:, :, : x.shape[2] - 1]``."""

from __future__ import annotations

import torch
from torch import fx

from co3d_compile.ops.operation import canonical_dim, overload
from co3d_compile.passes.assembly.lines import Line
from co3d_compile.passes.assembly.reading import Reader
from co3d_compile.passes.propagation import Choices, annotate
from co3d_compile.program.program import Program, bound_arguments, facts_of, is_getitem, target_name

JOINS = ("aten.cat.default", "aten.stack.default")


def settle_ends(program: Program, node: fx.Node, reader: Reader) -> None:
    """A slice that meets, element by element, what grows with the video ends at a distance from the end.

    Law: no value changes; with any other reading the original fails on every other length of video.
    """
    if is_getitem(node) or not _meets_by_element(node):
        return
    finite = {operand: dim for operand in node.all_input_nodes if (dim := _taken(operand, reader)) is not None}
    growing = {
        _extent(operand, line.dim)
        for operand in node.all_input_nodes
        if (line := _growing(operand, reader)) is not None
    }
    for operand, dim in finite.items():
        extent = _extent(operand, dim)
        if extent in growing and extent[1] > 1 and not _joins_along(node, dim):
            _count_from_the_back(program, operand, reader)


def _meets_by_element(node: fx.Node) -> bool:
    target = target_name(node)
    return target in JOINS or torch.Tag.pointwise in overload(target).tags


def _joins_along(node: fx.Node, dim: int) -> bool:
    return target_name(node) == "aten.cat.default" and canonical_dim(bound_arguments(node)["dim"], _rank(node)) == dim


def _taken(operand: fx.Node, reader: Reader) -> int | None:
    """The dimension of time, if frames were taken there by their place in the clip."""
    line = reader.lines.get(operand)
    if line is not None:
        return line.dim if line.stretch is None else None
    if operand.op != "call_function" or is_getitem(operand) or target_name(operand) != "aten.slice.Tensor":
        return None
    # no line: where constants end the stream, its place in a longer video is unknown
    given = bound_arguments(operand)
    source, dim = reader.line_of(given["self"]), canonical_dim(given["dim"], _rank(operand))
    return dim if source is not None and source.dim == dim and given["end"] is not None else None


def _growing(operand: fx.Node, reader: Reader) -> Line | None:
    """What has more frames in a longer video."""
    line = reader.line_of(operand) if facts_of(operand).streams else None
    return line if line is not None and line.stretch is not None else None


def _extent(operand: fx.Node, dim: int) -> tuple[int, int]:
    """Where time lies, counted from the last dimension, and the frames that it has in the clip."""
    return dim - _rank(operand), operand.meta["val"].shape[dim]


def _rank(node: fx.Node) -> int:
    rank: int = node.meta["val"].dim()
    return rank


def _count_from_the_back(program: Program, node: fx.Node, reader: Reader) -> None:
    taken = _source_and_places(node, reader)
    if taken is None:
        return
    source, dim, places = taken
    line = reader.line_of(source)
    end = places.stop - source.meta["val"].shape[dim]
    if line is None or line.dim != dim or places.step != 1 or end >= 0:
        return
    settled: Line | None = line.part(places.start, end)
    if settled is None or settled.stretch is None:
        return
    node.target, node.args, node.kwargs = torch.ops.aten.slice.Tensor, (source, dim, places.start, end, 1), {}
    annotate(program, node, Choices())
    reader.lines[node] = settled


def _source_and_places(node: fx.Node, reader: Reader) -> tuple[fx.Node, int, range] | None:
    """Which frames of what a node takes, along which dimension; None where that is no slice with both its ends."""
    if target_name(node) != "aten.slice.Tensor":
        line = reader.lines.get(node)
        return None if line is None or line.copies is None else (line.copies[0], line.dim, line.copies[1])
    given = bound_arguments(node)
    start, end = given["start"] or 0, given["end"]
    if start < 0 or end is None or end < 0:
        return None
    return given["self"], canonical_dim(given["dim"], _rank(node)), range(start, end, given["step"])

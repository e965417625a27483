"""Read how a call puts frames together, as a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from co3d_compile.layout import Mark
from co3d_compile.ops.constants import is_even, single_value
from co3d_compile.ops.operation import canonical_dim
from co3d_compile.passes.assembly.lines import Constant, Copy, Frame, Line, Stretch, joined_lines
from co3d_compile.passes.assembly.rebuilding import Builder
from co3d_compile.program.program import bound_arguments, facts_of, is_getitem, item_of, target_name

aten = torch.ops.aten

FEW = 16
"""Constant frames that are told from one another."""


class Reader:
    """Knows the lines of the nodes before it.

    Attributes:
        lines: of nodes that were put together from others' frames.
        frames: of nodes that are one frame without an axis of time, as lines of length 1.
    """

    def __init__(self) -> None:
        self.lines: dict[fx.Node, Line] = {}
        self.frames: dict[fx.Node, Line] = {}

    def read(self, node: fx.Node, builder: Builder) -> Line | None:
        """The line of a node, if it is made of frames of others; noted for the nodes behind it."""
        if is_getitem(node):
            self._item(node)
            return None
        reading = READINGS.get(target_name(node))
        line = None if reading is None else reading(self, bound_arguments(node), node, builder)
        if line is not None:
            self.lines[node] = line
        return line

    def line_of(self, node: fx.Node) -> Line | None:
        """What is known of a node that streams; at least that it is a stretch of itself."""
        if node in self.lines:
            return self.lines[node]
        facts = facts_of(node)
        if not facts.has_time or not facts.layout.time_is_plain:
            return None
        dim = facts.layout.dims.index((Mark.TIME,))
        return Line(dim, (), Stretch(node, 0, 0, facts.layout.time))

    def along(self, node: fx.Node, dim: int, builder: Builder) -> Line | None:
        """The frames of an operand along a dimension; a constant's frames are constant."""
        if facts_of(node).streams:
            line = self.line_of(node)
            return line if line is not None and line.dim == dim else None
        frames = constant_frames(node, dim, builder)
        return None if frames is None else Line(dim, frames)

    def _item(self, node: fx.Node) -> None:
        """A frame that was taken apart from the others."""
        source, place = item_of(node)
        given = bound_arguments(source)
        line = self.line_of(given["self"]) if target_name(source) == "aten.unbind.int" else None
        if line is not None and canonical_dim(given["dim"], _rank(given["self"])) == line.dim:
            self._note_frame(node, line.frame(place))

    def _note_frame(self, node: fx.Node, line: Line | None) -> None:
        if line is not None and line.length == 1:
            self.frames[node] = line

    def slice(self, given: dict[str, Any], node: fx.Node, builder: Builder) -> Line | None:
        line, dim = self.line_of(given["self"]), canonical_dim(given["dim"], _rank(given["self"]))
        if line is None or given["step"] != 1:
            return None
        if dim == line.dim:
            return line.part(given["start"] or 0, given["end"])
        if line.is_plain and line.stretch is not None and line.stretch.source is given["self"]:
            return None
        return _mapped(line, lambda source: builder.view(node.target, source, *node.args[1:]))

    def select(self, given: dict[str, Any], node: fx.Node, builder: Builder) -> None:
        line, place = self.line_of(given["self"]), given["index"]
        if line is not None and canonical_dim(given["dim"], _rank(given["self"])) == line.dim:
            self._note_frame(node, line.frame(place))

    def unsqueeze(self, given: dict[str, Any], node: fx.Node, builder: Builder) -> Line | None:
        frame = self.frames.get(given["self"])
        return frame if frame is not None and given["dim"] % _rank(node) == frame.dim else None

    def repeated(self, given: dict[str, Any], node: fx.Node, builder: Builder) -> Line | None:
        """One frame several times."""
        line, shape = self.lines.get(given["self"]), list(node.meta["val"].shape)
        if line is None or line.length != 1 or len(shape) != _rank(given["self"]):
            return None
        count, shape[line.dim] = shape[line.dim], 1
        return replace(line, head=line.head * count) if shape == list(given["self"].meta["val"].shape) else None

    def cat(self, given: dict[str, Any], node: fx.Node, builder: Builder) -> Line | None:
        dim = canonical_dim(given["dim"], _rank(node))
        return _all_joined([self.along(part, dim, builder) for part in given["tensors"]])

    def stack(self, given: dict[str, Any], node: fx.Node, builder: Builder) -> Line | None:
        dim = canonical_dim(given["dim"], _rank(node))
        frames = [self.frames.get(part) for part in given["tensors"]]
        return _all_joined([frame if frame is not None and frame.dim == dim else None for frame in frames])

    def scatter(self, given: dict[str, Any], node: fx.Node, builder: Builder) -> Line | None:
        dim = canonical_dim(given["dim"], _rank(node))
        start, end = given["start"] or 0, given["end"]
        if given["step"] != 1 or not _is_along_time(self, node, dim):
            return None
        return self._written(given["self"], self.along(given["src"], dim, builder), (dim, start, end), builder)

    def select_scatter(self, given: dict[str, Any], node: fx.Node, builder: Builder) -> Line | None:
        dim, start = canonical_dim(given["dim"], _rank(node)), given["index"]
        if not _is_along_time(self, node, dim):
            return None
        end = None if start == -1 else start + 1
        part = given["src"]
        if facts_of(part).streams:
            written = self.frames.get(part)
        else:
            written = self.along(builder.view(aten.unsqueeze.default, part, dim), dim, builder)
        return self._written(given["self"], written, (dim, start, end), builder)

    def _written(
        self, base: fx.Node, part: Line | None, place: tuple[int, int, int | None], builder: Builder
    ) -> Line | None:
        dim, start, end = place
        under = self.along(base, dim, builder)
        if under is None or part is None:
            return None
        rest = Line(dim) if end is None or end >= under.length else under.part(end, None)
        return _all_joined([under.part(0, start), part, rest])

    def indexed(self, given: dict[str, Any], node: fx.Node, builder: Builder) -> Line | None:
        line, indices = self.line_of(given["self"]), _indices(given)
        if line is None or indices is None or indices[0] != line.dim:
            return None
        places = [place % line.length for place in indices[1]]
        return _clamped(line, places) or _all_joined([line.frame(place) for place in places])

    def roll(self, given: dict[str, Any], node: fx.Node, builder: Builder) -> Line | None:
        line, dims = self.line_of(given["self"]), given["dims"]
        if line is None or len(dims) != 1 or canonical_dim(dims[0], _rank(node)) != line.dim:
            return None
        return line.rolled(given["shifts"][0])

    def pad(self, given: dict[str, Any], node: fx.Node, builder: Builder) -> Line | None:
        line, pads = self.line_of(given["self"]), list(given["pad"])
        if line is None:
            return None
        pads += [0] * (2 * _rank(node) - len(pads))
        place = 2 * (_rank(node) - 1 - line.dim)
        before, after = pads[place : place + 2]
        if any(pads[:place] + pads[place + 2 :]):
            return None
        cut = line.part(max(0, -before), min(0, after) or None)
        added = [Line(line.dim, (Constant(float(given["value"])),) * max(0, count)) for count in (before, after)]
        return _all_joined([added[0], cut, added[1]])


def constant_frames(node: fx.Node, dim: int, builder: Builder) -> tuple[Frame, ...] | None:
    """The frames of a constant; None if there are too many different ones."""
    facts, count = facts_of(node), int(node.meta["val"].shape[dim])
    value = single_value(facts)
    if value is not None:
        return (Constant(value),) * count
    if count == 1:
        return (Constant(node),)
    if is_even(facts, dim):
        return (Constant(builder.view(aten.slice.Tensor, node, dim, 0, 1)),) * count
    if count > FEW:
        return None
    parts = [builder.view(aten.slice.Tensor, node, dim, place, place + 1) for place in range(count)]
    values = [single_value(facts_of(part)) for part in parts]
    return tuple(Constant(part if one is None else one) for part, one in zip(parts, values, strict=True))


def _mapped(line: Line, change: Callable[[fx.Node], fx.Node]) -> Line | None:
    """The same frames of other sources."""
    if any(isinstance(frame, Constant) and isinstance(frame.value, fx.Node) for frame in (*line.head, *line.tail)):
        return None
    head, tail = ([_mapped_frame(frame, change) for frame in frames] for frames in (line.head, line.tail))
    stretch = line.stretch and replace(line.stretch, source=change(line.stretch.source))
    return Line(line.dim, tuple(head), stretch, tuple(tail))


def _mapped_frame(frame: Frame, change: Callable[[fx.Node], fx.Node]) -> Frame:
    return replace(frame, source=change(frame.source)) if isinstance(frame, Copy) else frame


def _all_joined(lines: Sequence[Line | None]) -> Line | None:
    there = [line for line in lines if line is not None]
    return joined_lines(there) if len(there) == len(lines) else None


def _indices(given: dict[str, Any]) -> tuple[int, list[int]] | None:
    """The dimension that is indexed and the places taken of it, if they are known."""
    if "indices" in given:
        used = [(dim, index) for dim, index in enumerate(given["indices"]) if index is not None]
        if len(used) != 1:
            return None
        dim, index = used[0]
    else:
        dim, index = canonical_dim(given["dim"], _rank(given["self"])), given["index"]
    known = facts_of(index).known
    if known is None or known.dtype == torch.bool or known.dim() != 1:
        return None
    return dim, [int(place) for place in known.tolist()]


def _clamped(line: Line, places: Sequence[int]) -> Line | None:
    """Frames a number of places on, that of the edge where the clip has none: all to its end, or as many as it has."""
    count = line.length
    shift = places[0] or 1 - sum(place == 0 for place in places)
    if list(places) != [min(max(n + shift, 0), count - 1) for n in range(len(places))]:
        return None
    first, after = max(0, shift), len(places) + shift - count
    if not (shift < 0 or after > 0) or (after < 0 and len(places) != count) or count - first + min(0, after) < 2:
        return None
    parts = [line.frame(0)] * -shift + [line.part(first, min(0, after) or None)] + [line.frame(-1)] * after
    return _all_joined(parts)


def _is_along_time(reader: Reader, node: fx.Node, dim: int) -> bool:
    given = bound_arguments(node)
    lines = [reader.line_of(operand) for operand in (given["self"], given["src"]) if facts_of(operand).streams]
    lines += [reader.frames[given["src"]]] if given["src"] in reader.frames else []
    return any(line is not None and line.dim == dim for line in lines)


def _rank(node: fx.Node) -> int:
    rank: int = node.meta["val"].dim()
    return rank


READINGS: dict[str, Callable[[Reader, dict[str, Any], fx.Node, Builder], Line | None]] = {
    "aten.slice.Tensor": Reader.slice,
    "aten.select.int": Reader.select,
    "aten.unsqueeze.default": Reader.unsqueeze,
    "aten.expand.default": Reader.repeated,
    "aten.repeat.default": Reader.repeated,
    "aten.cat.default": Reader.cat,
    "aten.stack.default": Reader.stack,
    "aten.slice_scatter.default": Reader.scatter,
    "aten.select_scatter.default": Reader.select_scatter,
    "aten.index.Tensor": Reader.indexed,
    "aten.index_select.default": Reader.indexed,
    "aten.roll.default": Reader.roll,
    "aten.constant_pad_nd.default": Reader.pad,
}

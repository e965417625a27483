"""A line of frames as calls that stream: cut, padded with constants or copies, joined to constant frames."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import torch
from torch import fx

from co3d_compile.ops.slicing import OPEN_END
from co3d_compile.passes.assembly.lines import Constant, Copy, Frame, Line, Stretch
from co3d_compile.passes.propagation import Choices, annotate
from co3d_compile.program.program import Program, is_getitem, target_name

aten = torch.ops.aten
VIEWS = (
    "aten.slice.Tensor",
    "aten.unsqueeze.default",
    "aten.transpose.int",
    "aten.permute.default",
    "aten.reshape.default",
)
Run = tuple[Frame, int]
"""A frame, and how often it is repeated."""


class Builder:
    """Puts calls before one node of the graph, or in its place.

    Args:
        views: those that the graph has before the node, by what they are of.
    """

    def __init__(self, program: Program, node: fx.Node, views: dict[str, fx.Node]) -> None:
        self._program = program
        self._node = node
        self._views = views
        self._made: set[fx.Node] = set()

    def is_seen_before(self) -> bool:
        """The node is the same view as one before it, which takes its place."""
        node = self._node
        if node.op != "call_function" or is_getitem(node) or target_name(node) not in VIEWS or node.kwargs:
            return False
        first = self._views.setdefault(_key(node.target, node.args), node)
        if first is node:
            return False
        node.replace_all_uses_with(first)
        self._program.graph.erase_node(node)
        return True

    def view(self, target: Any, *args: Any) -> fx.Node:
        """A view, made once."""
        key = _key(target, args)
        if key not in self._views:
            self._views[key] = self.call(target, *args)
        return self._views[key]

    def put(self, made: fx.Node) -> bool:
        """Let the node be what was made; False if that is of another shape or dtype."""
        node, (new, old) = self._node, (made.meta["val"], self._node.meta["val"])
        if (new.shape, new.dtype) != (old.shape, old.dtype):
            return False
        if made not in self._made or made in self._views.values():
            node.replace_all_uses_with(made)
            return True
        node.target, node.args, node.kwargs = made.target, made.args, made.kwargs
        self._program.graph.erase_node(made)
        annotate(self._program, node, Choices())
        return True

    def call(self, target: Any, *args: Any) -> fx.Node:
        with self._program.graph.inserting_before(self._node):
            made = self._program.graph.call_function(target, args)
        values = fx.map_arg(args, lambda operand: operand.meta["val"])
        made.meta = {"path": self._node.meta["path"], "val": target(*values)}
        annotate(self._program, made, Choices())
        self._made.add(made)
        return made

    def line(self, line: Line) -> fx.Node | None:
        """The tensor of a line; None if no stream gives it."""
        if line.stretch is None:
            return None
        head, tail = _runs(reversed(line.head)), _runs(line.tail)
        if not _streams(line.stretch, head, tail):
            return None
        single = self._padded_at_once(line, head, tail)
        if single is not None:
            return single
        source, stretch = line.stretch.source, line.stretch
        # what is cut down to no frame of the clip cannot be extended
        if stretch.length or (stretch.stop and head and not _repeats(line)):
            return self._back(self._front(source, line, head), line, tail)
        if stretch.start and tail and not _repeats(line):
            return self._front(self._back(source, line, tail), line, head)
        return None

    def _front(self, made: fx.Node, line: Line, head: list[Run]) -> fx.Node:
        assert line.stretch is not None
        made = self._part(made, line.dim, line.stretch.start, 0)
        for frame, count in head:
            made = self._extended(made, line.dim, frame, count, before=True)
        return made

    def _back(self, made: fx.Node, line: Line, tail: list[Run]) -> fx.Node:
        assert line.stretch is not None
        made = self._part(made, line.dim, 0, line.stretch.stop)
        for frame, count in tail:
            made = self._extended(made, line.dim, frame, count, before=False)
        return made

    def _padded_at_once(self, line: Line, head: list[Run], tail: list[Run]) -> fx.Node | None:
        """One padding, where each end is either cut off or extended in the same way."""
        stretch = line.stretch
        assert stretch is not None
        kinds = {frame.value if isinstance(frame, Constant) else None for frame, _ in (*head, *tail)}
        cut_and_extended = (head and stretch.start) or (tail and stretch.stop)
        if cut_and_extended or len(head) > 1 or len(tail) > 1 or len(kinds) != 1:
            return None
        (kind,) = kinds
        if isinstance(kind, fx.Node):
            return None
        before = head[0][1] if head else -stretch.start
        after = tail[0][1] if tail else -stretch.stop
        return self._padded(stretch.source, line.dim, before, after, kind)

    def _part(self, source: fx.Node, dim: int, start: int, stop: int) -> fx.Node:
        if not (start or stop):
            return source
        return self.call(aten.slice.Tensor, source, dim, start, -stop if stop else OPEN_END)

    def _extended(self, made: fx.Node, dim: int, frame: Frame, count: int, *, before: bool) -> fx.Node:
        pads = (count, 0) if before else (0, count)
        match frame:
            case Copy():
                return self._padded(made, dim, *pads, None)
            case Constant(fx.Node() as constant):
                for _ in range(count):
                    made = self.call(aten.cat.default, [constant, made] if before else [made, constant], dim)
                return made
            case Constant(value):
                return self._padded(made, dim, *pads, value)

    def _padded(self, source: fx.Node, dim: int, before: int, after: int, value: float | fx.Node | None) -> fx.Node:
        rank = source.meta["val"].dim()
        if value is not None:
            pads = [0, 0] * (rank - 1 - dim) + [before, after]
            return self.call(aten.constant_pad_nd.default, source, pads, value)
        if dim >= 2:
            pads = [0, 0] * (rank - 1 - dim) + [before, after] + [0, 0] * (dim - 2)
            return self.call(aten.pad.default, source, pads, "replicate")
        # torch repeats frames along the last dimensions alone
        last = self.call(aten.transpose.int, source, dim, rank - 1)
        return self.call(aten.transpose.int, self._padded(last, rank - 1, before, after, None), dim, rank - 1)


def _key(target: object, args: tuple[object, ...]) -> str:
    return f"{target}{args}"


def _runs(frames: Iterable[Frame]) -> list[Run]:
    return [(frame, len(list(equal))) for frame, equal in groupby(frames)]


def _repeats(line: Line) -> bool:
    return any(isinstance(frame, Copy) for frame in (*line.head, *line.tail))


def _streams(stretch: Stretch, head: list[Run], tail: list[Run]) -> bool:
    """Copies are of the stretch's own ends and lie next to it; torch can repeat them."""
    ends = (Copy(stretch.source, stretch.start), Copy(stretch.source, -stretch.stop - 1))
    copies = [
        (end, place, frame)
        for end, runs in zip(ends, (head, tail), strict=True)
        for place, (frame, _) in enumerate(runs)
        if isinstance(frame, Copy)
    ]
    values = stretch.source.meta["val"]
    fits = values.dim() in (3, 4, 5) and values.numel() > 0
    return all(place == 0 and frame == end and fits for end, place, frame in copies)

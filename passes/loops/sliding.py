"""Loops over frames that carry nothing, but read neighbours, or step over frames, as calls on slices of the streams."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from co3d_compile.ops import looping
from co3d_compile.ops.bodies import body_of
from co3d_compile.passes.loops.frames import described, time_dim
from co3d_compile.passes.loops.iterations import SHORTEST, common_path, streams
from co3d_compile.passes.loops.rolling import put_in_order, side_by_side
from co3d_compile.passes.loops.rows import Cut, Row, Rows, UnlikeError, cuts_of
from co3d_compile.passes.loops.takings import Taking, require_all_taken, taking_of
from co3d_compile.passes.propagation import Choices, annotate
from co3d_compile.program.program import Program, bound_arguments, is_getitem, path_of, target_name

aten = torch.ops.aten
JOINS = ("aten.stack.default", "aten.cat.default")
FEWEST = 3
"""Iterations that show a step; two do where they take all frames, each frame once."""


def slide_loops(program: Program) -> bool:
    """Whether the results of a loop, side by side, became calls on slices.

    Law: no value changes, on the clip; on a longer video there are as many iterations as fit into it.
    """
    cuts = cuts_of(program.graph)
    joins = [node for node in program.graph.nodes if _is_join(node)] if cuts else []
    return any(_slides(program, join, cuts) for join in joins)


def _is_join(node: fx.Node) -> bool:
    return node.op == "call_function" and not is_getitem(node) and target_name(node) in JOINS


def _slides(program: Program, join: fx.Node, cuts: dict[fx.Node, Cut]) -> bool:
    """Whether one join's parts became calls on slices."""
    parts: Row = tuple(bound_arguments(join)["tensors"])
    if len(parts) < 2 or not all(streams(part) for part in parts):
        return False
    sliding = _Sliding(program, Rows(parts, cuts))
    try:
        made = side_by_side(sliding.stream(parts, last=True), join)
    except UnlikeError:
        sliding.undo()
        return False
    join.replace_all_uses_with(made)
    put_in_order(program.graph)
    program.graph.eliminate_dead_code()
    return True


@dataclass
class _Loop:
    """The calls of one row, and of what they read, as they are gathered.

    Attributes:
        graph: the pattern's calls, apart from all others.
        items: by row, its node there.
        takings: by placeholder of the graph, what it stands for of the streams.
        fixed: placeholders and the constants that they stand for.
        sizes: of stretches that were taken whole.
    """

    graph: fx.Graph = field(default_factory=fx.Graph)
    items: dict[Row, fx.Node] = field(default_factory=dict)
    takings: dict[fx.Node, Taking] = field(default_factory=dict)
    fixed: dict[fx.Node, fx.Node] = field(default_factory=dict)
    widths: set[int] = field(default_factory=set)

    def placeholder(self, value: Any) -> fx.Node:
        made = self.graph.placeholder(f"given_{len(self.takings) + len(self.fixed)}")
        made.meta["val"] = value
        return made


class _Sliding:
    """The streams of rows of calls, under construction at the end of a program's graph."""

    def __init__(self, program: Program, rows: Rows) -> None:
        self._program = program
        self._rows = rows
        self._streams: dict[Row, fx.Node | None] = {}
        self._made: list[fx.Node] = []

    def undo(self) -> None:
        """Take everything back."""
        for node in reversed(self._made):
            self._program.graph.erase_node(node)

    def stream(self, row: Row, *, last: bool = False) -> fx.Node:
        """What the iterations made in a row, stacked in a first dimension.

        Args:
            last: nothing else of the loop reads it.

        Raises:
            UnlikeError: the row is not one function of slices, or follows from itself.
        """
        if row not in self._streams:
            self._streams[row] = None
            self._streams[row] = self._called_on_slices(row, last=last)
        found = self._streams[row]
        if found is None:
            raise UnlikeError
        return found

    def _called_on_slices(self, row: Row, *, last: bool) -> fx.Node:
        loop = _Loop()
        result = self._item(loop, row, is_top=True)
        takings = list(loop.takings.values())
        _require_sliding(takings, loop.widths)
        if last and all(_is_all_of(one) for one in takings):
            raise UnlikeError  # frame by frame: passes/loops/rolling.py
        return self._recurrence(loop, row, result)

    def _item(self, loop: _Loop, row: Row, *, is_top: bool = False) -> fx.Node:
        """The node in a loop's own graph for what the pattern makes in a row."""
        if row not in loop.items:
            loop.items[row] = self._made_item(loop, row, is_top)
        return loop.items[row]

    def _made_item(self, loop: _Loop, row: Row, is_top: bool) -> fx.Node:
        pattern = row[len(row) // 2]
        if self._rows.is_fixed(row):
            made = loop.placeholder(pattern.meta["val"])
            loop.fixed[made] = row[0]
            return made
        if self._rows.is_cut(row):
            return self._cut(loop, row)
        series = self._rows.series_of(row)
        if series is not None and not (is_top and series == row):
            source = self.stream(series)
            places = [series.index(node) if streams(node) else node for node in row]
            return self._taken(loop, taking_of(source, 0, places))
        if not self._rows.is_called_alike(row):
            raise UnlikeError
        read = iter([self._item(loop, below) for below in self._rows.below(row)])
        return loop.graph.node_copy(pattern, lambda _: next(read))

    def _cut(self, loop: _Loop, row: Row) -> fx.Node:
        cuts = [self._rows.cuts.get(node) for node in row]
        cut = next(one for one in cuts if one is not None)
        dim = time_dim(cut.source)
        assert dim is not None
        frames = []
        for offset in range(cut.width or 1):
            places = [node if one is None else one.first + offset for node, one in zip(row, cuts, strict=True)]
            frames.append(self._taken(loop, taking_of(cut.source, dim, places)))
        if cut.width is None:
            return frames[0]
        loop.widths.add(cut.width)
        return described(loop.graph.call_function(aten.stack.default, (frames, dim)), path_of(row[0]))

    def _taken(self, loop: _Loop, taking: Taking) -> fx.Node:
        known = next((node for node, one in loop.takings.items() if one == taking), None)
        if known is not None:
            return known
        made = loop.placeholder(taking.source.meta["val"].select(taking.dim, 0))
        loop.takings[made] = taking
        return made

    def _recurrence(self, loop: _Loop, row: Row, result: fx.Node) -> fx.Node:
        calls = [node for node in loop.graph.nodes if node.op == "call_function"]
        takings = list(loop.takings.values())
        last_first = max(one.first for one in takings)
        sources = [one.built(self._called, last_first) for one in takings]
        body = body_of(calls, [*loop.takings, *loop.fixed], [result]).to_text()
        arguments = (sources, [one.dim for one in takings], list(loop.fixed.values()), body, "", 0)
        made = self._called(looping.operator_node(), *arguments, path=common_path(calls or [row[0]]))
        return self._called(operator.getitem, made, 0, path=path_of(made))

    def _called(self, target: Any, *arguments: Any, path: str = "") -> fx.Node:
        """A call before the graph's output; joins of single frames may be refused, until passes/assembly reads them."""
        graph = self._program.graph
        with graph.inserting_before(next(iter(reversed(graph.nodes)))):
            node = described(graph.call_function(target, arguments), path)
        self._made.append(node)
        refused = annotate(self._program, node, Choices())
        if refused is not None and target_name(node) == looping.NAME:
            raise UnlikeError
        return node


def _is_all_of(taking: Taking) -> bool:
    return (taking.count, taking.front, taking.back) == (taking.length, (), ())


def _require_sliding(takings: list[Taking], widths: set[int]) -> None:
    """The places are those of a loop: they tell its step, and no other iteration would fit.

    Slices that are longer than there are of them, and reach both ends, may as well be a stream and its shifts.
    """
    if not takings or max(one.length for one in takings) < SHORTEST:
        raise UnlikeError
    require_all_taken(takings)
    step, count = takings[0].step, takings[0].count + len(takings[0].front) + len(takings[0].back)
    tiles = widths == {step} and step > 1
    shifts = any(one.first + one.step * one.count == one.length + step - 1 for one in takings)
    if (count < FEWEST and not tiles) or (shifts and any(width > max(step, count - 1) for width in widths)):
        raise UnlikeError

"""Iterations side by side: what all of them call alike, down to the frames that each of them takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx

from co3d_compile.passes.loops.frames import PARTS, single_frames, time_dim
from co3d_compile.passes.loops.iterations import same_call, streams
from co3d_compile.program.program import bound_arguments, is_getitem, item_of, target_name, with_nodes_replaced

Row = tuple[fx.Node, ...]
"""One node of each iteration, in order."""


class UnlikeError(Exception):
    """The iterations are not one function of slices."""


@dataclass(frozen=True)
class Cut:
    """Frames of a stream from ``first`` on; ``width`` is None for one without the axis of time."""

    source: fx.Node
    first: int
    width: int | None


def cuts_of(graph: fx.Graph) -> dict[fx.Node, Cut]:
    """The nodes that take a few frames by their places, of a stream whose time is an axis of its own."""
    found: dict[fx.Node, Cut] = {}
    for source in graph.nodes:
        if source.op in ("placeholder", "call_function") and time_dim(source) is not None:
            for node, first, keeps_axis in single_frames(source):
                found[node] = Cut(source, first, 1 if keeps_axis else None)
            found |= dict(_stretches(source))
    return found


def _stretches(source: fx.Node) -> Iterator[tuple[fx.Node, Cut]]:
    """Several frames with both their ends written down, or one part of many."""
    dim, shape = time_dim(source), source.meta["val"].shape
    assert dim is not None
    for user in source.users:
        if user.op != "call_function" or is_getitem(user) or target_name(user) not in ("aten.slice.Tensor", *PARTS):
            continue
        given = bound_arguments(user)
        if given["self"] is not source or given["dim"] % len(shape) != dim:
            continue
        if target_name(user) == "aten.slice.Tensor":
            first, end = given["start"] or 0, given["end"]
            if given["step"] == 1 and end is not None and 0 <= first < end - 1 < shape[dim]:
                yield user, Cut(source, first, end - first)
        elif target_name(user) != "aten.unbind.int":
            sizes = [part.shape[dim] for part in user.meta["val"]]
            for item in (item for item in user.users if is_getitem(item)):
                place = item_of(item)[1]
                if sizes[place] > 1:
                    yield item, Cut(source, sum(sizes[:place]), sizes[place])


class Rows:
    """Rows of a loop's calls, from those that it ends with.

    A row that has calls in common with another row, of other iterations, is part of a *series*: all such calls, in the
    order of the frames that go into them.

    Args:
        top: what the iterations made.
    """

    def __init__(self, top: Row, cuts: dict[fx.Node, Cut]) -> None:
        self.cuts = cuts
        self._series: dict[fx.Node, set[fx.Node]] = {}
        self._rows: dict[int, set[Row]] = {}
        self._find(top)

    def is_fixed(self, row: Row) -> bool:
        """The same for each iteration, and for each video."""
        return all(not streams(node) and _same_fixed(node, row[0]) for node in row)

    def is_cut(self, row: Row) -> bool:
        """Frames of one stream; fixed ones may stand in for some."""
        cuts = [self.cuts.get(node) for node in row if streams(node)]
        there = {(cut.source, cut.width) for cut in cuts if cut is not None}
        return None not in cuts and len(there) == 1 and (len(cuts) == len(row) or there.pop()[1] is None)

    def is_called_alike(self, row: Row) -> bool:
        return all(
            node.op == "call_function" and node not in self.cuts and same_call(node, row[0], lambda *_: True)
            for node in row
        )

    def below(self, row: Row) -> list[Row]:
        """What the calls of a row read, argument by argument."""
        return list(zip(*map(operands_of, row), strict=True))

    def series_of(self, row: Row) -> Row | None:
        """The series that a row's calls are part of, in order; None where no other row has any of them.

        Raises:
            UnlikeError: the frames do not tell their order.
        """
        members = [self._series.get(node) for node in row if streams(node)]
        if not members or members[0] is None or any(one is not members[0] for one in members):
            return None
        if len(self._rows[id(members[0])]) < 2:
            return None
        frames = {node: self._frames_in(node) for node in members[0]}
        if len(set(frames.values())) < len(frames):
            raise UnlikeError
        return tuple(sorted(frames, key=frames.__getitem__))

    def _find(self, top: Row) -> None:
        pending, seen = [top], {top}
        while pending:
            row = pending.pop()
            if self.is_fixed(row) or self.is_cut(row):
                continue
            self._note(row)
            below = self.below(row) if self.is_called_alike(row) else []
            pending += [one for one in dict.fromkeys(below) if one not in seen]
            seen.update(below)

    def _note(self, row: Row) -> None:
        members = {node for node in row if streams(node)}
        rows = {row}
        for old in {id(one): one for node in row if (one := self._series.get(node)) is not None}.values():
            members |= old
            rows |= self._rows.pop(id(old))
        self._series |= dict.fromkeys(members, members)
        self._rows[id(members)] = rows

    def _frames_in(self, node: fx.Node) -> tuple[int, int]:
        """The first and the last frame that go into a call."""
        found, pending, seen = set(), [node], {node}
        while pending:
            one = pending.pop()
            if one in self.cuts:
                found.add(self.cuts[one].first)
                continue
            pending += [read for read in one.all_input_nodes if read not in seen]
            seen.update(one.all_input_nodes)
        return (min(found), max(found)) if found else (-1, -1)


def operands_of(node: fx.Node) -> list[fx.Node]:
    """The nodes among a call's arguments, each as often as it is there."""
    read: list[fx.Node] = []
    for value in (*node.args, *node.kwargs.values()):
        with_nodes_replaced(value, read.append)
    return read


def _same_fixed(one: fx.Node, other: fx.Node) -> bool:
    """Equal by how they are made, as when each iteration makes its own zeros."""
    return one is other or (
        one.op == other.op == "call_function" and not streams(other) and same_call(one, other, _same_fixed)
    )

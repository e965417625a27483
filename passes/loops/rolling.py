"""Put one recurrence in the place of a loop's iterations."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from sys import maxsize

import torch
from torch import fx

from co3d_compile.ops import looping
from co3d_compile.ops.bodies import body_of
from co3d_compile.passes.loops.frames import described, time_dim
from co3d_compile.passes.loops.iterations import (
    PATTERN,
    Constant,
    Frame,
    Iterations,
    Operand,
    Role,
    UnevenError,
    common_path,
)
from co3d_compile.passes.loops.series import Series, series_of
from co3d_compile.program.program import bound_arguments, path_of, target_name

aten = torch.ops.aten


def roll(loop: Iterations) -> None:
    """Replace the loop's iterations by a recurrence and what is read of them by its outputs.

    Raises:
        UnevenError: frames are read beside the loop.
    """
    series = series_of(loop)
    if not series or not loop.pattern:
        return
    carried = _carried(loop, [one.operand for one in series])
    if carried:
        _require_no_other_reader(loop, series)
    elif not _begins_alike(loop, series):
        carried = [_before(series[0].operand)]
        _begin(loop, series[0])
    _Rolling(loop, series, carried).replace()


@dataclass(frozen=True)
class _Output:
    """A value that the recurrence gives out, and what it is for the first frame."""

    operand: Operand
    first: fx.Node | None


class _Rolling:
    """One loop under replacement."""

    def __init__(self, loop: Iterations, series: Sequence[Series], carried: Sequence[Operand]) -> None:
        self.loop = loop
        self.series = series
        self.carried = carried
        self.graph = loop.pattern[0].graph if loop.pattern else next(iter(loop.frames)).graph
        self.outputs = [_Output(_after(one), _first_of(loop, one)) for one in carried]
        for one in series:
            if self._place(one) is None:
                self.outputs.append(_Output(one.operand, one.first))

    def replace(self) -> None:
        node = self._recurrence()
        stacked = [
            self._called(operator.getitem, (node, place), node.meta["path"]) for place in range(len(self.outputs))
        ]
        for one in self.series:
            place = self._place(one)
            assert place is not None
            self._put_in_place(one, stacked[place])
        put_in_order(self.graph)
        self.graph.eliminate_dead_code()

    def _place(self, one: Series) -> int | None:
        for place, output in enumerate(self.outputs):
            if output.operand == one.operand and (one.first is None or one.first is output.first):
                return place
        return None

    def _recurrence(self) -> fx.Node:
        later = _calls_for(self.loop, [one.operand for one in self.outputs])
        firsts = [one.first for one in self.outputs]
        earlier = _ancestors(self.loop, [one for one in firsts if one is not None])
        constants = self._constants(later, [*earlier, *[one for one in firsts if one is not None]])
        sources = self._sources(later, earlier)
        before = [_node_of(self.loop, one) for one in self.carried]
        now = [self.loop.frames[source][PATTERN] for source in sources]
        made = [_node_of(self.loop, one.operand) for one in self.outputs]
        body = body_of(later, [*before, *now, *constants], made).to_text()
        begin = [self.loop.frames[source][0] for source in sources]
        first = body_of(earlier, [*begin, *constants], firsts).to_text() if self.carried else ""
        dims = [time_dim(source) for source in sources]
        path = common_path(later or [made[0]])
        arguments = (sources, dims, constants, body, first, len(self.carried))
        with self.graph.inserting_after(_last(self.graph, [*sources, *constants])):
            node = self.graph.call_function(looping.operator_node(), arguments)
        return described(node, path)

    def _constants(self, later: Sequence[fx.Node], earlier: Sequence[fx.Node]) -> list[fx.Node]:
        read = [one for node in later for one in node.all_input_nodes if self._is_constant(one)]
        read += [one for node in earlier for one in (node, *node.all_input_nodes) if self._is_constant(one)]
        return list(dict.fromkeys(read))

    def _is_constant(self, node: fx.Node) -> bool:
        return isinstance(self.loop.operand(node, PATTERN), Constant)

    def _sources(self, later: Sequence[fx.Node], earlier: Sequence[fx.Node]) -> list[fx.Node]:
        wanted = [self.loop.operand(node, PATTERN) for one in later for node in one.all_input_nodes]
        wanted += [one.operand for one in self.outputs]
        read = {one.source for one in wanted if isinstance(one, Frame)}
        firsts = [one.first for one in self.outputs if one.first is not None]
        begin = {node for one in earlier for node in one.all_input_nodes} | set(firsts)
        read |= {source for source, taken in self.loop.frames.items() if taken[0] in begin}
        return [source for source in self.loop.frames if source in read] or list(self.loop.frames)[:1]

    def _put_in_place(self, one: Series, stacked: fx.Node) -> None:
        path = path_of(one.node)
        if one.offset and one.how != "place":
            stacked = self._called(aten.slice.Tensor, (stacked, 0, one.offset, maxsize), path)
        match one.how:
            case "place":
                made = self._called(aten.select.int, (stacked, 0, one.place), path)
            case "stack" | "cat":
                made = side_by_side(stacked, one.node)
            case _:
                made = self._called(one.how, (stacked, 0 if one.how is aten.prod.dim_int else [0]), path)
        one.node.replace_all_uses_with(made)

    def _called(self, target: object, arguments: tuple[object, ...], path: str) -> fx.Node:
        node = self.graph.call_function(target, arguments)  # type: ignore[arg-type]
        return described(node, path)


def side_by_side(stacked: fx.Node, join: fx.Node) -> fx.Node:
    """What a ``stack`` or ``cat`` makes of the values that are stacked in a first dimension."""
    value = join.meta["val"]
    order = _moved(stacked, bound_arguments(join)["dim"] % value.dim())
    made = described(stacked.graph.call_function(aten.permute.default, (stacked, order)), path_of(join))
    if target_name(join) == "aten.stack.default":
        return made
    return described(stacked.graph.call_function(aten.reshape.default, (made, list(value.shape))), path_of(join))


def _moved(stacked: fx.Node, dim: int) -> list[int]:
    """The order of dimensions that brings the first one to ``dim``."""
    rank = len(stacked.meta["val"].shape)
    order = list(range(1, rank))
    return [*order[:dim], 0, *order[dim:]]


def _carried(loop: Iterations, wanted: Sequence[Operand]) -> list[Operand]:
    """What the pattern reads of the iteration before it to make these values, and what that needs in its turn."""
    found: dict[Operand, None] = {}
    pending = list(wanted)
    seen: set[Operand] = set()
    while pending:
        one = pending.pop()
        if one in seen or isinstance(one, Constant):
            continue
        seen.add(one)
        if one.lag:
            found[one] = None
            pending.append(_after(one))
        elif isinstance(one, Role):
            pending += [_read(loop, node) for node in loop.pattern[one.place].all_input_nodes]
    return list(found)


def _calls_for(loop: Iterations, wanted: Sequence[Operand]) -> list[fx.Node]:
    """The pattern's calls that make these values, in order."""
    needed: set[fx.Node] = set()
    pending = [_node_of(loop, one) for one in wanted if isinstance(one, Role) and not one.lag]
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending += [one for one in node.all_input_nodes if loop.places.get(one, (0, 0))[0] == PATTERN]
    return [node for node in loop.pattern if node in needed]


def _ancestors(loop: Iterations, nodes: Sequence[fx.Node]) -> list[fx.Node]:
    """The first iteration's calls that make these nodes, in order."""
    row = set(loop.rows[0])
    needed: set[fx.Node] = set()
    pending = [node for node in nodes if node in row]
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending += [one for one in node.all_input_nodes if one in row]
    return [node for node in loop.rows[0] if node in needed]


def _read(loop: Iterations, node: fx.Node) -> Operand:
    found = loop.operand(node, PATTERN)
    assert found is not None
    return found


def _node_of(loop: Iterations, one: Operand) -> fx.Node:
    """What stands for an operand in the pattern."""
    match one:
        case Role(place, lag):
            return loop.rows[PATTERN - lag][place]
        case Frame(source, lag):
            return loop.frames[source][PATTERN - lag]
        case Constant(node):
            return node


def _first_of(loop: Iterations, one: Operand) -> fx.Node:
    if isinstance(one, Frame):
        return loop.frames[one.source][0]
    assert isinstance(one, Role)
    return loop.first[one.place]


def _after(one: Operand) -> Operand:
    """The same of this iteration instead of the one before."""
    match one:
        case Role(place, _):
            return Role(place, 0)
        case Frame(source, _):
            return Frame(source, 0)
        case Constant():
            return one


def _before(one: Operand) -> Operand:
    match one:
        case Role(place, _):
            return Role(place, 1)
        case Frame(source, _):
            return Frame(source, 1)
        case Constant():
            return one


def _begin(loop: Iterations, series: Series) -> None:
    """A value that is carried only so that the first run is known for one."""
    if isinstance(series.operand, Role):
        assert series.first is not None
        loop.first[series.operand.place] = series.first


def _begins_alike(loop: Iterations, series: Sequence[Series]) -> bool:
    """The first iteration is the same function as all others, so nothing has to tell it apart."""
    return all(one.first is None or _is_same(loop, one.first, one.operand) for one in series)


def _is_same(loop: Iterations, node: fx.Node, wanted: Operand) -> bool:
    match wanted:
        case Frame(source, 0):
            return loop.frames[source][0] is node
        case Role(place, 0):
            return node in loop.rows[0] and loop.alike(
                node, loop.pattern[place], lambda one, other: _is_same(loop, one, _read(loop, other))
            )
        case Constant(other):
            return loop.same_constant(node, other)
        case _:
            return False


def _require_no_other_reader(loop: Iterations, series: Sequence[Series]) -> None:
    """What reads several frames beside the loop would see those of a window, the loop those of the whole past."""
    replaced = {one.node for one in series}
    beside: dict[fx.Node, fx.Node] = {}
    for taken in loop.frames.values():
        for frame in taken.values():
            for user in frame.users:
                if user not in loop.places and user not in replaced and loop.levels.get(user, 1):
                    beside[frame] = user
    if len(beside) > 1:
        raise UnevenError(next(iter(beside.values())), f"{len(beside)} frames are read beside it")


def _last(graph: fx.Graph, nodes: Sequence[fx.Node]) -> fx.Node:
    wanted = set(nodes)
    last: fx.Node = [node for node in graph.nodes if node in wanted][-1]
    return last


def put_in_order(graph: fx.Graph) -> None:
    """Every node after all that it reads, else in the order as it was."""
    done: set[fx.Node] = set()
    ordered: list[fx.Node] = []
    for node in graph.nodes:
        for one in _unmade(node, done):
            done.add(one)
            ordered.append(one)
    for before, node in pairwise(ordered):
        before.append(node)


def _unmade(node: fx.Node, done: set[fx.Node]) -> Iterator[fx.Node]:
    """What a node reads that does not stand before it yet, and then itself."""
    pending = [node]
    while pending:
        missing = [one for one in pending[-1].all_input_nodes if one not in done]
        if missing:
            pending += missing
            continue
        found = pending.pop()
        if found not in done:
            yield found

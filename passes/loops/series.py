"""What is read of a loop over frames: what its iterations made, side by side, added up, or of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import fx

from co3d_compile.passes.loops.iterations import Constant, Frame, Iterations, Operand, Role
from co3d_compile.program.program import bound_arguments, is_getitem, target_name

aten = torch.ops.aten

JOINS = ("aten.stack.default", "aten.cat.default")
SUMS = {
    "aten.add.Tensor": (aten.sum.dim_IntList, 0),
    "aten.mul.Tensor": (aten.prod.dim_int, 1),
    "aten.maximum.default": (aten.amax.default, None),
    "aten.minimum.default": (aten.amin.default, None),
}
"""What adds up over a clip when it is called frame by frame, and its neutral number."""
FILLED = {"aten.zeros.default": (0,), "aten.ones.default": (1,)}


@dataclass(frozen=True)
class Series:
    """One value of all iterations, as a node reads it.

    Attributes:
        node: what reads the iterations, and is replaced.
        operand: what it reads of each.
        first: what it reads of the first; None: nothing.
        how: ``stack``, ``cat``, ``place`` (of one iteration), or the operator of a reduction.
        offset: the first iteration that it reads.
    """

    node: fx.Node
    operand: Operand
    first: fx.Node | None
    how: Any
    dim: int = 0
    offset: int = 0
    place: int = 0


def series_of(loop: Iterations) -> list[Series]:
    """Everything that is read of a loop's iterations beside them."""
    joins = [found for node in _graph(loop).nodes if (found := _joined(loop, node)) is not None]
    sums = [found for place in range(len(loop.pattern)) if (found := _added(loop, place)) is not None]
    taken = {one.node for one in (*joins, *sums)}
    adding = {node for one in sums for node in _of_place(loop, loop.places[one.node][1])}
    alone = [one for node in loop.places if node not in adding and (one := _read_alone(loop, node, taken)) is not None]
    return [*joins, *sums, *alone]


def _graph(loop: Iterations) -> fx.Graph:
    return next(iter(loop.frames)).graph


def _joined(loop: Iterations, node: fx.Node) -> Series | None:
    if node.op != "call_function" or is_getitem(node) or target_name(node) not in JOINS:
        return None
    given = bound_arguments(node)
    parts: Sequence[Any] = given["tensors"]
    offset = loop.count - len(parts)
    if offset not in (0, 1) or node in loop.places:
        return None
    operand = _common_operand(loop, parts, offset)
    if operand is None:
        return None
    rank = len(node.meta["val"].shape)
    how = "stack" if target_name(node) == "aten.stack.default" else "cat"
    return Series(node, operand, None if offset else parts[0], how, given["dim"] % rank, offset)


def _common_operand(loop: Iterations, parts: Sequence[fx.Node], offset: int) -> Operand | None:
    """What these are to their iterations, if that is the same for all."""
    operand = loop.operand(parts[-1], loop.count - 1)
    if operand is None or isinstance(operand, Constant):
        return None
    for n, part in enumerate(parts, offset):
        if n == 0:
            if not loop.is_first(part):
                return None
        elif n == 1 and isinstance(operand, Role) and operand.lag:
            if not loop.is_first(part) or loop.first.setdefault(operand.place, part) is not part:
                return None
        elif loop.operand(part, n) != operand:
            return None
    return operand


def _added(loop: Iterations, place: int) -> Series | None:
    """A sum over the clip: no one reads it before its end."""
    node = loop.pattern[place]
    if is_getitem(node) or target_name(node) not in SUMS or len(node.args) != 2 or node.kwargs:
        return None
    adding = _of_place(loop, place)
    last = adding[-1]
    if loop.places[last][0] != loop.count - 1 or place not in loop.first:
        return None
    if any(set(one.users) != {after} for one, after in pairwise(adding)):
        return None
    operands = [loop.operand(one, 2) if isinstance(one, fx.Node) else None for one in node.args]
    others = [one for one in operands if one != Role(place, 1)]
    if len(others) != 1 or not isinstance(others[0], (Role, Frame)) or others[0].lag:
        return None
    how, neutral = SUMS[target_name(node)]
    first = _without_neutral(loop.first[place], target_name(node), neutral)
    if first is None or loop.levels.get(first) != 0:
        return None
    return Series(last, others[0], first, how)


def _without_neutral(first: fx.Node, target: str, neutral: float | None) -> fx.Node | None:
    """What a sum begins with; None where that is more than the first frame's part."""
    if first.op != "call_function" or is_getitem(first) or target_name(first) != target:
        return first
    others = [one for one in first.args if not _is_number(one, neutral)]
    return others[0] if len(others) == 1 and isinstance(others[0], fx.Node) else None


def _is_number(value: Any, number: float | None) -> bool:
    if isinstance(value, fx.Node):
        if value.op != "call_function" or is_getitem(value):
            return False
        filling = value.args[1:2] if target_name(value) == "aten.full.default" else ()
        return number in FILLED.get(target_name(value), filling)
    return number is not None and bool(value == number)


def _of_place(loop: Iterations, place: int) -> list[fx.Node]:
    """The calls of one place, from the second iteration on."""
    found = sorted((n, node) for node, (n, at) in loop.places.items() if at == place)
    return [node for _, node in found]


def _read_alone(loop: Iterations, node: fx.Node, taken: set[fx.Node]) -> Series | None:
    """What one iteration made, read by something that is no part of the loop."""
    if not any(user not in loop.places and user not in taken for user in node.users):
        return None
    iteration, place = loop.places[node]
    return Series(node, Role(place, 0), loop.first.get(place), "place", place=iteration)

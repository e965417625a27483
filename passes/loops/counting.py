"""Constants that count a clip's frames, where they meet what is carried since the start, go on counting."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from co3d_compile.ops import looping
from co3d_compile.ops.bodies import Body, BodyCall, Item
from co3d_compile.passes.loops.carrying import is_carried_on
from co3d_compile.passes.loops.frames import described, time_dim
from co3d_compile.passes.loops.progressions import (
    Progression,
    follows_from_length,
    number_in,
    progression_of,
    sequence_of,
)
from co3d_compile.passes.propagation import Choices, annotate
from co3d_compile.passes.whole_clips.regions import is_pointwise_call
from co3d_compile.program.program import Program, bound_arguments, facts_of, path_of, with_nodes_replaced

aten = torch.ops.aten


def count_positions(program: Program) -> Program:
    """Let a constant that counts frames be carried on where it meets, element by element, what is carried on too.

    Law: no value changes, on the clip; on a longer video the count goes on, as the original's own does.
    A constant with other values along time stays, and so does one that meets nothing carried.
    """
    carried: set[fx.Node] = set()
    for node in list(program.graph.nodes):
        annotate(program, node, Choices())
        if any(read in carried for read in node.all_input_nodes) or is_carried_on(node):
            carried.add(node)
        if node in carried and is_pointwise_call(node):
            stream = next(
                (read for read in node.all_input_nodes if read in carried and time_dim(read) is not None), None
            )
            if stream is not None and _counts_in(program, node, stream, carried):
                annotate(program, node, Choices())
    program.graph.eliminate_dead_code()
    return program


def _counts_in(program: Program, node: fx.Node, stream: fx.Node, carried: set[fx.Node]) -> bool:
    """Replace the constants of a call that count; whether there are any."""
    found = False
    for read in node.all_input_nodes:
        made = _count_for(program, node, stream, read)
        if made is not None:
            carried.add(made)
            node.replace_input_with(read, made)
            found = True
    return found


def _count_for(program: Program, node: fx.Node, stream: fx.Node, constant: fx.Node) -> fx.Node | None:
    """What counts in the place of a constant that meets a stream; None where it has to stay."""
    facts = constant.meta["facts"]
    found = None if not facts or facts[0].streams else sequence_of(constant)
    dim = time_dim(stream)
    if found is None or dim is None:
        return None
    shape = stream.meta["val"].shape
    place, values = found
    others = [read.meta["val"].shape for read in node.all_input_nodes if read is not constant]
    if place - len(constant.meta["val"].shape) != dim - len(shape) or len(values) != shape[dim]:
        return None
    if torch.broadcast_shapes(*others) != node.meta["val"].shape:  # type: ignore[no-untyped-call]
        return None
    lengths = {len(values), *(one.shape[one.time_axis] for one in program.inputs)}
    counting = _Counting(program, node, stream, dim, lengths)
    return counting.made(constant) if counting.can_make(constant) else None


@dataclass(frozen=True)
class _Counting:
    """A constant that follows, point by point, from progressions, made anew of counts beside a stream.

    Attributes:
        node: before which it is made.
        dim: of the stream, which is time.
        lengths: of the clip; a number that follows from one of them is another on a longer video.
    """

    program: Program
    node: fx.Node
    stream: fx.Node
    dim: int
    lengths: set[int]

    def can_make(self, constant: fx.Node) -> bool:
        number = number_in(constant)
        if number is not None:
            return not follows_from_length(number, self.lengths)
        found = sequence_of(constant)
        if found is None or len(found[1]) != self._count:
            return False
        progression = progression_of(constant)
        if progression is not None:
            return not any(follows_from_length(one, self.lengths) for one in (progression.start, progression.step))
        if not is_pointwise_call(constant):
            source = _laid_out(constant)
            return source is not None and self.can_make(source)
        literals = _numbers(list(bound_arguments(constant).values()))
        return not any(follows_from_length(one, self.lengths) for one in literals) and all(
            self.can_make(read) for read in constant.all_input_nodes
        )

    def made(self, constant: fx.Node) -> fx.Node:
        """The constant, time where the stream has it; one number where it is one."""
        number = number_in(constant)
        if number is not None:
            return self._filled(constant, number)
        progression = progression_of(constant)
        if progression is not None:
            return self._cast(self._counter(progression), constant.meta["val"].dtype)
        if not is_pointwise_call(constant):
            source = _laid_out(constant)
            assert source is not None
            return self.made(source)
        args = with_nodes_replaced(constant.args, self.made)
        named = {name: with_nodes_replaced(value, self.made) for name, value in constant.kwargs.items()}
        return self._called(constant.target, tuple(args), named)

    @property
    def _count(self) -> int:
        return int(self.stream.meta["val"].shape[self.dim])

    def _filled(self, constant: fx.Node, number: float) -> fx.Node:
        """Of one dimension at least, where the constant has one: torch's promotion tells them from numbers."""
        value = constant.meta["val"]
        shape = [1] * (len(self.stream.meta["val"].shape) if value.dim() else 0)
        return self._called(aten.full.default, (shape, number), {"dtype": value.dtype})

    def _counter(self, progression: Progression) -> fx.Node:
        """64-bit numbers, which count exactly; one for each stream of the batch, as these may begin apart."""
        batch = facts_of(self.stream).layout.batch_dim
        rank = len(self.stream.meta["val"].shape)
        kept = [dim for dim in range(rank) if dim != self.dim]
        calls = [
            BodyCall("aten.slice.Tensor", {"self": Item(place), "dim": kept.index(dim), "start": 0, "end": 1})
            for place, dim in enumerate(dim for dim in kept if dim != batch)
        ]
        calls.append(BodyCall("aten.zeros_like.default", {"self": Item(len(calls)), "dtype": torch.int64}))
        calls.append(BodyCall("aten.add.Tensor", {"self": Item(len(calls)), "other": progression.start}))
        first = Body(1, tuple(calls), (len(calls),))
        step = BodyCall("aten.add.Tensor", {"self": Item(0), "other": progression.step})
        arguments: tuple[Any, ...] = (
            [self.stream],
            [self.dim],
            [],
            Body(2, (step,), (2,)).to_text(),
            first.to_text(),
            1,
        )
        recurrence = self._called(looping.operator_node(), arguments)
        # what it counts beside may yet have to run on windows (passes/loops/positions.py)
        recurrence.meta["counts"] = True
        stacked = self._called(operator.getitem, (recurrence, 0))
        order = list(range(1, rank))
        order.insert(self.dim, 0)
        return self._called(aten.permute.default, (stacked, order))

    def _cast(self, count: fx.Node, dtype: torch.dtype) -> fx.Node:
        """By a factor where it is no integer: that takes another dtype with the network, as the constant would."""
        if dtype == torch.int64:
            return count
        if not dtype.is_floating_point:
            return self._called(aten._to_copy.default, (count,), {"dtype": dtype})
        one = self._called(aten.full.default, ([1] * len(count.meta["val"].shape), 1), {"dtype": dtype})
        return self._called(aten.mul.Tensor, (count, one))

    def _called(self, target: Any, arguments: tuple[Any, ...], named: dict[str, Any] | None = None) -> fx.Node:
        with self.node.graph.inserting_before(self.node):
            made = self.node.graph.call_function(target, arguments, named or {})
        described(made, path_of(self.node))
        annotate(self.program, made, Choices())
        return made


def _laid_out(constant: fx.Node) -> fx.Node | None:
    """What a view lays out otherwise, every value along time once and in order."""
    if len(constant.all_input_nodes) != 1:
        return None
    source = constant.all_input_nodes[0]
    before, after = sequence_of(source), sequence_of(constant)
    if before is None or after is None or not torch.equal(before[1], after[1]):
        return None
    return source


def _numbers(values: Sequence[Any]) -> list[float]:
    return [one for one in values if isinstance(one, (int, float)) and not isinstance(one, bool)]

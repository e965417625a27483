"""A loop over the elements of its streams: each run reads what the run before it carried over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from co3d_compile.clock.timing import input_timing
from co3d_compile.layout import Layout, Mark, Spread, constant_layout
from co3d_compile.ops import looping
from co3d_compile.ops.bodies import Body, BodyCall, Item
from co3d_compile.ops.element_bodies import ElementBody, Rules, element_body
from co3d_compile.ops.flow import Flow, Way, alone
from co3d_compile.ops.looping import NAME
from co3d_compile.ops.operation import Block, Call, Facts, Operation, Refused, Sample


class Recurrence(Operation):
    """The body is run call by call, each as its own rule says, so that the batch may vary."""

    targets = (NAME,)
    broadcasts = True

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def flow(self, call: Call) -> Flow:
        time, batch = call.sizes
        loop = self._loop(call)
        layouts = tuple(Layout(((Mark.TIME,), *one.layout.solid().dims), time, batch) for one in loop.results)
        if not call["states"]:
            return alone(*layouts)
        return Flow(Way.RECURRENT, layouts, carried=tuple(range(call["states"])))

    def macs(self, call: Call, flow: Flow) -> int:
        return self._loop(call).later.macs

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        """Without carried values there may be several elements."""
        loop = self._running(arguments, block)
        carried: list[Tensor | None] = [
            None if one is None else one.select(0, 0) for one in arguments.get("carried", ())
        ]
        rows: list[list[Tensor]] = []
        streams = list(zip(arguments["streams"], arguments["dims"], _stream_layouts(arguments, block), strict=True))
        for n in range(block.elements):
            element = [_element(*one, n, block.batch) for one in streams]
            rows.append(loop.step(carried, [*element, *arguments["constants"]], block.batch))
            carried = list(rows[-1][: arguments["states"]])
        return [
            torch.stack(column) if len(column) > 1 else column[0].unsqueeze(0) for column in zip(*rows, strict=True)
        ]

    def samples(self) -> tuple[Sample, ...]:
        leak = Body(2, (BodyCall("aten.lerp.Scalar", {"self": Item(0), "end": Item(1), "weight": 0.3}),), (2,))
        begin = Body(1, (), (0,)).to_text()
        frame = Body(1, (BodyCall("aten.flip.default", {"self": Item(0), "dims": [2]}),), (1,)).to_text()
        return (
            Sample("leaking", lambda x: looped([x], [2], [], leak.to_text(), begin, 1)[0].movedim(0, 2)),
            Sample("nothing carried", lambda x: looped([x], [2], [], frame, "", 0)[0].movedim(0, 2)),
            Sample(
                "along rows",
                lambda x: looped([x], [3], [], leak.to_text(), begin, 1)[0].movedim(0, 3),
                refusal="the loop does not run over time",
            ),
            Sample(
                "with the whole clip",
                lambda x: looped([x], [2], [x.mean(2)], Body(3, (), (0,)).to_text(), begin, 1)[0],
                refusal="reads a tensor that the whole clip goes into",
            ),
        )

    def _loop(self, call: Call) -> Loop:
        if any(facts.streams for facts in call["constants"]):
            raise Refused(
                "every run of the loop reads a tensor that the whole clip goes into",
                "a loop that reads its frame, weights and what it carries",
            )
        streams = [_one_element(facts, dim) for facts, dim in zip(call["streams"], call["dims"], strict=True)]
        return loop_of(call["body"], call["first"], call["states"], (*streams, *call["constants"]), self._rules)

    def _running(self, arguments: Mapping[str, Any], block: Block) -> Loop:
        read = zip(_stream_layouts(arguments, block), arguments["streams"], arguments["dims"], strict=True)
        streams = [_one_element(Facts(layout, tensor.dtype, ALWAYS), dim) for layout, tensor, dim in read]
        fixed = zip(block.tensors[len(streams) :], arguments["constants"], strict=True)
        constants = [Facts(layout or constant_layout(tensor.shape), tensor.dtype) for layout, tensor in fixed]
        given = (arguments["body"], arguments["first"], arguments["states"])
        return loop_of(*given, (*streams, *constants), self._rules)


def _stream_layouts(arguments: Mapping[str, Any], block: Block) -> list[Layout]:
    layouts = block.tensors[: len(arguments["streams"])]
    return [layout for layout in layouts if layout is not None]


ALWAYS = input_timing()


def looped(*arguments: Any) -> list[Tensor]:
    """The operator, as a model of one's own may call it."""
    made: list[Tensor] = looping.operator_node()(*arguments)
    return made


@dataclass(frozen=True)
class Loop:
    """A recurrence whose layouts are known.

    Attributes:
        results: facts of what one run carries and gives out.
    """

    first: ElementBody | None
    later: ElementBody
    results: tuple[Facts, ...]

    def step(self, carried: Sequence[Tensor | None], given: Sequence[Tensor], batch: int) -> list[Tensor]:
        """One run, for so many streams.

        Args:
            carried: by the run before; None, all of them, if there is none.
            given: one element of each stream, and the constants.
        """
        there = [one for one in carried if one is not None]
        if self.first is not None and not there:
            made = self.first.run(given, batch)
        else:
            made = self.later.run([*there, *given], batch)
        return [_written_out(one, facts, batch, given[0]) for one, facts in zip(made, self.results, strict=True)]


def loop_of(body: str, first: str, states: int, given: tuple[Facts, ...], rules: Rules) -> Loop:
    """The loop for streams and constants of these layouts.

    Raises:
        Refused: it calls what has no rule, or what it carries changes its layout.
    """
    if not first:
        later = element_body(body, given, rules)
        return Loop(None, later, _all_there(later.results))
    begin = element_body(first, given, rules)
    carried = _streaming(begin.results[:states])
    later = element_body(body, (*carried, *given), rules)
    if later.results[:states] != carried:
        # what the first run makes of constants alone takes its batch from the second
        carried = _streaming(later.results[:states])
        later = element_body(body, (*carried, *given), rules)
    results = _all_there(later.results)
    for one, other in zip(begin.results, results, strict=True):
        _require_fitting(one, other)
    for one, other in zip(carried, results, strict=False):
        _require_fitting(one, other)
    return Loop(begin, later, results)


def _streaming(results: Sequence[Facts | None]) -> tuple[Facts, ...]:
    return tuple(Facts(one.layout.solid(), one.dtype, ALWAYS) for one in _all_there(results))


def _all_there(results: Sequence[Facts | None]) -> tuple[Facts, ...]:
    return tuple(one for one in results if one is not None)


def _require_fitting(first: Facts | None, later: Facts) -> None:
    """What the first run makes broadcasts to what all others make."""
    if first is None:
        return
    dims = zip(first.layout.dims, later.layout.dims, strict=True)
    if first.layout.rank != later.layout.rank or any(one != other and not _is_one(one) for one, other in dims):
        raise Refused(
            f"what the loop carries changes its shape: {first.layout.shape}, then {later.layout.shape}",
            "a first state of the shape that all later ones have, for a clip of one stream",
        )
    if first.dtype != later.dtype:
        raise Refused(f"what the loop carries is {first.dtype}, then {later.dtype}", "a first state of the same dtype")


def _is_one(dim: tuple[object, ...]) -> bool:
    return all(isinstance(factor, Spread) for factor in dim)


def _written_out(made: Tensor | None, facts: Facts, batch: int, like: Tensor) -> Tensor:
    shape = facts.layout.solid().running_shape(1, batch)
    if made is None:
        return like.new_zeros(shape, dtype=facts.dtype)
    return made if tuple(made.shape) == shape else made.expand(shape)


def _element(block: Tensor, dim: int, layout: Layout, n: int, batch: int) -> Tensor:
    """Element n of a block, dimensions of one repeated value written out."""
    element = block.select(dim, n)
    shape = list(layout.solid().running_shape(1, batch))
    del shape[dim % len(shape)]
    return element if list(element.shape) == shape else element.expand(shape)


def _one_element(facts: Facts, dim: int) -> Facts:
    layout = facts.layout.solid()
    dim %= layout.rank
    if layout.dims[dim] != (Mark.TIME,):
        raise Refused("the loop does not run over time as an axis of its own", "keep time as an axis of its own")
    return Facts(layout.with_dims([*layout.dims[:dim], *layout.dims[dim + 1 :]]), facts.dtype, ALWAYS)

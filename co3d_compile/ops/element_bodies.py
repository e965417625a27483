"""A body run on single elements, for any number of streams: each of its calls runs as its own rule says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from co3d_compile.clock.timing import input_timing
from co3d_compile.layout import Layout, constant_layout
from co3d_compile.ops.bodies import Body, BodyCall, Item
from co3d_compile.ops.flow import Flow, Way
from co3d_compile.ops.operation import Block, Call, Facts, Operation, Refused, overload

Rules = Callable[[str], Operation | None]
"""Finds the rule of an operator."""


@dataclass(frozen=True)
class ElementCall:
    """One call of a body with its rule, its arguments by the schema's names and the layouts that they have.

    Attributes:
        facts: one per result.
        spread: places of what it reads that keeps a repeated value at size 1, and the layouts that the rule wants.
    """

    call: BodyCall
    rule: Operation | None
    bound: Call
    flow: Flow
    facts: tuple[Facts, ...]
    spread: tuple[tuple[int, Layout], ...]

    def run(self, values: Sequence[Any], batch: int) -> list[Any]:
        """What it makes for so many streams."""
        values = self._expanded(values, batch)
        if self.rule is None:
            return self.call.run(values)
        reads = next((facts.layout for facts in self.bound.streaming), self.flow.layouts[0])
        operands = tuple(facts.layout for facts in self.bound.streaming)
        tensors = tuple(facts.layout for facts in self.bound.operands)
        block = Block(self.call.target, reads, self.flow.layouts, 1, 1, batch, operands, tensors)
        given = _resolved(self.call, lambda place: values[place])
        if "device" in given and not self.bound.operands:
            given["device"] = values[0].device  # what it makes from nothing belongs where its inputs are
        made = self.rule.run(self.rule.adapted(given, block), block)
        return list(made) if self.call.results is not None else [made]

    def _expanded(self, values: Sequence[Any], batch: int) -> Sequence[Any]:
        expanded = list(values)
        for place, wanted in self.spread:
            expanded[place] = values[place].expand(wanted.running_shape(1, batch))
        return expanded


@dataclass(frozen=True)
class ElementBody:
    """A body that knows the layouts of all its values.

    Attributes:
        results: facts of the outputs; None where it has none.
    """

    body: Body
    calls: tuple[ElementCall, ...]
    results: tuple[Facts | None, ...]

    def run(self, inputs: Sequence[Tensor], batch: int) -> list[Tensor | None]:
        """The outputs for so many streams."""
        values: list[Any] = list(inputs)
        for call in self.calls:
            values += call.run(values, batch)
        return [None if place is None else values[place] for place in self.body.outputs]

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one element of the example clip's streams."""
        return sum(one.rule.macs(one.bound, one.flow) for one in self.calls if one.rule is not None)


@lru_cache(maxsize=512)
def element_body(text: str, inputs: tuple[Facts, ...], rules: Rules) -> ElementBody:
    """The body for inputs of these layouts.

    Raises:
        Refused: an operation in it has no rule, or does not treat the streams alone.
    """
    body = Body.from_text(text)
    facts = list(inputs)
    samples: list[Any] = [torch.empty(one.layout.shape, dtype=one.dtype, device="meta") for one in facts]
    calls: list[ElementCall] = []
    for call in body.calls:
        made = _shaped(call, samples)
        calls.append(_element_call(call, facts, made, rules))
        samples += made
        facts += calls[-1].facts
    return ElementBody(body, tuple(calls), tuple(None if place is None else facts[place] for place in body.outputs))


def _shaped(call: BodyCall, samples: Sequence[Any]) -> list[Any]:
    """What the call makes of shapes alone."""
    try:
        with torch.no_grad():
            return call.run(samples, torch.device("meta"))
    except RuntimeError as failure:
        reason = f"{_name(call)} in it fails on one element: {str(failure).splitlines()[0]}"
        raise Refused(reason, "a loop whose steps take the shapes that the first one takes") from failure


def _name(call: BodyCall) -> str:
    return call.target.removeprefix("aten.").rsplit(".", 1)[0]


def _element_call(call: BodyCall, facts: Sequence[Facts], made: Sequence[Any], rules: Rules) -> ElementCall:
    name = _name(call)
    if not all(isinstance(one, Tensor) for one in made):
        raise Refused(f"{name} in it makes a number of a tensor's size", "write the size as a number")
    shapes = tuple(tuple(one.shape) for one in made)
    bound = Call(call.target, _resolved(call, lambda place: facts[place]), shapes)
    rule = rules(call.target)
    spread = _spread(call, facts, rule)
    if not bound.streaming and (rule is None or bound.operands):
        flow = Flow(Way.ALONE, tuple(constant_layout(shape) for shape in shapes))
        return ElementCall(call, None, bound, flow, _facts(flow, made, None), spread)
    flow = _flow(bound, rule, name)
    timing = input_timing() if bound.streaming else None
    return ElementCall(call, rule, bound, flow, _facts(flow, made, timing), spread)


def _spread(call: BodyCall, facts: Sequence[Facts], rule: Operation | None) -> tuple[tuple[int, Layout], ...]:
    wanted = {}
    for place in _places(list(call.arguments.values())):
        layout = facts[place].layout
        along = rule.whole_dims(call.arguments, layout.rank) if rule is not None and rule.broadcasts else None
        wanted[place] = layout.solid() if along is None else layout.solid(along)
    return tuple((place, layout) for place, layout in wanted.items() if layout != facts[place].layout)


def _flow(bound: Call, rule: Operation | None, name: str) -> Flow:
    if rule is None:
        raise Refused(f"{name} in it has no rule", "write one (docs/adding-an-operation.md), or avoid it")
    if not rule.broadcasts:
        bound = replace(bound, arguments={key: _solid(value) for key, value in bound.arguments.items()})
    try:
        flow = rule.flow(bound)
    except Refused as refused:
        raise Refused(f"{name} in it: {refused.reason}", refused.hint) from refused
    if flow.way is not Way.ALONE:
        raise Refused(f"{name} in it does not treat one element alone", "a step that works on one frame")
    return flow


def _facts(flow: Flow, made: Sequence[Tensor], timing: Any) -> tuple[Facts, ...]:
    return tuple(Facts(layout, one.dtype, timing) for layout, one in zip(flow.layouts, made, strict=True))


def _resolved(call: BodyCall, value_of: Callable[[int], Any]) -> dict[str, Any]:
    """The arguments by the schema's names, defaults filled in, values in place of items."""
    schema = overload(call.target)._schema
    given = {argument.name: call.arguments.get(argument.name, argument.default_value) for argument in schema.arguments}
    return {name: _with_values(value, value_of) for name, value in given.items()}


def _with_values(value: Any, value_of: Callable[[int], Any]) -> Any:
    if isinstance(value, Item):
        return value_of(value.place)
    if isinstance(value, (list, tuple)):
        return [_with_values(entry, value_of) for entry in value]
    return value


def _solid(value: Any) -> Any:
    if isinstance(value, Facts):
        return replace(value, layout=value.layout.solid())
    if isinstance(value, list):
        return [_solid(entry) for entry in value]
    return value


def _places(value: Any) -> list[int]:
    if isinstance(value, list):
        return [place for entry in value for place in _places(entry)]
    return [value.place] if isinstance(value, Item) else []

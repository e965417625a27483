"""A piece of a graph as data: a straight line of operator calls, written as text, run by torch as it stands."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx

from co3d_compile.errors import ArtifactError
from co3d_compile.ops.arguments import Json, decode_argument, encode_argument
from co3d_compile.ops.operation import overload

ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    f"operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
}
"""What Python does to sizes between two calls."""


@dataclass(frozen=True)
class Item:
    """An argument that is a value of the body: its inputs come first, then what each call makes, in order."""

    place: int


@dataclass(frozen=True)
class BodyCall:
    """One call.

    Attributes:
        target: for instance ``aten.conv2d.default``, or a name in ``ARITHMETIC``.
        arguments: by the operator's names, by place (``"0"``, ``"1"``) for arithmetic; ``Item`` stands for a value.
        results: how many values it makes; None: one, which is no list.
    """

    target: str
    arguments: Mapping[str, Any]
    results: int | None = None

    @property
    def count(self) -> int:
        return 1 if self.results is None else self.results

    def run(self, values: Sequence[Any], device: torch.device | None = None) -> list[Any]:
        """What it makes, from all values of the body so far."""
        given = {name: _filled_in(value, values, device) for name, value in self.arguments.items()}
        if self.target in ARITHMETIC:
            return [ARITHMETIC[self.target](*given.values())]
        function = overload(self.target)
        if device is not None and not _items_in(list(self.arguments.values())) and _takes_device(function):
            given["device"] = device
        made = function(**given)
        return [made] if self.results is None else list(made)


@dataclass(frozen=True)
class Body:
    """Some inputs, calls, and the values that come out.

    Attributes:
        outputs: places of the values; None where this one has no such output.
    """

    inputs: int
    calls: tuple[BodyCall, ...]
    outputs: tuple[int | None, ...]

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs, with every literal as it was captured; on the device of the inputs."""
        values = self.values(inputs)
        return [None if place is None else values[place] for place in self.outputs]

    def values(self, inputs: Sequence[Any]) -> list[Any]:
        """The inputs, and then all that the calls make."""
        values = list(inputs)
        device = next((value.device for value in inputs if isinstance(value, Tensor)), None)
        for call in self.calls:
            values += call.run(values, device)
        return values

    def recast(self, old: torch.dtype, new: torch.dtype) -> Body:
        """The same for a network in another dtype: what it makes from nothing changes, the model's own casts stay."""
        return replace(self, calls=tuple(_recast(call, old, new) for call in self.calls))

    def to_text(self) -> str:
        """As compact JSON; ``from_text`` gives an equal body back.

        Raises:
            ArtifactError: an argument is of a kind that a file cannot hold.
        """
        calls = [[call.target, _encode(call.arguments), call.results] for call in self.calls]
        return json.dumps([self.inputs, calls, list(self.outputs)], separators=(",", ":"), allow_nan=False)

    @staticmethod
    @cache
    def from_text(text: str) -> Body:
        """The body that was written. Runs nothing.

        Raises:
            ArtifactError: the text is no body.
        """
        try:
            inputs, calls, outputs = json.loads(text)
            body = Body(int(inputs), tuple(_call(*call) for call in calls), tuple(outputs))
        except (ValueError, TypeError, AttributeError) as failure:
            raise _damaged(text) from failure
        return _checked(body, text)


def body_of(nodes: Sequence[fx.Node], inputs: Sequence[fx.Node], outputs: Sequence[fx.Node | None]) -> Body:
    """The body of some calls of a graph.

    Args:
        nodes: the calls, in order; items taken of several results may be among them.
        inputs: all that they read and do not make (``read_by`` lists it), weights too.
        outputs: among nodes and inputs.
    """
    items = {node: Item(place) for place, node in enumerate(inputs)}
    calls: list[BodyCall] = []
    count = len(inputs)
    for node in nodes:
        if node in items:
            continue
        if node.target is operator.getitem:
            source, place = node.args
            assert isinstance(source, fx.Node)
            assert isinstance(place, int)
            items[node] = Item(items[source].place + place)
            continue
        call = BodyCall(target_in_body(node), _arguments(node, items), _results(node))
        items[node] = Item(count)
        calls.append(call)
        count += call.count
    return Body(len(inputs), tuple(calls), tuple(None if node is None else items[node].place for node in outputs))


def read_by(nodes: Sequence[fx.Node]) -> list[fx.Node]:
    """What some nodes read and do not make themselves, in the order of first reading."""
    own = set(nodes)
    return list(dict.fromkeys(read for node in nodes for read in node.all_input_nodes if read not in own))


def target_in_body(node: fx.Node) -> str:
    """The name under which a body calls what the node calls."""
    name = getattr(node.target, "__name__", "")
    return f"operator.{name}" if f"operator.{name}" in ARITHMETIC and _is_python(node) else str(node.target)


def _is_python(node: fx.Node) -> bool:
    return not isinstance(node.target, torch._ops.OpOverload)


def _arguments(node: fx.Node, items: Mapping[fx.Node, Item]) -> dict[str, Any]:
    if _is_python(node):
        named = {str(place): value for place, value in enumerate(node.args)}
    else:
        schema = overload(str(node.target))._schema
        named = {argument.name: value for argument, value in zip(schema.arguments, node.args, strict=False)}
        named |= node.kwargs
    return {name: _with_items(value, items) for name, value in named.items()}


def _with_items(value: Any, items: Mapping[fx.Node, Item]) -> Any:
    if isinstance(value, fx.Node):
        return items[value]
    if isinstance(value, (list, tuple)):
        return [_with_items(entry, items) for entry in value]
    return value


def _results(node: fx.Node) -> int | None:
    value = node.meta["val"]
    return len(value) if isinstance(value, (list, tuple)) else None


def _takes_device(function: torch._ops.OpOverload) -> bool:
    return any(argument.name == "device" for argument in function._schema.arguments)


def _filled_in(value: Any, values: Sequence[Any], device: torch.device | None) -> Any:
    match value:
        case Item(place):
            return values[place]
        case list():
            return [_filled_in(entry, values, device) for entry in value]
        case torch.device():
            return device or value
        case _:
            return value


def _recast(call: BodyCall, old: torch.dtype, new: torch.dtype) -> BodyCall:
    if call.arguments.get("dtype") != old or _items_in(list(call.arguments.values())):
        return call
    return replace(call, arguments={**call.arguments, "dtype": new})


def _items_in(value: Any) -> list[Item]:
    if isinstance(value, list):
        return [item for entry in value for item in _items_in(entry)]
    return [value] if isinstance(value, Item) else []


def _encode(arguments: Mapping[str, Any]) -> Json:
    return {
        name: encode_argument(value, lambda one: {"item": one.place} if isinstance(one, Item) else None)
        for name, value in arguments.items()
    }


def _call(target: str, arguments: Mapping[str, Json], results: int | None) -> BodyCall:
    return BodyCall(target, {name: decode_argument(value, _item) for name, value in arguments.items()}, results)


def _item(given: Json) -> Item | None:
    match given:
        case {"item": int(place)}:
            return Item(place)
        case _:
            return None


def _checked(body: Body, text: str) -> Body:
    """Every value that is read has been made before."""
    count = body.inputs
    for call in body.calls:
        if not isinstance(call.target, str) or not isinstance(call.count, int):
            raise _damaged(text)
        if any(not 0 <= item.place < count for item in _items_in(list(call.arguments.values()))):
            raise _damaged(text)
        count += call.count
    if any(place is not None and not (type(place) is int and 0 <= place < count) for place in body.outputs):
        raise _damaged(text)
    return body


def _damaged(text: str) -> ArtifactError:
    return ArtifactError(f"the plan holds a piece of graph that none is: {text[:60]!r}\n  try: compile the model again")

"""The program: what capture makes, what passes read and rewrite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import TreeSpec

from co3d_compile.ops.flow import Flow
from co3d_compile.ops.operation import Call, Facts, overload
from co3d_compile.ops.table import BUILT_IN, OperationTable
from co3d_compile.structure import Structure


@dataclass(frozen=True)
class ClipInput:
    """One input of the model, as the example clip has it.

    Attributes:
        name: the placeholder's.
        time_axis: the dimension of time, once it is known (``passes/time_axes.py``).
        rate: ticks between two of its frames (a slow pathway takes every rate-th frame).
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    time_axis: int = 0
    rate: int = 1


@dataclass(frozen=True)
class Program:
    """A captured model.

    Attributes:
        graph: placeholders for the inputs, ``get_attr`` for weights under their original names, calls of torch
            operators, one output that lists the output tensors.
        tensors: the graph's weights, buffers and constants by name.
        state: the model's own ``state_dict`` (a view of it), which may hold more than the graph uses.
        trainable: names of the parameters among them.
        inputs: in the order of the placeholders.
        structure: what the output tensors are put back into.
        operations: the rules that it is compiled with.
        passes: names of the user's own passes that have rewritten it.
    """

    graph: fx.Graph
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    trainable: frozenset[str]
    inputs: tuple[ClipInput, ...]
    in_spec: TreeSpec
    structure: Structure
    operations: OperationTable = BUILT_IN
    passes: tuple[str, ...] = ()

    @property
    def calls(self) -> Iterator[fx.Node]:
        """The operator calls, in order."""
        return (node for node in self.graph.nodes if node.op == "call_function" and not is_getitem(node))

    @property
    def dtype(self) -> torch.dtype:
        """Of the first floating weight: the dtype that the model computes in."""
        tensors = (*self.state.values(), *self.tensors.values())
        return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)

    @property
    def output_nodes(self) -> list[fx.Node]:
        """What the model returns, but for what does not follow from the video."""
        return [node for node in self.returned if _follows_from_an_input(node)]

    def macs(self, node: fx.Node) -> int:
        """Multiply-accumulates of one of its elements."""
        rule = self.operations.rule_for(target_name(node))
        return 0 if rule is None else rule.macs(call_of(node), flow_of(node))

    @property
    def returned(self) -> list[fx.Node]:
        """All that the model returns."""
        return list(output_node(self.graph).args[0])  # type: ignore[arg-type]


def output_node(graph: fx.Graph) -> fx.Node:
    last: fx.Node = next(iter(reversed(graph.nodes)))
    return last


def nodes_behind(node: fx.Node) -> Iterator[fx.Node]:
    """A node and all that goes into it, each once."""
    seen, pending = {node}, [node]
    while pending:
        one = pending.pop()
        yield one
        pending += [read for read in one.all_input_nodes if read not in seen]
        seen.update(pending)


def _follows_from_an_input(node: fx.Node) -> bool:
    return any(one.op == "placeholder" for one in nodes_behind(node))


def is_getitem(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"


def item_of(node: fx.Node) -> tuple[fx.Node, int]:
    """The node whose item a ``getitem`` takes, and which."""
    source, place = node.args
    assert isinstance(source, fx.Node)
    assert isinstance(place, int)
    return source, place


def target_name(node: fx.Node) -> str:
    """For instance ``aten.conv3d.default``."""
    return str(node.target)


def path_of(node: fx.Node) -> str:
    """The module path of the user's model that the node comes from; empty at the top level."""
    return str(node.meta.get("path", ""))


def shapes_of(node: fx.Node) -> tuple[tuple[int, ...], ...]:
    """The shapes of the node's outputs for the example clip."""
    value = node.meta["val"]
    outputs = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(tuple(output.shape) for output in outputs)


def dtypes_of(node: fx.Node) -> tuple[torch.dtype, ...]:
    value = node.meta["val"]
    outputs = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(output.dtype for output in outputs)


def bound_arguments(node: fx.Node) -> dict[str, Any]:
    """The node's arguments by the names of the operator's schema, defaults filled in."""
    schema = overload(target_name(node))._schema
    bound = {}
    for place, argument in enumerate(schema.arguments):
        if place < len(node.args):
            bound[argument.name] = node.args[place]
        elif argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value
    return bound


def facts_of(node: fx.Node) -> Facts:
    """The facts of a node with one output tensor (an item of several is its own node)."""
    facts: tuple[Facts, ...] = node.meta["facts"]
    return facts[0]


def flow_of(node: fx.Node) -> Flow:
    flow: Flow = node.meta["flow"]
    return flow


def call_of(node: fx.Node) -> Call:
    """The call with facts in place of the tensors."""
    arguments = {name: with_nodes_replaced(value, facts_of) for name, value in bound_arguments(node).items()}
    used = frozenset(item_of(item)[1] for item in node.users if is_getitem(item) and item.users)
    return Call(target_name(node), arguments, shapes_of(node), used, "goes_on" in node.meta)


def with_nodes_replaced(value: Any, replace: Callable[[fx.Node], Any]) -> Any:
    """The argument with every node in it replaced; lists stay lists."""
    if isinstance(value, fx.Node):
        return replace(value)
    if isinstance(value, (list, tuple)):
        return [with_nodes_replaced(entry, replace) for entry in value]
    return value

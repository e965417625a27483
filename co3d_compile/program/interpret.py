"""Run a program's graph as it stands, at the clip's shape."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from co3d_compile.program.program import Program, is_getitem, with_nodes_replaced

LIMIT = 1 << 24
"""Elements of a constant whose values are looked at, once, while compiling."""


def run_graph(program: Program, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The flat outputs for a clip of the shape that was captured."""
    values = node_values(program, inputs)
    return [values[node] for node in program.returned]


def graph_values(program: Program, inputs: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that the graph computes, by its name in the plan, in order; of several outputs the first."""
    for node, value in node_values(program, inputs).items():
        if node.op != "call_function" or is_getitem(node):
            continue
        if isinstance(value, Tensor):
            yield node.name, value
        elif isinstance(value, (tuple, list)) and value:
            yield f"{node.name}.0", value[0]


def call_node(program: Program, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """What one call gives for values of the nodes that it reads."""

    def value_of(operand: fx.Node) -> Any:
        return program.tensors[str(operand.target)] if operand.op == "get_attr" else values[operand]

    args = with_nodes_replaced(node.args, value_of)
    kwargs = {name: with_nodes_replaced(value, value_of) for name, value in node.kwargs.items()}
    assert callable(node.target)
    return node.target(*args, **kwargs)


def node_values(program: Program, inputs: Sequence[Tensor]) -> dict[fx.Node, Any]:
    """What every input, weight and call of the graph gives, in order."""
    values: dict[fx.Node, Any] = {}
    left = iter(inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(left)
        elif node.op == "get_attr":
            values[node] = program.tensors[str(node.target)]
        elif node.op == "call_function":
            values[node] = call_node(program, node, values)
    return values


def constant_value(
    node: fx.Node, tensors: Mapping[str, Tensor], changing: Collection[str], values: dict[fx.Node, Any]
) -> Any:
    """What a node gives whatever the video; None where that cannot be told, or is large, or made by chance.

    Args:
        changing: names of the tensors whose values may be others in another network of the same form.
        values: what is known by now; grows.
    """
    if node not in values:
        values[node] = _made(node, tensors, changing, values)
    return values[node]


def _made(node: fx.Node, tensors: Mapping[str, Tensor], changing: Collection[str], values: dict[fx.Node, Any]) -> Any:
    if node.op == "get_attr":
        tensor = tensors[str(node.target)]
        return None if str(node.target) in changing or tensor.is_meta else tensor
    value = node.meta["val"]
    if node.op != "call_function" or is_by_chance(node) or (isinstance(value, Tensor) and value.numel() > LIMIT):
        return None
    if any(constant_value(one, tensors, changing, values) is None for one in node.all_input_nodes):
        return None
    args = with_nodes_replaced(node.args, values.__getitem__)
    kwargs = {name: with_nodes_replaced(one, values.__getitem__) for name, one in node.kwargs.items()}
    with torch.no_grad():
        return node.target(*args, **kwargs)  # type: ignore[operator]


def is_by_chance(node: fx.Node) -> bool:
    """The call gives another result each time."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return torch.Tag.nondeterministic_seeded in node.target.tags or str(node.target).startswith("aten.empty")

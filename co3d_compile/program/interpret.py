"""Run a program's graph as it stands, at the clip's shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, fx

from co3d_compile.program.program import Program, is_getitem, with_nodes_replaced


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

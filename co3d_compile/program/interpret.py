"""Run a program's graph as it stands, at the clip's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx

from co3d_compile.program.program import Program, with_nodes_replaced


def run_graph(program: Program, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The flat outputs for a clip of the shape that was captured."""
    values: dict[fx.Node, Any] = {}
    left = iter(inputs)
    for node in program.graph.nodes:
        match node.op:
            case "placeholder":
                values[node] = next(left)
            case "get_attr":
                values[node] = program.tensors[node.target]
            case "call_function":
                args = with_nodes_replaced(node.args, values.__getitem__)
                kwargs = {name: with_nodes_replaced(value, values.__getitem__) for name, value in node.kwargs.items()}
                values[node] = node.target(*args, **kwargs)
            case "output":
                return [values[result] for result in node.args[0]]
    return []

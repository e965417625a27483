"""What goes into kernels and what comes out of them, near the ends and in mid-stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from co3d_compile.plan.plan import PlanNode, ValueRef, WeightRef
from co3d_compile.runtime.runner import Lookup, NodeRunner

Made = Sequence[Sequence[Tensor]]
"""Per output the elements made."""


def operand(value: Any, constants: Lookup, node: PlanNode) -> Any:
    """An argument with its tensors: weights and results of static nodes as they are, a stream as None."""
    if isinstance(value, ValueRef) and value.name not in node.reads:
        return constants(value.name)
    return _constant(value, constants)


def arguments_of(node: PlanNode, constants: Lookup) -> dict[str, Any]:
    """All arguments, by name, streams as None."""
    return {name: operand(value, constants, node) for name, value in node.arguments.items()}


def shared_out(runner: NodeRunner, made: Made, n: int, length: int) -> Made:
    """Averages near the ends are divided by the taps that count there."""
    share = runner.node.reading.share(n, length)
    return made if share == 1.0 else [[element * share for element in elements] for elements in made]


def _constant(value: Any, constants: Lookup) -> Any:
    """A weight or a static result as a tensor, a stream as None, anything else as it is."""
    if isinstance(value, WeightRef):
        return constants(value.name).detach()
    if isinstance(value, ValueRef):
        return None
    return value

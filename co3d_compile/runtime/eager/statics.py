"""What is computed from weights alone, once."""

from __future__ import annotations

import torch
from torch import Tensor

from co3d_compile.ops.table import OperationTable
from co3d_compile.plan.plan import Plan
from co3d_compile.runtime.runner import Lookup, NodeRunner


def static_results(plan: Plan, weights: Lookup, operations: OperationTable) -> Lookup:
    """Weights, and what is computed from weights alone."""
    results: dict[str, Tensor] = {}

    def find(name: str) -> Tensor:
        return results[name] if name in results else weights(name)

    device = weights(plan.weights[0]).device if plan.weights else torch.device("cpu")
    for node in plan.statics:
        with device:
            _run_static(NodeRunner(plan, node, find, operations), results)
    return find


def _run_static(runner: NodeRunner, results: dict[str, Tensor]) -> None:
    results.update(zip(runner.node.outputs, runner.run({}, 1, 1, 1), strict=True))

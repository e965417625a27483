"""What runs when a node fires."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from co3d_compile.plan.plan import Plan
from co3d_compile.runtime.runner import Lookup, NodeRunner
from co3d_compile.runtime.state import Element

Taps = Sequence[Sequence[Element]]


class Kernel(Protocol):
    """One element of a node's outputs from the taps of its operands."""

    outputs: tuple[str, ...]

    def run(self, taps: Taps, batch: int) -> tuple[Tensor, ...]:
        """Every tap exists."""

    def run_at_ends(self, taps: Taps, batch: int, n: int, length: int) -> tuple[Tensor, ...]:
        """Taps beyond the ends are None. ``n``: the output's element; ``length``: elements of the operand."""


class OperatorKernel:
    """The original operator on just what it needs for one element."""

    def __init__(self, runner: NodeRunner, like: Tensor) -> None:
        self.runner = runner
        self.outputs = runner.node.outputs
        self._like = like

    def run(self, taps: Taps, batch: int) -> tuple[Tensor, ...]:
        return self.runner.run_one(taps, batch, self._like)

    def run_at_ends(self, taps: Taps, batch: int, n: int, length: int) -> tuple[Tensor, ...]:
        outputs = self.run(taps, batch)
        share = self.runner.node.taps.share(n, length)
        return outputs if share == 1.0 else tuple(output * share for output in outputs)


def kernels_for(plan: Plan, constants: Lookup) -> dict[int, Kernel]:
    """By index of the node; nodes that another kernel has taken in are missing."""
    like = constants(plan.weights[0]) if plan.weights else torch.zeros(())
    return {place: OperatorKernel(NodeRunner(plan, node, constants), like) for place, node in enumerate(plan.nodes)}

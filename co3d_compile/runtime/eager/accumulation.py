"""Nodes in transposed form: what is kept between ticks are partial sums of the outputs under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from co3d_compile.errors import InternalError
from co3d_compile.ops.operation import Accumulator
from co3d_compile.plan.plan import Plan, PlanNode, Value
from co3d_compile.runtime.eager.folding import norm_line
from co3d_compile.runtime.eager.operands import arguments_of, shared_out
from co3d_compile.runtime.elements import filled_element
from co3d_compile.runtime.runner import Lookup, NodeRunner
from co3d_compile.runtime.state import Element, cast

Line = tuple[Tensor, Tensor]
"""Scale and shift per channel."""


class AccumulatingKernel:
    """A node in transposed form: elements add to the sums of the outputs that read them."""

    def __init__(self, runner: NodeRunner, accumulator: Accumulator, outputs: tuple[str, ...], like: Tensor) -> None:
        self.outputs = outputs
        self.feed = accumulator.feed
        self.finish = accumulator.finish
        self._runner = runner
        self._like = like

    def finish_at_ends(self, total: Element, batch: int, n: int, length: int) -> Tensor:
        """Output n, from whatever taps it has. ``length``: elements of the operand."""
        if total is None:
            runner = self._runner
            padding = filled_element(runner.reads, batch, runner.node.reading.constant, self._like)
            total = self.feed(padding, 0, None)
        # a copy: the sum belongs to the state before this tick
        ((element,),) = shared_out(self._runner, ((self.finish(total.clone()),),), n, length)
        return element


def accumulating_kernel(
    plan: Plan, runner: NodeRunner, norm: PlanNode | None, constants: Lookup, like: Tensor
) -> AccumulatingKernel:
    """The kernel of a node in transposed form, which may norm what comes out."""
    node, rule = runner.node, runner.rule
    assert rule is not None
    accumulator = rule.accumulator(arguments_of(node, constants), runner.reads, node.reading)
    if accumulator is None:
        raise InternalError(f"{node.path}: {node.target} has no transposed form")
    if norm is not None:
        line = _per_channel(norm_line(node, norm, constants), runner)
        accumulator = replace(accumulator, finish=_lined(line))
    restoring = _restoring(accumulator, plan.values[node.reads[0]], plan.values[node.outputs[0]])
    return AccumulatingKernel(runner, restoring, (norm or node).outputs, like)


def _restoring(accumulator: Accumulator, read: Value, made: Value) -> Accumulator:
    """For elements and sums that a state may have rounded: both are seen in their own dtypes."""
    if not (read.is_rounded or made.is_rounded):
        return accumulator

    def feed(element: Tensor, tap: int, total: Element) -> Tensor:
        return accumulator.feed(element.to(read.dtype), tap, cast(total, made.dtype))

    return Accumulator(feed, lambda total: accumulator.finish(total.to(made.dtype)))


def _per_channel(line: Line, runner: NodeRunner) -> Line:
    """As tensors that spread over what follows the channels."""
    scale, shift = (factor.reshape(-1, *[1] * (runner.layouts[0].rank - 2)) for factor in line)
    return scale, shift


def _lined(line: Line) -> Callable[[Tensor], Tensor]:
    """A scale and a shift per channel, in one pass."""
    scale, shift = line
    return lambda total: torch.addcmul(shift, total, scale)

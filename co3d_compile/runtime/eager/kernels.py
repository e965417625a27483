"""What runs when a node fires."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from co3d_compile.ops.flow import ONE, Way
from co3d_compile.ops.operation import Operation, Step, overload
from co3d_compile.ops.table import OperationTable
from co3d_compile.plan.plan import Form, Plan, PlanNode, ValueRef, WeightRef
from co3d_compile.runtime.eager.accumulation import AccumulatingKernel, accumulating_kernel
from co3d_compile.runtime.eager.folding import foldable_norms, folded_weights
from co3d_compile.runtime.eager.operands import Made, arguments_of, operand, shared_out
from co3d_compile.runtime.eager.reuse import in_place, reusable_operands
from co3d_compile.runtime.elements import filled_element
from co3d_compile.runtime.runner import Lookup, NodeRunner
from co3d_compile.runtime.state import Element

Taps = Sequence[Sequence[Element]]
"""Per operand the elements read, oldest first."""


class Kernel(Protocol):
    """Elements of a node's outputs from the taps of its operands."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The values that it makes."""

    def run(self, taps: Taps, batch: int, n: int, count: int) -> Made:
        """Every tap exists. ``n``: the first output made; ``count``: how many."""

    def run_at_ends(self, taps: Taps, batch: int, n: int, length: int) -> Made:
        """One element; taps beyond the ends are None. ``length``: elements of the first operand."""


class OperatorKernel:
    """The original operator on just what it needs for one element."""

    def __init__(self, runner: NodeRunner, like: Tensor) -> None:
        self.outputs = runner.node.outputs
        self._runner = runner
        self._like = like

    def run(self, taps: Taps, batch: int, n: int, count: int) -> Made:
        return self._runner.run_taps(taps, batch, self._like, n, count)

    def run_at_ends(self, taps: Taps, batch: int, n: int, length: int) -> Made:
        return shared_out(self._runner, self.run(taps, batch, n, 1), n, length)


class StepKernel:
    """The operation's own way to make one element from taps."""

    def __init__(self, runner: NodeRunner, step: Step, outputs: tuple[str, ...], like: Tensor) -> None:
        self.outputs = outputs
        self._runner = runner
        self._step = step
        self._like = like

    def run(self, taps: Taps, batch: int, n: int, count: int) -> Made:
        return ((self._step(taps[0]),),)

    def run_at_ends(self, taps: Taps, batch: int, n: int, length: int) -> Made:
        elements = list(taps[0])
        if all(element is None for element in elements):
            elements[0] = filled_element(self._runner.reads, batch, self._runner.node.reading.constant, self._like)
        return shared_out(self._runner, ((self._step(elements),),), n, length)


class CallKernel:
    """An operator called as it stands on single elements; perhaps over an operand that is read for the last time."""

    def __init__(self, node: PlanNode, constants: Lookup, reused: str | None) -> None:
        self.outputs = node.outputs
        target = overload(node.target) if reused is None else in_place(node.target)
        assert target is not None
        self._call: Callable[..., Any] = target
        given = {name: value for name, value in node.arguments.items() if name in _names(target)}
        keywords = _keyword_names(target)
        order = sorted((name for name in given if name not in keywords), key=lambda name: name != reused)
        self._keywords = {name: given[name] for name in given if name in keywords}
        self._template = [operand(given[name], constants, node) for name in order]
        self._slots = [
            (place, node.reads.index(given[name].name))
            for place, name in enumerate(order)
            if isinstance(given[name], ValueRef) and given[name].name in node.reads
        ]

    def run(self, taps: Taps, batch: int, n: int, count: int) -> Made:
        arguments = list(self._template)
        for place, read in self._slots:
            tap = taps[read][0]
            arguments[place] = tap
        result = self._call(*arguments, **self._keywords)
        return [(one,) for one in result] if isinstance(result, (tuple, list)) else ((result,),)

    def run_at_ends(self, taps: Taps, batch: int, n: int, length: int) -> Made:
        return self.run(taps, batch, n, 1)


def kernels_for(plan: Plan, constants: Lookup, operations: OperationTable) -> dict[int, Kernel | AccumulatingKernel]:
    """By index of the node; batch norms that a convolution has taken in are missing."""
    like = constants(plan.weights[0]) if plan.weights else torch.zeros(())
    folds, reused = foldable_norms(plan), reusable_operands(plan)
    kernels: dict[int, Kernel | AccumulatingKernel] = {}
    taken: set[int] = set()
    for place, node in enumerate(plan.nodes):
        if place in taken:
            continue
        runner = NodeRunner(plan, node, constants, operations)
        norm = plan.nodes[folds[place]] if place in folds else None
        if node.form is Form.TRANSPOSED:
            kernels[place] = accumulating_kernel(plan, runner, norm, constants, like)
            taken.update([] if norm is None else [folds[place]])
            continue
        stepping = _step_kernel(runner, norm, constants, like)
        if stepping is not None and norm is not None:
            taken.add(folds[place])
        kernels[place] = stepping or _call_kernel(runner, constants, reused.get(place), like)
    return kernels


def _step_kernel(runner: NodeRunner, norm: PlanNode | None, constants: Lookup, like: Tensor) -> Kernel | None:
    node, rule = runner.node, runner.rule
    if not runner.takes_operands_as_they_are:
        return None
    arguments = arguments_of(node, constants)
    if norm is not None:
        arguments |= folded_weights(node, norm, constants)
    step = None if rule is None else rule.stepper(arguments, runner.reads, node.reading)
    return None if step is None else StepKernel(runner, step, (norm or node).outputs, like)


def _call_kernel(runner: NodeRunner, constants: Lookup, reused: str | None, like: Tensor) -> Kernel:
    rule = runner.rule
    assert rule is not None
    unchanged = type(rule).adapted is Operation.adapted and type(rule).run is Operation.run
    listed = any(isinstance(value, list) and any(map(_is_reference, value)) for value in runner.node.arguments.values())
    node = runner.node
    single = node.way in (Way.ALONE, Way.GATE) and all(taps == ONE for taps in node.taps)
    if single and unchanged and not listed and runner.takes_operands_as_they_are:
        return CallKernel(runner.node, constants, reused)
    return OperatorKernel(runner, like)


def _is_reference(value: Any) -> bool:
    return isinstance(value, (ValueRef, WeightRef))


def _names(target: torch._ops.OpOverload) -> set[str]:
    return {argument.name for argument in target._schema.arguments}


def _keyword_names(target: torch._ops.OpOverload) -> set[str]:
    return {argument.name for argument in target._schema.arguments if argument.kwarg_only}

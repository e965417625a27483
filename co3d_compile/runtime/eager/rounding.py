"""State in a narrower dtype: rounded when a tick ends, and read in each tensor's own dtype again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from co3d_compile.plan.plan import Plan, PlanNode, Value
from co3d_compile.runtime.eager.accumulation import AccumulatingKernel
from co3d_compile.runtime.eager.kernels import Kernel, Taps
from co3d_compile.runtime.eager.operands import Made
from co3d_compile.runtime.state import Element, cast


def roundings(plan: Plan) -> dict[str, Callable[[Element], Element]]:
    """By name in a state, what becomes of an element or partial sum at the end of a tick."""
    return {name: partial(cast, dtype=value.held_dtype) for name, value in plan.rounded_state.items()}


def restoring(plan: Plan, kernels: Mapping[int, Kernel | AccumulatingKernel]) -> dict[int, Kernel | AccumulatingKernel]:
    """The kernels by index of the node; those that read what may be rounded restore it first."""
    return {place: _restoring(plan, plan.nodes[place], kernel) for place, kernel in kernels.items()}


def _restoring(plan: Plan, node: PlanNode, kernel: Kernel | AccumulatingKernel) -> Kernel | AccumulatingKernel:
    reads = [plan.values[name] for name in node.reads]
    if isinstance(kernel, AccumulatingKernel) or not any(value.is_rounded and value.keep for value in reads):
        return kernel
    return RestoringKernel(kernel, reads)


class RestoringKernel:
    """A kernel that sees what it reads in its own dtype."""

    def __init__(self, kernel: Kernel, reads: Sequence[Value]) -> None:
        self.outputs = kernel.outputs
        self._kernel = kernel
        self._dtypes = [value.dtype for value in reads]

    def run(self, taps: Taps, batch: int, n: int, count: int) -> Made:
        return self._kernel.run(self._restored(taps), batch, n, count)

    def run_at_ends(self, taps: Taps, batch: int, n: int, length: int) -> Made:
        return self._kernel.run_at_ends(self._restored(taps), batch, n, length)

    def _restored(self, taps: Taps) -> Taps:
        return [[cast(element, dtype) for element in read] for read, dtype in zip(taps, self._dtypes, strict=True)]

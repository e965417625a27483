"""Floating-point operations as the paper counts them: those of the tool behind its tables, slips included."""

from __future__ import annotations

from enum import Enum
from math import prod

from co3d_compile.ops.flow import Way
from co3d_compile.plan.plan import Plan, PlanNode


class Kind(Enum):
    """Operations that are counted alike."""

    PRODUCT = "convolution or linear layer"
    NORM = "batch norm"
    RELU = "ReLU"
    POOL = "pool"
    FREE = "not counted"


RELUS = ("relu", "relu6", "hardtanh", "leaky_relu", "prelu", "elu")
REDUCTIONS = ("mean", "sum", "amax", "amin")


def kind_of(node: PlanNode) -> Kind:
    """By the operation's name."""
    name = node.target.split(".")[1]
    if name.startswith("conv") or name == "linear":
        return Kind.PRODUCT
    if name in RELUS:
        return Kind.RELU
    if ("pool" in name and "unpool" not in name) or name in REDUCTIONS:
        return Kind.POOL
    return Kind.NORM if name == "batch_norm" else Kind.FREE


def clip_flops(plan: Plan) -> int:
    """Of the original, for the example clip and one stream."""
    counts = _Counts(plan)
    return sum(node.clip_macs + counts.beside_products(node) for node in plan.nodes)


def step_flops(plan: Plan) -> tuple[int, ...]:
    """Of each tick of a period, if every element is made once the last frame that it depends on is there."""
    counts = _Counts(plan)
    flops = [0] * plan.period
    for node in plan.nodes:
        ready = plan.timing(node.outputs[0]).hi.unbounded
        for element in range(plan.rate(node.outputs[0])):
            flops[ready(element) % plan.period] += counts.step(node)
    return tuple(flops)


class _Counts:
    """Counts of the nodes of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._makers = {name: node for node in plan.nodes for name in node.outputs}
        self._once = _once_per_clip(plan)
        linear = [node for node in plan.nodes if node.target == "aten.linear.default"]
        self._last_linear = linear[-1] if linear else None

    def beside_products(self, node: PlanNode) -> int:
        """For the clip: what is no multiply-accumulate."""
        match kind_of(node):
            case Kind.PRODUCT:
                return self._in_clip(node.outputs[0]) if _has_bias(node) else 0
            case Kind.NORM:
                return 2 * self._in_clip(node.outputs[0])
            case Kind.RELU:
                return self._in_clip(node.outputs[0])
            case Kind.POOL:
                return 0 if self._ends_pool(node) else self._in_clip(node.reads[0])
            case Kind.FREE:
                return 0

    def step(self, node: PlanNode) -> int:
        """For one element of the stream."""
        made = self._size(node.outputs[0])
        match kind_of(node):
            case Kind.PRODUCT if node is self._last_linear:
                return node.macs // made + _has_bias(node)
            case Kind.PRODUCT:
                return node.macs + made * _has_bias(node)
            case Kind.NORM:
                return 2 * 2 * made
            case Kind.RELU:
                return 2 * made
            case Kind.POOL:
                newest = 0 if self._ends_pool(node) else self._size(node.reads[0])
                return newest + self._pooled_beyond_clip(node)
            case Kind.FREE:
                return node.macs

    def _pooled_beyond_clip(self, node: PlanNode) -> int:
        """One addition per number of the elements that a longer window takes in."""
        source = node.reads[0]
        clip = self._plan.values[source].layout.time
        return self._size(source) * (node.reading.count - clip) if node.resizable else 0

    def _ends_pool(self, node: PlanNode) -> bool:
        """It pools over time what a node of the same module pooled over space: in the original they are one pool."""
        before = self._makers.get(node.reads[0])
        if before is None or (before.target, before.path) != (node.target, node.path):
            return False
        return before.reading.count == 1 and self._size(node.outputs[0]) == self._size(node.reads[0])

    def _in_clip(self, value: str) -> int:
        """Numbers of a value in the original, for the clip and one stream."""
        layout = self._plan.values[value].layout.solid()
        return prod(layout.running_shape(1 if value in self._once else layout.time, 1))

    def _size(self, value: str) -> int:
        """Numbers of one element."""
        return prod(self._plan.values[value].layout.solid().running_shape(1, 1))


def _once_per_clip(plan: Plan) -> frozenset[str]:
    """What the original makes once from the whole clip, and the stream for every element: the insides of gates."""
    once: set[str] = set()
    for node in plan.nodes:
        if node.way is Way.GATE or (node.reads and once.issuperset(node.reads)):
            once.update(node.outputs)
    return frozenset(once)


def _has_bias(node: PlanNode) -> bool:
    return node.arguments.get("bias") is not None

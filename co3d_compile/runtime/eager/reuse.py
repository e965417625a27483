"""Which operations may write their result over an operand that no one reads any more."""

from __future__ import annotations

from collections import defaultdict

import torch

from co3d_compile.ops.operation import overload
from co3d_compile.plan.plan import Plan, PlanNode, ValueRef

COMMUTING = ("aten.add.Tensor", "aten.mul.Tensor")
MAKING_NEW = ("aten.conv", "aten.batch_norm", "aten.max_pool", "aten.avg_pool", "aten.linear", "aten.cat")


def reusable_operands(plan: Plan) -> dict[int, str]:
    """Index of a node to the name of the argument that its result may take the place of.

    The operand must be made and read for the last time at one tick, by operations that make new tensors.
    """
    free = _short_lived(plan)
    found: dict[int, str] = {}
    for place, node in enumerate(plan.nodes):
        for argument in ("other", "self") if node.target in COMMUTING else ("self",):
            operand = node.arguments.get(argument)
            if isinstance(operand, ValueRef) and free.get(operand.name) == place and _fits(plan, node, operand):
                found[place] = argument
    return found


def _short_lived(plan: Plan) -> dict[str, int]:
    """Values that only their own tick needs, and no view looks at, to the index of their last reader."""
    readers: dict[str, list[int]] = defaultdict(list)
    for place, node in enumerate(plan.nodes):
        for name in node.reads:
            readers[name].append(place)
    outputs = {output.value for output in plan.outputs}
    return {
        name: readers[name][-1]
        for node in plan.nodes
        for name in node.outputs
        if readers[name]
        and name not in outputs
        and plan.values[name].keep == 0
        and all(makes_new(one) for one in (node, *(plan.nodes[place] for place in readers[name])))
    }


def in_place(target: str) -> torch._ops.OpOverload | None:
    """The operator that writes over its first argument, such as ``aten.relu_.default``."""
    namespace, name, variant = target.split(".")
    packet = getattr(getattr(torch.ops, namespace), f"{name}_", None)
    found = getattr(packet, variant, None)
    return found if isinstance(found, torch._ops.OpOverload) else None


def _fits(plan: Plan, node: PlanNode, operand: ValueRef) -> bool:
    made, given = plan.values[node.outputs[0]], plan.values[operand.name]
    return (
        in_place(node.target) is not None
        and node.arguments.get("alpha", 1) == 1
        and (made.layout, made.dtype, made.timing) == (given.layout, given.dtype, given.timing)
        and list(node.arguments.values()).count(operand) == 1
    )


def makes_new(node: PlanNode) -> bool:
    """The operation's results are no views of its operands."""
    if node.reading.produces is not None:
        return False  # one of several elements that are made in one tensor
    return node.target.startswith(MAKING_NEW) or torch.Tag.pointwise in overload(node.target).tags

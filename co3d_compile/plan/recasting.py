"""The same plan in another floating dtype, for a network that is moved to it, and with its state in full."""

from __future__ import annotations

from dataclasses import replace

import torch

from co3d_compile.ops.bodies import Body
from co3d_compile.plan.operators import bodies_in
from co3d_compile.plan.plan import Numbers, Plan, PlanNode


def recast(plan: Plan, old: torch.dtype, new: torch.dtype) -> Plan:
    """Every tensor of the old dtype in the new one; casts that the model itself makes stay."""
    if old == new:
        return plan
    leeway = plan.state.leeway
    values = {
        name: replace(value, dtype=new if value.dtype == old else value.dtype) for name, value in plan.values.items()
    }
    return replace(
        plan,
        values=values,
        inputs=tuple(replace(one, dtype=new if one.dtype == old else one.dtype) for one in plan.inputs),
        statics=tuple(_recast_factory(node, old, new) for node in plan.statics),
        nodes=tuple(_recast_bodies(node, old, new) for node in plan.nodes),
        state=replace(
            plan.state,
            earliest=_recast_numbers(plan.state.earliest, old, new),
            smallest=_recast_numbers(plan.state.smallest, old, new),
            leeway=leeway and replace(leeway, held=_recast_numbers(leeway.held, old, new)),
        ),
    )


def with_full_state(plan: Plan) -> Plan:
    """The same plan with everything held between ticks as it was made."""
    return replace(
        plan,
        values={name: replace(value, state_dtype=None) for name, value in plan.values.items()},
        state=replace(
            plan.state,
            earliest=tuple(replace(one, state_dtype=None) for one in plan.state.earliest),
            smallest=tuple(replace(one, state_dtype=None) for one in plan.state.smallest),
        ),
    )


def _recast_numbers(held: tuple[Numbers, ...], old: torch.dtype, new: torch.dtype) -> tuple[Numbers, ...]:
    return tuple(replace(one, dtype=new) if one.dtype == old else one for one in held)


def _recast_bodies(node: PlanNode, old: torch.dtype, new: torch.dtype) -> PlanNode:
    """The same for what is made from nothing in a piece of graph that the node runs."""
    texts = bodies_in(node.target, node.arguments)
    recast_texts = {text: Body.from_text(text).recast(old, new).to_text() for text in texts}
    changed = {name: recast_texts[value] for name, value in node.arguments.items() if value in texts}
    return replace(node, arguments={**node.arguments, **changed}) if changed else node


def _recast_factory(node: PlanNode, old: torch.dtype, new: torch.dtype) -> PlanNode:
    """A constant made from nothing takes the dtype of the network."""
    if node.arguments.get("dtype") != old or any(name in node.arguments for name in ("self", "input")):
        return node
    return replace(node, arguments={**node.arguments, "dtype": new})

"""State in a narrower dtype: which values are rounded between ticks, and what depends on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from co3d_compile.errors import InputError
from co3d_compile.ops.arguments import dtype_name
from co3d_compile.passes.state.histories import kept_for, lasting_reads_of
from co3d_compile.plan.plan import Approximation, Plan, PlanNode, Value

STATE_DTYPES: Mapping[str, torch.dtype] = {
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
}


def read_state_dtype(given: object) -> torch.dtype | None:
    """A state's dtype as a user names it; None: every tensor's own.

    Raises:
        InputError: state cannot be held in it.
    """
    if given is None or (isinstance(given, torch.dtype) and given in STATE_DTYPES.values()):
        return given
    if isinstance(given, str) and given in STATE_DTYPES:
        return STATE_DTYPES[given]
    raise InputError(
        f"state_dtype is {given!r}, and state is rounded to floating numbers of two bytes or not at all\n"
        f"  try: one of {', '.join(STATE_DTYPES)}, or the torch.dtype"
    )


def with_state_dtype(
    values: Mapping[str, Value], nodes: Sequence[PlanNode], own: torch.dtype, state_dtype: torch.dtype | None
) -> dict[str, Value]:
    """The values of the network's own dtype, set to be held in another one.

    What is carried on stays as it is: its rounding would go into the next element, and so on without end.
    """
    carried = {name for node in nodes for name in node.carried}
    return {
        name: replace(value, state_dtype=state_dtype) if value.dtype == own and name not in carried else value
        for name, value in values.items()
    }


def approximations_of(plan: Plan) -> tuple[tuple[Approximation, ...], ...]:
    """Per output why it is not exact: what the plan lists, and the rounded state that it depends on."""
    behind = _rounded_behind(plan)
    return tuple((*output.approximations, *behind[output.value]) for output in plan.outputs)


def _rounded_behind(plan: Plan) -> dict[str, dict[Approximation, None]]:
    """Per value what was rounded on the way to it, in order."""
    behind: dict[str, dict[Approximation, None]] = {name: {} for name in plan.values}
    for node in plan.nodes:
        found = {reason: None for name in node.reads for reason in behind[name]}
        found |= dict.fromkeys(rounded_for(plan, node))
        behind |= dict.fromkeys(node.outputs, found)
    return behind


def rounded_for(plan: Plan, node: PlanNode) -> Iterator[Approximation]:
    """What the node itself reads of a rounded state."""
    made = plan.values[node.outputs[0]]
    for name, taps in lasting_reads_of(node, plan.makers):
        kept = kept_for(plan.timing(name), taps, plan.timing(made.name), plan.period, node.form)
        if kept and plan.values[name].keep and plan.values[name].is_rounded:
            yield _approximation(plan.values[name], "histories")
    if made.sums and made.is_rounded:
        yield _approximation(made, "partial sums")


def _approximation(value: Value, what: str) -> Approximation:
    return Approximation(value.path or value.name, f"{what} are held in {dtype_name(value.held_dtype)}")

"""The original with its adaptive pools as the stream makes them: elements of the clip's size, as many as there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from co3d_compile.ops.flow import Way
from co3d_compile.ops.pooling import pool_rank
from co3d_compile.ops.spatial import time_axis
from co3d_compile.plan.plan import Plan, PlanNode
from co3d_compile.verification.recording import Replacement


def adaptive_pools(plan: Plan, calls: Mapping[str, int]) -> dict[int, Replacement]:
    """By number of the call: adaptive pools to several elements, which on a longer video would be larger ones."""
    return {
        calls[node.name]: _pool_of_fixed_size(plan, node)
        for node in plan.nodes
        if node.way is Way.WINDOW and "output_size" in node.arguments and "pool" in node.target and node.name in calls
    }


def _pool_of_fixed_size(plan: Plan, node: PlanNode) -> Replacement:
    layout = plan.values[node.reads[0]].layout
    axis = time_axis(layout, pool_rank(node.target))
    assert axis is not None
    assert layout.time_dim is not None
    dim, width = layout.time_dim, node.reading.count

    def replace(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        sizes = list(args[1])
        sizes[axis] = args[0].shape[dim] // width
        return func(args[0].narrow(dim, 0, sizes[axis] * width), sizes, *args[2:], **kwargs)

    return replace

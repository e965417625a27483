"""What the original's own statistic of a clip is for everything since the start of a video."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log
from typing import Any

import torch
from torch import Tensor, fx

from co3d_compile.layout import Layout
from co3d_compile.ops.running import TARGETS
from co3d_compile.passes.whole_clips.cumulative import values_per_result, variance_factor
from co3d_compile.plan.plan import Plan
from co3d_compile.runtime.elements import joined_elements, part_of_block

Original = Callable[[Tensor], Any]


def statistics_so_far(plan: Plan) -> dict[str, str]:
    """By value of a gate: the statistic by which it is carried on."""
    return {node.reads[0]: TARGETS[node.target] for node in plan.nodes if node.target in TARGETS}


def gate_so_far(
    node: fx.Node, statistic: str, original: Original, source: Tensor, layout: Layout, batch: int, n: int
) -> Any:
    """The gate of element n, for a clip of the example's length that is made of elements 0 to n in equal parts.

    Args:
        statistic: by which it is carried on.
        original: runs the model's own call.
    """
    if statistic in ("var", "std"):
        seen = part_of_block(source, layout, batch, 0, n + 1)
        return _spread(node, statistic, original, joined_elements([seen, seen], layout, batch))
    elements = [part_of_block(source, layout, batch, place, 1) for place in range(n + 1)]
    # a pool has the length of its clip as a literal
    made = [original(joined_elements([element] * layout.time, layout, batch)) for element in elements]
    if isinstance(made[0], Tensor):
        return _JOINED[statistic](torch.stack(made))
    return (_JOINED[statistic](torch.stack([one[0] for one in made])),)


_JOINED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda made: made.mean(0),
    "amax": lambda made: made.amax(0),
    "amin": lambda made: made.amin(0),
    "logmeanexp": lambda made: made.logsumexp(0) - log(made.shape[0]),
}


def _spread(node: fx.Node, statistic: str, original: Original, twice: Tensor) -> Tensor:
    """From all elements taken twice, so that there is a variance from the first element on."""
    made: Tensor = original(twice)
    power = 2 if statistic == "std" else 1
    count = twice.numel() / made.numel()
    factor = variance_factor(node, values_per_result(node)) / variance_factor(node, count)
    return (made.pow(power) * factor).pow(1 / power)

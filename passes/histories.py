"""How far back each tensor is read: one history per tensor, as deep as its neediest reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from co3d_compile.clock.timing import Timing
from co3d_compile.plan.plan import PlanNode, Value, timing_of


def place_histories(values: Mapping[str, Value], nodes: Sequence[PlanNode], period: int) -> dict[str, Value]:
    """Set ``keep`` of every value.

    Law: whatever any reader reads after a tick is among the last ``keep`` elements at the end of it, and ``keep`` is
    the least such number. A residual that waits is nothing but a reader further back.
    """
    keeps = dict.fromkeys(values, 0)
    for node in nodes:
        reader = timing_of(values[node.outputs[0]])
        for name in node.reads:
            keeps[name] = max(keeps[name], kept_for(timing_of(values[name]), node, reader, period))
    return {name: replace(value, keep=keeps[name]) for name, value in values.items()}


def kept_for(source: Timing, node: PlanNode, reader: Timing, period: int) -> int:
    """The most elements, over a period, from the first that is still to be read to the newest."""
    first = node.taps.index.first
    return max(source.clock.count_through(tick) - first(reader.clock.count_through(tick)) for tick in range(period))

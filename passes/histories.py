"""How far back each tensor is read: one history per tensor, as deep as its neediest reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from co3d_compile.clock.timing import Timing
from co3d_compile.ops.flow import Taps
from co3d_compile.plan.plan import PlanNode, Value, timing_of


def place_histories(values: Mapping[str, Value], nodes: Sequence[PlanNode], period: int) -> dict[str, Value]:
    """Set ``keep`` of every value.

    Law: whatever any reader reads after a tick is among the last ``keep`` elements at the end of it, and ``keep`` is
    the least such number. A residual that waits is nothing but a reader further back.
    """
    keeps = dict.fromkeys(values, 0)
    for node in nodes:
        reader = timing_of(values[node.outputs[0]])
        for name, taps in zip(node.reads, node.taps, strict=True):
            keeps[name] = max(keeps[name], kept_for(timing_of(values[name]), taps, reader, period))
    return {name: replace(value, keep=keeps[name]) for name, value in values.items()}


def kept_for(source: Timing, taps: Taps, reader: Timing, period: int) -> int:
    """The most elements, over a period, from the first that is still to be read to the newest."""
    made, read = source.clock.unbounded, reader.clock.unbounded
    depth = max(made.count_through(tick) - taps.first(read.count_through(tick)) for tick in range(period))
    return max(depth, _kept_for_burst(source, taps, reader), taps.awaits or 0) + taps.reach


def _kept_for_burst(source: Timing, taps: Taps, reader: Timing) -> int:
    """The elements that wait for the tick at which the reader's first ones come all at once."""
    if reader.clock.least is None:
        return 0
    return source.clock.count_through(reader.clock.least - 1) - max(0, taps.first(0))

"""What each tensor keeps: one history, as deep as its neediest reader, and the partial sums of its node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

import torch

from co3d_compile.clock.timing import Timing
from co3d_compile.ops.flow import ONE, Taps
from co3d_compile.plan.plan import Form, Numbers, PlanNode, Value, feeding_clock, timing_of


def place_histories(values: Mapping[str, Value], nodes: Sequence[PlanNode], period: int) -> dict[str, Value]:
    """Set ``keep``, ``sums`` and ``again`` of every value.

    Law: whatever any reader reads after a tick is among the last ``keep`` elements at the end of it, or is made again
    from what is; and ``keep`` is the least such number. A residual that waits is nothing but a reader further back.
    """
    depths = dict.fromkeys(values, 0)
    for name, taps, node in lasting_reads(nodes):
        made = timing_of(values[node.outputs[0]])
        depths[name] = max(depths[name], kept_for(timing_of(values[name]), taps, made, period, node.form))
    sums = {node.outputs[0]: node.reading.under_way for node in nodes if node.form is Form.TRANSPOSED}
    again = {name for node in nodes if node.recomputes for name in node.outputs}
    return {
        name: replace(
            value,
            keep=0 if name in again else depths[name],
            sums=sums.get(name, 0),
            again=depths[name] if name in again else 0,
        )
        for name, value in values.items()
    }


def lasting_reads(nodes: Sequence[PlanNode]) -> Iterator[tuple[str, Taps, PlanNode]]:
    """What decides how much of a value is kept: its readers, and those of all that is made again from it."""
    makers = {name: node for node in nodes for name in node.outputs}
    return ((name, taps, node) for node in nodes for name, taps in lasting_reads_of(node, makers))


def lasting_reads_of(node: PlanNode, makers: Mapping[str, PlanNode]) -> Iterator[tuple[str, Taps]]:
    """What a node reads, and what that is made again from."""
    for read, taps in zip(node.reads, node.taps, strict=True) if not node.recomputes else ():
        name = read
        yield name, taps
        while name in makers and makers[name].recomputes:
            (name,) = makers[name].reads
            yield name, taps


def held_numbers(values: Mapping[str, Value]) -> tuple[Numbers, ...]:
    """What one stream holds between ticks, by dtype."""
    counts: dict[tuple[torch.dtype, torch.dtype | None], int] = {}
    for value in values.values():
        if value.keep + value.sums:
            count = (value.keep + value.sums) * prod(value.layout.running_shape(1, 1))
            dtypes = value.dtype, value.state_dtype
            counts[dtypes] = counts.get(dtypes, 0) + count
    return tuple(Numbers(dtype, count, state_dtype) for (dtype, state_dtype), count in counts.items())


def element_bytes(value: Value) -> int:
    """Of one element of one stream, as it is held between ticks."""
    return prod(value.layout.running_shape(1, 1)) * value.held_dtype.itemsize


def kept_for(source: Timing, taps: Taps, reader: Timing, period: int, form: Form = Form.DIRECT) -> int:
    """The most elements, over a period, from the first that is still to be read to the newest."""
    if form is Form.TRANSPOSED:
        taking = replace(reader, clock=feeding_clock(source, taps, reader))
        return kept_for(source, ONE, taking, period)
    made, read = source.clock.unbounded, reader.clock.unbounded
    depth = max(made.count_through(tick) - taps.first(read.count_through(tick)) for tick in range(period))
    return max(depth, _kept_for_burst(source, taps, reader), taps.awaits or 0) + taps.reach


def _kept_for_burst(source: Timing, taps: Taps, reader: Timing) -> int:
    """The elements that wait for the tick at which the reader's first ones come all at once."""
    if reader.clock.least is None:
        return 0
    return source.clock.count_through(reader.clock.least - 1) - max(0, taps.first(0))

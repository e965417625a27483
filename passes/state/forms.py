"""Direct or transposed: which nodes have the choice, and what each form moves."""

from __future__ import annotations

from collections.abc import Mapping

from co3d_compile.clock.periodic import Periodic
from co3d_compile.ops.flow import Taps
from co3d_compile.passes.state.histories import element_bytes
from co3d_compile.plan.plan import PlanNode, Value, timing_of


def has_transposed_form(node: PlanNode, values: Mapping[str, Value]) -> bool:
    """A window whose taps add up, on a clock without bursts: each of its elements can be taken as it comes."""
    if len(node.reads) != 1 or node.resizable or not _is_plain(node.reading):
        return False
    source, made = values[node.reads[0]], values[node.outputs[0]]
    whole = source.layout == source.layout.solid() and source.has_time
    return whole and _is_steady(timing_of(source).clock) and _is_steady(timing_of(made).clock)


def prefers_speed(node: PlanNode, values: Mapping[str, Value]) -> bool:
    """The transposed form pays in time where sums, read and written, are smaller than what is read again."""
    return element_bytes(values[node.reads[0]]) > 2 * element_bytes(values[node.outputs[0]])


def bytes_moved_more(node: PlanNode, values: Mapping[str, Value]) -> int:
    """What the transposed form reads and writes for one output, beyond what the direct form does."""
    read, made = element_bytes(values[node.reads[0]]), element_bytes(values[node.outputs[0]])
    taps = node.reading
    return (taps.stride * read + 2 * taps.count * made) - (taps.count * read + made)


def _is_plain(taps: Taps) -> bool:
    return taps.under_way > 0 and taps.is_affine and isinstance(taps.fill, float) and taps.awaits is None


def _is_steady(clock: Periodic) -> bool:
    return clock.is_affine and clock.least is None

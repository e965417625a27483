"""Elements made again where they are read, in place of being kept, where what they are made from is smaller.

A history behind an expanding 1x1x1 convolution costs more than one before it. Without the history each reader has the
convolution run again on every old element that it reads: bytes are traded for multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from co3d_compile.ops.flow import ONE, Taps, Way
from co3d_compile.passes.state.histories import element_bytes
from co3d_compile.plan.plan import PlanNode, Value, timing_of


def recomputable(values: Mapping[str, Value], nodes: Sequence[PlanNode], outputs: Collection[str]) -> dict[str, str]:
    """By name, values that may be made again, each with the one that it is made from.

    All are made element by element, on clocks without bursts, and something smaller lies before each.
    """
    unfit = set(outputs) | {name for node in nodes for name in _read_unfit(node)}
    chains: dict[str, str] = {}
    smallest: dict[str, int] = {}
    for node in nodes:
        if not _is_alone(node) or node.outputs[0] in unfit:
            continue
        (source,), (made,) = node.reads, node.outputs
        if _is_steady(values[source]) and _is_steady(values[made]):
            chains[made] = source
            smallest[made] = min(element_bytes(values[source]), smallest.get(source, element_bytes(values[source])))
    return {made: source for made, source in chains.items() if smallest[made] < element_bytes(values[made])}


def _is_alone(node: PlanNode) -> bool:
    single = len(node.reads) == 1 == len(node.outputs) and node.taps[0] == ONE
    return node.way is Way.ALONE and single and not node.resizable


def _is_steady(value: Value) -> bool:
    clock = timing_of(value).clock
    return clock.is_affine and clock.least is None


def _read_unfit(node: PlanNode) -> tuple[str, ...]:
    """Values that this node reads in a way for which nothing is made again."""
    unfit = (name for name, taps in zip(node.reads, node.taps, strict=True) if not _is_plain(taps) or node.resizable)
    return (*unfit, *node.carried)


def _is_plain(taps: Taps) -> bool:
    return taps.is_affine and taps.awaits is None and taps.reach == 0 and not taps.partial

"""The static schedule: per phase, which nodes fire, for which element, and where their operands stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm

from co3d_compile.plan.plan import Firing, PlanNode, Value, timing_of


def common_period(values: Mapping[str, Value]) -> int:
    """Ticks after which every clock repeats."""
    return lcm(*(value.timing.clock.step for value in values.values() if value.timing is not None))


def schedule_firings(
    values: Mapping[str, Value], nodes: Sequence[PlanNode], period: int
) -> tuple[tuple[Firing, ...], ...]:
    """What fires at each phase, in the order of the nodes.

    Law: every element fires once, at its clock's tick, after all that it reads.
    """
    return tuple(
        tuple(firing for place, node in enumerate(nodes) for firing in _firings(values, place, node, phase))
        for phase in range(period)
    )


def _firings(values: Mapping[str, Value], place: int, node: PlanNode, tick: int) -> list[Firing]:
    clock = timing_of(values[node.outputs[0]]).clock
    due = range(clock.count_through(tick - 1), clock.count_through(tick))
    return [
        Firing(place, element, tuple(_backs(values[name], node, element, tick) for name in node.reads))
        for element in due
    ]


def _backs(source: Value, node: PlanNode, element: int, tick: int) -> tuple[int, ...]:
    """How far behind the newest element each tap stands, oldest tap first."""
    newest = timing_of(source).clock.count_through(tick) - 1
    first = node.taps.index.first(element)
    return tuple(newest - first - tap * node.taps.dilation for tap in range(node.taps.count))

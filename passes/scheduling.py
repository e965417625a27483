"""The static schedule: per phase, which nodes fire, for which element, and where their operands stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm

from co3d_compile.plan.plan import Feeding, Firing, Form, PlanNode, Value, feeding_clock, feeding_of, timing_of


def common_period(values: Mapping[str, Value]) -> int:
    """Ticks after which every clock repeats."""
    return lcm(*(value.timing.clock.step for value in values.values() if value.timing is not None))


def schedule_firings(
    values: Mapping[str, Value], nodes: Sequence[PlanNode], period: int
) -> tuple[tuple[Firing | Feeding, ...], ...]:
    """What runs at each phase, in the order of the nodes.

    Law: every element fires once, at its clock's tick, after all that it reads.
    """
    return tuple(
        tuple(firing for place, node in enumerate(nodes) for firing in runs_at(values, place, node, phase))
        for phase in range(period)
    )


def runs_at(values: Mapping[str, Value], place: int, node: PlanNode, tick: int) -> Sequence[Firing | Feeding]:
    if node.form is Form.TRANSPOSED:
        return _feedings(values, place, node, tick)
    due = range(_made(values[node.outputs[0]], tick - 1), _made(values[node.outputs[0]], tick))
    if due and node.reading.produces is not None:
        return [_firing(values, place, node, due.start, len(due), tick)]
    return [_firing(values, place, node, element, 1, tick) for element in due]


def _firing(values: Mapping[str, Value], place: int, node: PlanNode, element: int, count: int, tick: int) -> Firing:
    """How far behind the newest element each tap stands, oldest tap first."""
    backs = []
    for name, taps in zip(node.reads, node.taps, strict=True):
        newest = (element if name in node.outputs else _made(values[name], tick)) - 1
        backs.append(tuple(newest - tap for tap in taps.places(element, count)))
    return Firing(place, element, count, tuple(backs))


def _feedings(values: Mapping[str, Value], place: int, node: PlanNode, tick: int) -> list[Feeding]:
    """The elements that are taken into partial sums at a tick."""
    source, taps = values[node.reads[0]], node.reading
    clock = feeding_clock(timing_of(source), taps, timing_of(values[node.outputs[0]]))
    newest = _made(source, tick) - 1
    due = range(clock.count_through(tick - 1), clock.count_through(tick))
    return [feeding_of(place, taps, element, newest - element) for element in due]


def _made(value: Value, tick: int) -> int:
    """Elements that exist after a tick in the middle of the video."""
    return timing_of(value).clock.unbounded.count_through(tick)

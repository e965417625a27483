"""The static schedule: per phase, which nodes fire, for which element, and where their operands stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from math import lcm

from co3d_compile.plan.plan import Feeding, Firing, Form, PlanNode, Value, feeding_clock, feeding_of, timing_of

Read = Mapping[str, Sequence[int]]
"""By name of a value that is made again, its elements that a tick reads, oldest first."""


def common_period(values: Mapping[str, Value]) -> int:
    """Ticks after which every clock repeats."""
    return lcm(*(value.timing.clock.step for value in values.values() if value.timing is not None))


def schedule_firings(
    values: Mapping[str, Value], nodes: Sequence[PlanNode], period: int
) -> tuple[tuple[Firing | Feeding, ...], ...]:
    """What runs at each phase, in the order of the nodes.

    Law: every element fires once, at its clock's tick, after all that it reads; elements that are made again fire at
    each tick that reads them.
    """
    return tuple(_phase(values, nodes, tick) for tick in range(period))


def _phase(values: Mapping[str, Value], nodes: Sequence[PlanNode], tick: int) -> tuple[Firing | Feeding, ...]:
    read = _read_again(values, nodes, tick)
    return tuple(run for place, node in enumerate(nodes) for run in _runs(values, place, node, tick, read))


def _read_again(values: Mapping[str, Value], nodes: Sequence[PlanNode], tick: int) -> Read:
    """The elements that a tick reads of values that are made again, through what is made again itself."""
    read: dict[str, set[int]] = defaultdict(set)
    for node in reversed(nodes):
        for name, taps in zip(node.reads, node.taps, strict=True):
            for element in _due(values, node, tick, read):
                taken = [element] if node.form is Form.TRANSPOSED else taps.places(element)
                read[name].update(taken if values[name].again else ())
    return {name: sorted(elements) for name, elements in read.items()}


def _runs(values: Mapping[str, Value], place: int, node: PlanNode, tick: int, read: Read) -> Sequence[Firing | Feeding]:
    due = _due(values, node, tick, read)
    if node.form is Form.TRANSPOSED:
        (source,) = node.reads
        return [feeding_of(place, node.reading, element, _back(values, source, element, tick, read)) for element in due]
    if due and node.reading.produces is not None:
        return [_firing(values, place, node, due[0], len(due), tick, read)]
    return [_firing(values, place, node, element, 1, tick, read) for element in due]


def runs_at(values: Mapping[str, Value], place: int, node: PlanNode, tick: int) -> Sequence[Firing | Feeding]:
    """What a node runs at a tick, where nothing is made again."""
    return _runs(values, place, node, tick, {})


def _due(values: Mapping[str, Value], node: PlanNode, tick: int, read: Mapping[str, Collection[int]]) -> Sequence[int]:
    """The elements that a node makes at a tick; in transposed form, those that it takes."""
    made = values[node.outputs[0]]
    if node.recomputes:
        return sorted(read.get(made.name, ()))
    if node.form is Form.TRANSPOSED:
        clock = feeding_clock(timing_of(values[node.reads[0]]), node.reading, timing_of(made))
        return range(clock.count_through(tick - 1), clock.count_through(tick))
    return range(_made(made, tick - 1), _made(made, tick))


def _firing(
    values: Mapping[str, Value], place: int, node: PlanNode, element: int, count: int, tick: int, read: Read
) -> Firing:
    """How far behind the newest element each tap stands, oldest tap first."""
    backs = []
    for name, taps in zip(node.reads, node.taps, strict=True):
        own = name in node.outputs
        places = taps.places(element, count)
        backs.append(tuple(element - 1 - tap if own else _back(values, name, tap, tick, read) for tap in places))
    return Firing(place, element, count, tuple(backs))


def _back(values: Mapping[str, Value], name: str, element: int, tick: int, read: Read) -> int:
    """How far behind the newest element of its value one stands."""
    if values[name].again:
        return len(read[name]) - 1 - read[name].index(element)
    return _made(values[name], tick) - 1 - element


def _made(value: Value, tick: int) -> int:
    """Elements that exist after a tick in the middle of the video."""
    return timing_of(value).clock.unbounded.count_through(tick)

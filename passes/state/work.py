"""The work of each tick, and the heaviest tick made as light as possible.

A node on a clock of step a that fires r ticks later does the work of tick t at tick t + r: what counts for its load is
r mod a. One binary variable per form and residue says which; the load of a phase is the sum of what is done then.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd

from co3d_compile.passes.scheduling import runs_at, schedule_firings
from co3d_compile.passes.state.integer_program import IntegerProgram
from co3d_compile.plan.plan import Form, PlanNode, Value, timing_of

Pattern = tuple[int, ...]
"""Multiply-accumulates at each tick of a clock's step, which repeat from there."""
MOST_UNITS = 10**7
"""In which all work is counted."""

Choice = tuple[Form, int, Pattern]
"""Form, ticks later than a whole number of turns, and what is done then."""


def work_by_phase(values: Mapping[str, Value], nodes: Sequence[PlanNode], period: int) -> Pattern:
    """Multiply-accumulates at each tick of a period, of one stream."""
    schedule = schedule_firings(values, nodes, period)
    return tuple(sum(run.macs(nodes[run.node]) for run in phase) for phase in schedule)


@dataclass(frozen=True)
class Work:
    """What one node adds to the load of each phase, by its form and by how much later it fires.

    Attributes:
        patterns: by form, firing as early as it can.
        most: ticks that it may fire later.
    """

    patterns: Mapping[Form, Pattern]
    most: int

    @cached_property
    def turn(self) -> int:
        """Ticks later after which the same is done at the same phases."""
        step = len(self.patterns[Form.DIRECT])
        return next(
            ticks
            for ticks in range(1, step + 1)
            if all(pattern == _rotated(pattern, ticks) for pattern in self.patterns.values())
        )

    @property
    def choices(self) -> Iterator[Choice]:
        for form, pattern in self.patterns.items():
            for residue in range(min(self.turn, self.most + 1)):
                yield form, residue, _rotated(pattern, residue)

    @property
    def least(self) -> int:
        """The heaviest tick of the node alone."""
        return min(max(pattern) for pattern in self.patterns.values())


@dataclass(frozen=True)
class Balance:
    """The work of the heaviest tick as part of a program.

    Attributes:
        heaviest: the variable that is no less than the work of any tick.
        unit: multiply-accumulates in one of it.
        choices: the variables that say in which form and at which phase nodes fire.
    """

    heaviest: int
    unit: int
    choices: tuple[int, ...]


def works_of(
    values: Mapping[str, Value], nodes: Sequence[PlanNode], most: Mapping[int, int], choosable: Container[int]
) -> dict[int, Work]:
    """By place, the nodes that compute.

    Args:
        most: by place, ticks that a node may fire later; none, where there is no entry.
        choosable: places of the nodes that may take the transposed form.
    """
    return {
        place: Work(
            {form: _pattern(values, node, form) for form in Form if form is Form.DIRECT or place in choosable},
            most.get(place, 0),
        )
        for place, node in enumerate(nodes)
        if node.macs
    }


def heaviest_tick(
    program: IntegerProgram, period: int, works: Mapping[int, Work], later: Mapping[int, int], forms: Mapping[int, int]
) -> Balance:
    """The constraints by which the work of every phase is bounded.

    Args:
        works: by place of a node.
        later: by place, the variable of the ticks that a node fires later.
        forms: by place of a node that has the choice, the variable that is 1 for the transposed form.
    """
    unit = _unit(works.values())
    loads: list[dict[int, int]] = [{} for _ in range(period)]
    steady = [0] * period
    tied: list[int] = []
    for place, work in works.items():
        choices = list(work.choices)
        chosen = _chosen(program, work, choices, later[place], forms.get(place)) if _differ(choices) else []
        tied += chosen
        for phase in range(period):
            done = [-(pattern[phase % len(pattern)] // -unit) for _, _, pattern in choices]
            loads[phase] |= dict(zip(chosen, done, strict=False))
            steady[phase] += 0 if chosen else done[0]
    heaviest = program.variable()
    program.require({heaviest: 1}, -(max(work.least for work in works.values()) // -unit))
    for load, least in zip(loads, steady, strict=True):
        program.require({heaviest: 1} | {variable: -macs for variable, macs in load.items() if macs}, least)
    return Balance(heaviest, unit, tuple(tied))


def _unit(works: Collection[Work]) -> int:
    """The largest that divides all work; where that leaves the solver too many digits, one that rounds up."""
    exact = gcd(*(macs for work in works for pattern in work.patterns.values() for macs in pattern)) or 1
    total = sum(sum(work.patterns[Form.DIRECT]) for work in works)
    return max(exact, total // MOST_UNITS)


def _differ(choices: Sequence[Choice]) -> bool:
    return len({pattern for _, _, pattern in choices}) > 1


def _chosen(program: IntegerProgram, work: Work, choices: Sequence[Choice], later: int, form: int | None) -> list[int]:
    """One variable per choice, of which one is 1, tied to the form and to the ticks later."""
    chosen = [program.variable(1) for _ in choices]
    turns = program.variable(work.most // work.turn)
    residues = {variable: -residue for variable, (_, residue, _) in zip(chosen, choices, strict=True)}
    program.equate(dict.fromkeys(chosen, 1), 1)
    program.equate({later: 1, turns: -work.turn, **residues}, 0)
    if form is not None:
        transposed = [
            variable for variable, choice in zip(chosen, choices, strict=True) if choice[0] is not Form.DIRECT
        ]
        program.equate({form: 1} | dict.fromkeys(transposed, -1), 0)
    return chosen


def _pattern(values: Mapping[str, Value], node: PlanNode, form: Form) -> Pattern:
    formed = replace(node, form=form)
    step = timing_of(values[node.outputs[0]]).clock.step
    return tuple(sum(run.macs(node) for run in runs_at(values, 0, formed, tick)) for tick in range(step))


def _rotated(pattern: Pattern, later: int) -> Pattern:
    cut = len(pattern) - later % len(pattern)
    return pattern[cut:] + pattern[:cut]

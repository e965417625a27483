"""Outputs that may come later than they could."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from co3d_compile.clock.periodic import Periodic
from co3d_compile.passes.state.integer_program import IntegerProgram


def lateness(program: IntegerProgram, clocks: Mapping[str, Periodic], makers: Mapping[str, int]) -> dict[int, int]:
    """The ticks that all outputs together are late; what would come at the same ticks still does.

    Args:
        clocks: of the outputs.
        makers: by value, the variable of the ticks that its node fires later; none for an input.
    """
    on_time = program.variable(0)
    groups: dict[Periodic, list[int]] = {}
    for name, clock in clocks.items():
        groups.setdefault(clock, []).append(makers.get(name, on_time))
    for group in groups.values():
        for one, other in pairwise(dict.fromkeys(group)):
            program.equate({one: 1, other: -1}, 0)
    return {variable: 1 for group in groups.values() for variable in group}


def most_useful_delay(nodes: int, period: int) -> int:
    """More ticks than these are of no use.

    Among the firing ticks of so many nodes there would be a gap of more than a period; all beyond it could fire a
    period earlier, at the same phases, and nothing would be kept longer.
    """
    return nodes * period

"""What a read asks for, as constraints of the integer program: its operand is there, and kept until it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from co3d_compile.passes.state.integer_program import IntegerProgram
from co3d_compile.passes.state.reads import Read


@dataclass(frozen=True)
class Link:
    """A value that may be made again.

    Attributes:
        variable: 1 where it is.
        source: what it is made from.
        maker, source_maker: indices of the nodes that make them; None for an input.
    """

    variable: int
    source: str
    maker: int
    source_maker: int | None


@dataclass(frozen=True)
class When:
    """A constraint's condition: none of some variables is 1, and all of others are."""

    unless: tuple[int, ...] = ()
    only: tuple[int, ...] = ()

    def require(self, program: IntegerProgram, terms: Mapping[int, int], least: int, lack: int) -> None:
        """The terms are no less than ``least`` where the condition holds. ``lack``: how far they may be below it."""
        lack = max(0, lack)
        free = dict.fromkeys(self.unless, lack) | dict.fromkeys(self.only, -lack)
        program.require({**terms, **free}, least - lack * len(self.only))


def lateness_between(later: Mapping[int, int], read: Read) -> dict[int, int]:
    """How much later the reader fires than its operand is made."""
    terms = {later[read.reader]: 1}
    return terms if read.maker is None else terms | {later[read.maker]: -1}


def require_kept(program: IntegerProgram, read: Read, waited: Mapping[int, int], kept: int, when: When) -> None:
    """``kept`` is no less than the direct form needs."""
    steps = read.steps
    least, until = steps[0]
    when.require(program, {kept: 1}, least, least)
    span = read.source.clock.step
    regular = [(least + place, until + place * span) for place in range(len(steps))]
    if steps[:-1] == tuple(regular[:-1]) and steps[-1][0] == regular[-1][0] and steps[-1][1] <= regular[-1][1]:
        if len(steps) > 1:
            bound = span * least - until
            when.require(program, {kept: span, **_negated(waited)}, bound, read.most + bound)
        return
    # a staircase of uneven steps: one variable per step, and each needs the one before it
    climbed = [program.variable(1) for _ in steps[1:]]
    heights = [high - low for (low, _), (high, _) in pairwise(steps)]
    widths = [high - low for (_, low), (_, high) in pairwise(steps)]
    when.require(program, {**dict(zip(climbed, widths, strict=True)), **_negated(waited)}, -until, read.most - until)
    for lower, upper in pairwise(climbed):
        program.require({lower: 1, upper: -1}, 0)
    when.require(program, {kept: 1, **{v: -h for v, h in zip(climbed, heights, strict=True)}}, least, steps[-1][0])


def require_waiting(program: IntegerProgram, read: Read, waited: Mapping[int, int], kept: int, when: When) -> None:
    """In transposed form an operand is kept until it is taken: ``ceil(ticks / stride)`` elements."""
    when.require(program, {kept: read.source.clock.step, **_negated(waited)}, read.slack, read.most + read.slack)


def _negated(terms: Mapping[int, int]) -> dict[int, int]:
    return {variable: -factor for variable, factor in terms.items()}

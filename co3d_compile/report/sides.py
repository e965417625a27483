"""Sizes that follow from the frame's height or width, as convolutions and pools make them: by steps with a floor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import gcd, prod
from typing import Self

import sympy

from co3d_compile.report.formula import HEIGHT, WIDTH

Step = tuple[int, int, int]
"""``(m, c, s)``: from n to ``floor((m*n + c) / s)``."""


@dataclass(frozen=True)
class Side:
    """One size along height or width.

    Equal sizes compare equal where no step multiplies: what can be one step is one.

    Attributes:
        symbol: the frame's height, or its width.
        compiled: that of the clip that was compiled.
        steps: from it to this size, in order.
    """

    symbol: sympy.Symbol
    compiled: int
    steps: tuple[Step, ...] = ()

    def then(self, step: Step) -> Side:
        """The size that an operation makes of this one."""
        *before, last = self.steps or ((1, 0, 1),)
        joined = _joined(last, _reduced(step))
        steps = (*before, *joined)
        return Side(self.symbol, self.compiled, tuple(one for one in steps if one != (1, 0, 1)))

    def of(self, frame: int) -> int:
        """The size for a frame of that height or width."""
        return reduce(lambda n, step: (step[0] * n + step[1]) // step[2], self.steps, frame)

    @property
    def clip(self) -> int:
        """The size in the clip that was compiled."""
        return self.of(self.compiled)

    @property
    def expression(self) -> sympy.Expr:
        made = self.symbol
        for times, plus, by in self.steps:
            made = sympy.floor((times * made + plus) / sympy.Integer(by))
        return made


def height(size: int) -> Side:
    return Side(HEIGHT, size)


def width(size: int) -> Side:
    return Side(WIDTH, size)


def _reduced(step: Step) -> Step:
    times, plus, by = step
    common = gcd(times, by)
    return times // common, plus // common, by // common


def _joined(first: Step, second: Step) -> tuple[Step, ...]:
    """``floor((floor((m*n + c) / s) + c') / s') = floor((m*n + c + c'*s) / (s*s'))``, of whole numbers."""
    (m, c, s), (times, plus, by) = first, second
    if times == 1:
        return (_reduced((m, c + plus * s, s * by)),)
    if s == 1:
        return (_reduced((m * times, c * times + plus, by)),)
    return first, second


@dataclass(frozen=True)
class Extent:
    """The size of one dimension: numbers and sides, outermost first, multiplied."""

    factors: tuple[int | Side, ...]

    @classmethod
    def of(cls, *factors: int | Side) -> Self:
        return cls(tuple(factor for factor in factors if factor != 1))

    @property
    def clip(self) -> int:
        """In the clip that was compiled."""
        return prod(factor.clip if isinstance(factor, Side) else factor for factor in self.factors)

    @property
    def sides(self) -> tuple[Side, ...]:
        return tuple(factor for factor in self.factors if isinstance(factor, Side))

    @property
    def number(self) -> int:
        """What stays whatever the frame's size."""
        return prod(factor for factor in self.factors if isinstance(factor, int))

    @property
    def expression(self) -> sympy.Expr:
        return sympy.Mul(self.number, *(side.expression for side in self.sides))


Shape = tuple[Extent, ...]


class Indivisible(ValueError):
    """A reshape cuts a side into pieces that do not follow from it."""


def fixed(sizes: tuple[int, ...]) -> Shape:
    return tuple(Extent.of(size) for size in sizes)


def regrouped(shape: Shape, sizes: tuple[int, ...]) -> Shape:
    """The shape after a reshape to what are ``sizes`` in the clip: row-major order is kept, factor by factor.

    Raises:
        Indivisible: a side is cut elsewhere than into rows of a fixed length.
    """
    pending = [factor for extent in shape for factor in extent.factors or (1,)]
    made: list[Extent] = []
    for size in sizes:
        taken, pending = _taken(size, pending)
        made.append(Extent.of(*taken))
    if made:
        made[-1] = Extent.of(*made[-1].factors, *pending)
    return tuple(made)


def _taken(size: int, pending: list[int | Side]) -> tuple[list[int | Side], list[int | Side]]:
    """The leading factors that make up ``size``, and the rest. A size of 1 takes one factor of that size."""
    taken: list[int | Side] = []
    while pending and (size > 1 or (not taken and Extent.of(pending[0]).clip == 1)):
        have = Extent.of(pending[0]).clip
        if size % have == 0:
            taken.append(pending[0])
            size, pending = size // have, pending[1:]
        elif have % size == 0:
            outer, inner = _cut(pending[0], size, have // size)
            taken.append(outer)
            size, pending = 1, [inner, *pending[1:]]
        else:
            raise Indivisible(f"a dimension of {have} is cut into pieces of {size}")
    return taken, pending


def _cut(factor: int | Side, outer: int, inner: int) -> tuple[int | Side, int]:
    return (factor.then((1, 0, inner)) if isinstance(factor, Side) else outer), inner

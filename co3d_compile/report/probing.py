"""How the sizes that an operator gives follow from those that it takes: it runs on tensors without values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import prod

from co3d_compile.report.sides import Extent, Side, Step

Point = dict[Extent, int]
"""A size for each extent that follows from the frame's."""
Sizes = tuple[int, ...]

BASE, APART = 256, 64
"""Sizes to begin with: none by chance equal to another, or too small for a kernel."""
LARGEST_STRIDE = 32
SHIFTS = (1, 5, LARGEST_STRIDE)
"""A large stride shows only over a whole one."""


class Unknown(ValueError):
    """No formula of ours describes the size."""


def base_point(extents: Sequence[Extent], base: int = BASE, apart: int = APART) -> Point:
    return {extent: base + apart * place for place, extent in enumerate(extents)}


def fitted(sizes_at: Callable[[Point], Sizes], base: Point) -> tuple[Extent, ...]:
    """The extents of what ``sizes_at`` gives at any point.

    Raises:
        Unknown: a size depends on several extents, or otherwise than by ``floor((m*n + c) / s)``.
    """

    @cache
    def shifted(extent: Extent, by: int) -> Sizes:
        return sizes_at({**base, extent: base[extent] + by})

    made = sizes_at(base)
    return tuple(_extent(place, base, size, shifted) for place, size in enumerate(made))


def _extent(place: int, base: Point, made: int, shifted: Callable[[Extent, int], Sizes]) -> Extent:
    """Of one dimension."""
    turned = [extent for extent in base if any(shifted(extent, by)[place] != made for by in SHIFTS)]
    if not turned:
        return Extent.of(made)
    if len(turned) > 1:
        raise Unknown("a size follows from several sizes at once")
    (extent,) = turned
    if made == base[extent] and all(shifted(extent, by)[place] == base[extent] + by for by in SHIFTS):
        return extent
    if len(extent.factors) != 1 or not isinstance(extent.factors[0], Side):
        raise Unknown("a size follows from a product of sizes")
    seen = [shifted(extent, by)[place] for by in range(2 * LARGEST_STRIDE + 1)]
    return Extent.of(extent.factors[0].then(_step(base[extent], seen)))


def _step(first: int, seen: Sequence[int]) -> Step:
    """``(m, c, s)`` with ``seen[n] = floor((m*(first + n) + c) / s)``, at the smallest s.

    Raises:
        Unknown: there is none.
    """
    for s in range(1, LARGEST_STRIDE + 1):
        grown = {later - one for one, later in zip(seen, seen[s:], strict=False)}
        if len(grown) != 1:
            continue
        m = grown.pop()
        lowest = max(s * size - m * (first + n) for n, size in enumerate(seen))
        highest = min(s * size + s - 1 - m * (first + n) for n, size in enumerate(seen))
        if m > 0 and lowest <= highest:
            return m, min(max(lowest, 0), highest), s
    raise Unknown("a size follows from another one otherwise than in steps of one length")


@dataclass(frozen=True)
class Monomial:
    """A number times powers of extents."""

    number: Fraction
    powers: Mapping[Extent, int]

    def at(self, point: Point) -> Fraction:
        return self.number * Fraction(prod(point[extent] ** power for extent, power in self.powers.items()))


def fitted_monomial(number_at: Callable[[Point], int], base: Point) -> Monomial:
    """What ``number_at`` gives at any point.

    Raises:
        Unknown: it is no product of powers of the extents.
    """
    made = number_at(base)
    powers = {}
    for extent in base:
        grown = Fraction(number_at({**base, extent: 2 * base[extent]}), made) if made else Fraction(1)
        powers[extent] = grown.numerator.bit_length() - 1
        if grown != 2 ** powers[extent]:
            raise Unknown("the cost is no product of sizes")
    number = Fraction(made, prod(base[extent] ** power for extent, power in powers.items()))
    found = Monomial(number, powers)
    elsewhere = {extent: size + 3 * place + 1 for place, (extent, size) in enumerate(base.items())}
    if found.at(elsewhere) != number_at(elsewhere):
        raise Unknown("the cost is no product of sizes")
    return found

"""Integer sequences that repeat up to a constant step: the form of every clock, span, length and index map."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm


@dataclass(frozen=True)
class Periodic:
    """The sequence with ``value(n) = offsets[n mod H] + step * (n div H)``, ``H = len(offsets)``, for every integer n.

    ``Periodic(a, (b,))`` is the affine ``a*n + b``. Equal sequences compare equal: the shortest H is kept.

    Attributes:
        least: no value is smaller (elements that wait for a later one at the start); None: no such bound.
    """

    step: int
    offsets: tuple[int, ...]
    least: int | None = None

    def __post_init__(self) -> None:
        step, offsets = _shortest(self.step, self.offsets)
        object.__setattr__(self, "step", step)
        object.__setattr__(self, "offsets", offsets)

    def __call__(self, n: int) -> int:
        turns, place = divmod(n, len(self.offsets))
        value = self.offsets[place] + self.step * turns
        return value if self.least is None else max(self.least, value)

    def __add__(self, constant: int) -> Periodic:
        least = None if self.least is None else self.least + constant
        return Periodic(self.step, tuple(offset + constant for offset in self.offsets), least)

    @property
    def rate(self) -> Fraction:
        """How much the value grows per index, on average."""
        return Fraction(self.step, len(self.offsets))

    @property
    def is_affine(self) -> bool:
        return len(self.offsets) == 1

    @property
    def unbounded(self) -> Periodic:
        """The sequence without its least value."""
        return Periodic(self.step, self.offsets)

    def at_least(self, value: int) -> Periodic:
        """The sequence with no value below this one; as it is if it has none from index 0 on."""
        return self if self.unbounded(0) >= value else Periodic(self.step, self.offsets, value)

    def after(self, inner: Periodic) -> Periodic:
        """``n -> self(inner(n))``."""
        assert inner.step, "a sequence that stands still has no composition"
        assert inner.least is None, "an index map has no least value"
        turns = len(self.offsets) // gcd(inner.step, len(self.offsets))
        count = len(inner.offsets) * turns
        grown = inner.step * turns
        free = self.unbounded
        return Periodic(grown * self.step // len(self.offsets), tuple(free(inner(n)) for n in range(count)), self.least)

    def count_through(self, value: int) -> int:
        """The first index whose value exceeds ``value`` (the sequence must not fall); 0 at most below ``least``."""
        assert self.step > 0
        if self.least is not None:
            found = self.unbounded.count_through(value)
            return min(found, 0) if value < self.least else found
        n = (value - self.offsets[0]) // self.step * len(self.offsets)
        while self(n) <= value:
            n += 1
        while self(n - 1) > value:
            n -= 1
        return n

    @property
    def counts(self) -> Periodic:
        """Value to the number of indices from 0 on whose value is no larger: ``count_through`` as a sequence.

        The sequence must have no least value.
        """
        assert self.least is None
        return Periodic(len(self.offsets), tuple(self.count_through(value) for value in range(self.step)))


def affine(stride: int, offset: int) -> Periodic:
    """``n -> stride*n + offset``."""
    return Periodic(stride, (offset,))


def floor_ratio(numerator_offset: int, divisor: int) -> Periodic:
    """``n -> floor((n + numerator_offset) / divisor)``."""
    return Periodic(1, tuple((n + numerator_offset) // divisor for n in range(divisor)))


def maximum(sequences: tuple[Periodic, ...]) -> Periodic:
    """The larger value at each index; all must grow at one rate."""
    return _pointwise(max, sequences)


def minimum(sequences: tuple[Periodic, ...]) -> Periodic:
    """The smaller value at each index; all must grow at one rate."""
    return _pointwise(min, sequences)


def _pointwise(pick: Callable[[Iterable[int]], int], sequences: tuple[Periodic, ...]) -> Periodic:
    assert len({sequence.rate for sequence in sequences}) == 1, "sequences of different rates have no common bound"
    count = lcm(*(len(sequence.offsets) for sequence in sequences))
    step = sequences[0].rate * count
    free = [sequence.unbounded for sequence in sequences]
    bounds = [sequence.least for sequence in sequences if sequence.least is not None]
    least = pick(bounds) if bounds and (pick is max or len(bounds) == len(sequences)) else None
    return Periodic(int(step), tuple(pick(sequence(n) for sequence in free) for n in range(count)), least)


def _shortest(step: int, offsets: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    count = len(offsets)
    for shorter in range(1, count):
        if count % shorter or (step * shorter) % count:
            continue
        grown = step * shorter // count
        if all(offsets[n] == offsets[n - shorter] + grown for n in range(shorter, count)):
            return grown, offsets[:shorter]
    return step, offsets


IDENTITY = affine(1, 0)

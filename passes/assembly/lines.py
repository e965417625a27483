"""A tensor as a line of frames: a few, then a whole stretch of one source, then a few more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import fx


@dataclass(frozen=True)
class Copy:
    """One element of a source; ``place`` counts from its end where it is negative."""

    source: fx.Node
    place: int


@dataclass(frozen=True)
class Constant:
    """One frame that no video changes: a number, or a tensor of one frame."""

    value: float | fx.Node


Frame = Copy | Constant


@dataclass(frozen=True)
class Stretch:
    """Elements of a source but for the first ``start`` and the last ``stop``; it grows with the video."""

    source: fx.Node
    start: int
    stop: int
    length: int
    """Elements that it has in the example clip."""


@dataclass(frozen=True)
class Line:
    """The frames along dimension ``dim``. Without a stretch all of them are in ``head``."""

    dim: int
    head: tuple[Frame, ...] = ()
    stretch: Stretch | None = None
    tail: tuple[Frame, ...] = ()

    @property
    def length(self) -> int:
        """Frames in the example clip."""
        return len(self.head) + (self.stretch.length if self.stretch else 0) + len(self.tail)

    @property
    def is_plain(self) -> bool:
        """Nothing but a stretch."""
        return self.stretch is not None and not self.head and not self.tail

    @property
    def copies(self) -> tuple[fx.Node, range] | None:
        """Several frames of one source at one step, as they are in the clip; None if it is something else."""
        copies = [frame for frame in self.head if isinstance(frame, Copy)]
        if self.stretch or len(copies) < 2 or len(copies) < len(self.head) or len({one.source for one in copies}) > 1:
            return None
        taken = [one.place for one in copies]
        if taken[0] < 0 or taken[1] <= taken[0]:
            return None
        places = range(taken[0], taken[-1] + 1, taken[1] - taken[0])
        return (copies[0].source, places) if taken == list(places) else None

    def part(self, start: int, stop: int | None) -> Line | None:
        """``[start:stop]``, where numbers count as the user wrote them; None where that has no meaning as a line."""
        if stop is not None and stop >= self.length:
            stop = None
        if self.stretch is None:
            return replace(self, head=self.head[slice(start, stop)])
        if start < 0:
            return _finite(self.dim, self._back(-start), slice(0, stop)) if stop is None or stop < 0 else None
        if stop is not None and stop >= 0:
            return _finite(self.dim, self._front(stop), slice(start, None))
        kept = self._without_front(start)
        return kept and kept._without_back(0 if stop is None else -stop)

    def frame(self, place: int) -> Line | None:
        """One frame, counted from the front, or from the back where ``place`` is negative."""
        if self.stretch is None:
            return Line(self.dim, (self.head[place],)) if -len(self.head) <= place < len(self.head) else None
        if place < 0:
            return _finite(self.dim, self._back(-place), slice(0, 1))
        return _finite(self.dim, self._front(place + 1), slice(place, None))

    def rolled(self, by: int) -> Line | None:
        """The frames moved on, those that leave one end coming in at the other."""
        if by == 0 or self.length <= abs(by):
            return None
        first, second = self.part(-by, None), self.part(0, -by)
        return joined_lines([first, second]) if first and second else None

    def _front(self, count: int) -> tuple[Frame, ...] | None:
        assert self.stretch is not None
        missing = count - len(self.head)
        if missing <= 0:
            return self.head[:count]
        if missing > self.stretch.length:
            return None
        return self.head + tuple(Copy(self.stretch.source, self.stretch.start + n) for n in range(missing))

    def _back(self, count: int) -> tuple[Frame, ...] | None:
        assert self.stretch is not None
        missing = count - len(self.tail)
        if missing <= 0:
            return self.tail[len(self.tail) - count :]
        if missing > self.stretch.length:
            return None
        return tuple(Copy(self.stretch.source, -self.stretch.stop - n) for n in range(missing, 0, -1)) + self.tail

    def _without_front(self, count: int) -> Line | None:
        assert self.stretch is not None
        cut = max(0, count - len(self.head))
        if cut > self.stretch.length:
            return None
        left = replace(self.stretch, start=self.stretch.start + cut, length=self.stretch.length - cut)
        return replace(self, head=self.head[count:], stretch=left)

    def _without_back(self, count: int) -> Line | None:
        assert self.stretch is not None
        cut = max(0, count - len(self.tail))
        if cut > self.stretch.length:
            return None
        left = replace(self.stretch, stop=self.stretch.stop + cut, length=self.stretch.length - cut)
        return replace(self, tail=self.tail[: max(0, len(self.tail) - count)], stretch=left)


def _finite(dim: int, frames: tuple[Frame, ...] | None, kept: slice) -> Line | None:
    return None if frames is None else Line(dim, frames[kept])


def joined_lines(lines: Sequence[Line]) -> Line | None:
    """Line after line; None where several of them grow with the video."""
    growing = [place for place, line in enumerate(lines) if line.stretch is not None]
    if len(growing) > 1:
        return None
    place = growing[0] if growing else len(lines)
    before = tuple(frame for line in lines[: place + 1] for frame in line.head)
    after = tuple(frame for line in lines[place:] for frame in line.tail)
    after += tuple(frame for line in lines[place + 1 :] for frame in line.head)
    line = Line(lines[0].dim, before, lines[place].stretch if growing else None, after)
    return _absorbed(line)


def _absorbed(line: Line) -> Line:
    """Frames that the stretch would go on with belong to it."""
    head, stretch, tail = list(line.head), line.stretch, list(line.tail)
    if stretch is None:
        return line
    while head and stretch.start and head[-1] == Copy(stretch.source, stretch.start - 1):
        head.pop()
        stretch = replace(stretch, start=stretch.start - 1, length=stretch.length + 1)
    while tail and stretch.stop and tail[0] == Copy(stretch.source, -stretch.stop):
        tail.pop(0)
        stretch = replace(stretch, stop=stretch.stop - 1, length=stretch.length + 1)
    return Line(line.dim, tuple(head), stretch, tuple(tail))

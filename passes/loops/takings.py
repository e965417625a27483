"""What the iterations of a loop take of one stream, as a slice of it, with other frames at its ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from co3d_compile.ops.slicing import OPEN_END
from co3d_compile.passes.loops.rows import UnlikeError

aten = torch.ops.aten
Place = int | fx.Node
"""A frame's place, or the constant that stands in for it."""
Call = Callable[..., fx.Node]
"""Puts a call of an operator into the graph."""


@dataclass(frozen=True)
class Taking:
    """One frame for each iteration: ``front``, then ``first``, ``first + step``, ..., then ``back``."""

    source: fx.Node
    dim: int
    front: tuple[Place, ...]
    first: int
    step: int
    count: int
    back: tuple[Place, ...]

    @property
    def length(self) -> int:
        return int(self.source.meta["val"].shape[self.dim])

    @property
    def fits_before(self) -> bool:
        """An iteration before the first one would find a frame."""
        return bool(self.front) or self.first >= self.step

    @property
    def fits_behind(self) -> bool:
        """An iteration more would find a frame."""
        return bool(self.back) or self.first + self.count * self.step < self.length

    def built(self, call: Call, last_first: int) -> fx.Node:
        """Its frames as a stream.

        Args:
            last_first: the first frame of what takes the last one: all have as many.
        """
        end = self.first - last_first if self.step > 1 else self.first + self.count - self.length
        whole = (self.first, end, self.step) == (0, 0, 1)
        sliced = self.source if whole else self._slice(call, self.first, end or OPEN_END, self.step)
        front = [self._end(call, place) for place in self.front]
        back = [self._end(call, place if isinstance(place, fx.Node) else place - self.length) for place in self.back]
        return call(aten.cat.default, [*front, sliced, *back], self.dim) if front or back else sliced

    def _end(self, call: Call, place: Place) -> fx.Node:
        if isinstance(place, int):
            return self._slice(call, place, place + 1 or OPEN_END, 1)
        shape = list(self.source.meta["val"].shape)
        del shape[self.dim]
        if list(place.meta["val"].shape) != shape:
            raise UnlikeError
        return call(aten.unsqueeze.default, place, self.dim)

    def _slice(self, call: Call, *bounds: Any) -> fx.Node:
        return call(aten.slice.Tensor, self.source, self.dim, *bounds)


def taking_of(source: fx.Node, dim: int, places: Sequence[Place]) -> Taking:
    """What these places, one for each iteration, are.

    Raises:
        UnlikeError: they do not go on from iteration to iteration in equal steps.
    """
    middle = (len(places) - 1) // 2
    here, there = places[middle], places[middle + 1]
    if not isinstance(here, int) or not isinstance(there, int) or there <= here:
        raise UnlikeError
    step = there - here
    wanted = [here + (n - middle) * step for n in range(len(places))]
    start, stop = middle, middle + 2
    while start and places[start - 1] == wanted[start - 1]:
        start -= 1
    while stop < len(places) and places[stop] == wanted[stop]:
        stop += 1
    front, back = tuple(places[:start]), tuple(places[stop:])
    if step > 1 and (front or back):
        raise UnlikeError
    return Taking(source, dim, front, wanted[start], step, stop - start, back)


def require_all_taken(takings: Sequence[Taking]) -> None:
    """No further iteration fits at either end: which of the clip's frames others leave out, no one could tell.

    Raises:
        UnlikeError: one would fit, or they go on in unequal steps.
    """
    if len({one.step for one in takings}) > 1 or all(one.fits_before for one in takings):
        raise UnlikeError
    if all(one.fits_behind for one in takings) or (takings[0].step > 1 and len({one.length for one in takings}) > 1):
        raise UnlikeError

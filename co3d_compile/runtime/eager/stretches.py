"""The elements of a value that a chunk of ticks can read."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from co3d_compile.ops.flow import Taps
from co3d_compile.plan.plan import Value
from co3d_compile.runtime.elements import part_of_block
from co3d_compile.runtime.state import Element


@dataclass(frozen=True)
class Stretch:
    """The elements of one value that a chunk can read: those kept from before, then the chunk's own.

    Attributes:
        first: number of the first element of ``kept``.
        kept: single elements from before the chunk.
        made: the chunk's elements as one block along time, or one by one where they have no time axis.
        made_first: number of the first of them.
        made_count: how many there are.
        seen: the elements that a reader sees for now; None: all.
    """

    first: int
    kept: tuple[Element, ...]
    made: Tensor | list[Tensor]
    made_first: int
    made_count: int
    seen: range | None = None

    @property
    def begin(self) -> int:
        """Number of the first element that is there."""
        return min(self.first, self.made_first)

    def element(self, n: int, layout_of: Value, batch: int) -> Element:
        """Element ``n``, or None where the original has none, or it is not seen."""
        if self.seen is not None and n not in self.seen:
            return None
        if self.made_first <= n < self.made_first + self.made_count:
            place = n - self.made_first
            if isinstance(self.made, list):
                return self.made[place]
            return part_of_block(self.made, layout_of.layout, batch, place, 1)
        return self.kept[n - self.first] if 0 <= n - self.first < len(self.kept) else None

    def block(self, read: range) -> range:
        """Of some elements, those that lie side by side in ``made``."""
        made = range(self.made_first, self.made_first + self.made_count)
        seen = made if self.seen is None else self.seen
        return range(max(read.start, made.start, seen.start), min(read.stop, made.stop, seen.stop))


def stretch_of(taps: Taps, due: range) -> range:
    """The elements from the first that some outputs read to the last, as one window of the original sees them."""
    step = taps.grid if taps.apart > 1 else 1
    return range(taps.first(due.start), taps.index.last(due[-1]) + 1, step)

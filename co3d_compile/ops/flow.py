"""The ways in which an operation treats time. The ways are few, the operations many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from co3d_compile.clock.periodic import IDENTITY, Periodic, affine
from co3d_compile.clock.timing import SAME, IndexMap, dense_map, repeat_map, sliding_map, trailing_map, window_map
from co3d_compile.layout import Layout


class Divisor(Enum):
    """What a mean over taps is divided by near the ends of the video (torch's average pools)."""

    KERNEL = "kernel"  # always the kernel's size
    PADDED = "padded"  # the taps within the padded extent
    VALID = "valid"  # the taps that are elements


class Absent(Enum):
    """What stands for an element before the first or after the last, where it is no constant."""

    EDGE = "edge"  # the nearest element
    REFLECTION = "reflection"  # the element as far on the other side of the nearest
    NOTHING = "nothing"  # None: the operation itself knows how it begins


Fill = Absent | float | None
"""None: there is no such element to read."""


class Way(Enum):
    """How output elements follow from input elements."""

    ALONE = "alone"  # from the elements of the same number
    WINDOW = "window"  # from some neighbours
    REINDEX = "reindex"  # one input element under another number
    COLLAPSE = "collapse"  # from a window that the original takes for the whole clip
    GATE = "gate"  # a collapse that is broadcast back onto the stream, under a policy
    MIXING = "mixing"  # from the elements of the clip, all together; under a policy, from one or the last
    RECURRENT = "recurrent"  # from the elements of the same number and its own outputs of the number before


@dataclass(frozen=True)
class Taps:
    """The elements that output n reads of one input: ``count`` of them, ``dilation`` apart, up to ``index.last(n)``.

    Attributes:
        dilation: elements from tap to tap, as the operator's arguments have it.
        grid: elements of the stream from one element of a window to the next (more than one at a dense rate).
        apart: outputs of the stream from one to the next that a run of the operator makes (likewise).
        fill: what stands for an element before the first or after the last.
        awaits: the element that the first output waits for, whatever the index map says (a reflection at the start).
        reach: how much further back than the taps a stand-in may lie.
        produces: element m to the number of the first output that the operator makes of a block which begins with m,
            for operators that make several outputs of one element; None: what it makes of the taps is the output.
        partial: elements that are missing at the ends are left out, and the operation runs on fewer.
        repeats: the one element read stands for a clip of so many (a gate made from a still clip).
        divisor: what an average is divided by where taps are missing.
        padding: elements of padding before and after, for ``Divisor.PADDED``.
    """

    index: IndexMap = SAME
    count: int = 1
    dilation: int = 1
    grid: int = 1
    apart: int = 1
    fill: Fill = None
    awaits: int | None = None
    reach: int = 0
    produces: Periodic | None = None
    partial: bool = False
    repeats: int = 1
    divisor: Divisor = Divisor.KERNEL
    padding: tuple[int, int] = (0, 0)

    @property
    def step(self) -> int:
        """Elements of the stream from tap to tap."""
        return self.dilation * self.grid

    @property
    def constant(self) -> float:
        """The number that stands for a missing element."""
        return self.fill if isinstance(self.fill, float) else 0.0

    def first(self, n: int) -> int:
        """The first tap of output n."""
        return self.index.last(n) - self.step * (self.count - 1)

    def places(self, n: int, count: int = 1) -> range:
        """The taps of output n, or of the ``count`` outputs from n on."""
        return range(self.first(n), self.index.last(n + count - 1) + 1, self.step)

    def begun(self, element: int) -> int:
        """The newest output that has a tap among the elements up to this one."""
        return (self.index.last + -self.step * (self.count - 1)).count_through(element) - 1

    def completed(self, element: int) -> int:
        """The newest output whose taps are all among the elements up to this one."""
        return self.index.last.count_through(element) - 1

    def fed_by(self, element: int) -> tuple[tuple[int, int], ...]:
        """The outputs that read an element: (tap, output), in the order of the outputs."""
        under_way = range(self.completed(element - 1) + 1, self.begun(element) + 1)
        return tuple(
            ((element - self.first(n)) // self.step, n) for n in under_way if (element - self.first(n)) % self.step == 0
        )

    @property
    def under_way(self) -> int:
        """The most outputs that have only some of their taps: ``ceil(d(k-1)/s)`` (design.md, section 4)."""
        return max(self.begun(element) - self.completed(element) for element in range(self.stride))

    def skipped(self, n: int) -> int:
        """Outputs that the operator makes of output n's taps before it comes to output n."""
        return 0 if self.produces is None else n - self.produces(self.first(n))

    def stand_in(self, place: int, length: int | None) -> int | None:
        """The element that is read for element ``place``; None: none of them.

        Args:
            length: elements that there are; None: no end is in sight.
        """
        if place >= 0 and (length is None or place < length):
            return place
        edge = place % self.grid
        if place >= 0 and length is not None:
            edge = length - 1 - (length - 1 - place) % self.grid
        match self.fill:
            case Absent.EDGE:
                found = edge
            case Absent.REFLECTION:
                found = 2 * edge - place
            case _:
                return None
        return found if found >= 0 and (length is None or found < length) else None

    def share(self, n: int, length: int) -> float:
        """``count`` over the number of taps that output n is divided by, for an input of ``length`` elements."""
        if self.divisor is Divisor.KERNEL:
            return 1.0
        before, after = self.padding if self.divisor is Divisor.PADDED else (0, 0)
        counted = sum(-before * self.grid <= place < length + after * self.grid for place in self.places(n))
        return self.count / counted

    @property
    def is_affine(self) -> bool:
        return self.index.first.is_affine and self.index.last.is_affine and self.produces is None

    @property
    def stride(self) -> int:
        """Elements from one output to the next."""
        return int(self.index.last.rate)

    def dense(self, grid: int) -> Taps:
        """The same taps for every phase of a strided network at once (design.md, section 5: a stride becomes dilation).

        Args:
            grid: elements of the input from one element of a window to the next.
        """
        awaits = None if self.awaits is None else (self.awaits + 1) * grid - 1
        apart = 1 if (self.count, self.stride) == (1, 1) else grid * self.stride
        index = dense_map(self.index, grid)
        return replace(self, index=index, grid=grid, apart=apart, awaits=awaits, reach=self.reach * grid)


ONE = Taps()


@dataclass(frozen=True)
class Flow:
    """What an operation does to time.

    Attributes:
        layouts: one per output tensor.
        taps: how it reads its streaming operands.
        each: one per streaming operand, in their order, where they are read unlike; empty: all through ``taps``.
        still: a clip of equal frames gives what one of them gives (a mean, not a sum).
        resizable: the operation takes a window of another width than the clip's.
        ends: by its stride the operation is a strided window as well, if time goes on behind it.
        carried: places of the outputs that the next run reads, one element back.
        accumulates: an output can be made tap by tap, each adding its share (the transposed form).
        fixed_batch: why it takes no other batch than the clip's, or empty.
    """

    way: Way
    layouts: tuple[Layout, ...]
    taps: Taps = ONE
    each: tuple[Taps, ...] = ()
    still: bool = False
    resizable: bool = False
    ends: bool = False
    carried: tuple[int, ...] = ()
    accumulates: bool = False
    fixed_batch: str = ""

    def taps_of(self, operand: int) -> Taps:
        """How the streaming operand of that place is read."""
        return self.each[operand] if self.each else self.taps


def alone(*layouts: Layout) -> Flow:
    return Flow(Way.ALONE, layouts)


def windowed(
    layout: Layout,
    *,
    kernel: int,
    stride: int,
    dilation: int,
    before: int,
    after: int,
    fill: float,
    ceil_mode: bool = False,
    divisor: Divisor = Divisor.KERNEL,
    accumulates: bool = False,
) -> Flow:
    index = window_map(kernel, stride, dilation, before, after, ceil_mode=ceil_mode)
    taps = Taps(index, kernel, dilation, fill=fill, divisor=divisor, padding=(before, after))
    return Flow(Way.WINDOW, (layout,), taps, accumulates=accumulates)


def reindexed(layout: Layout, index: IndexMap, fill: Fill) -> Flow:
    return Flow(Way.REINDEX, (layout,), Taps(index, fill=fill))


def repeated(layout: Layout, count: int) -> Flow:
    """Every element becomes ``count`` elements."""
    return Flow(Way.WINDOW, (layout,), Taps(repeat_map(count), produces=affine(count, 0)))


def gathered(layout: Layout, count: int) -> Flow:
    """Every ``count`` elements become one."""
    return Flow(Way.WINDOW, (layout,), Taps(window_map(count, count, 1, 0, 0), count))


def collapsed(*layouts: Layout, width: int, still: bool = False, resizable: bool = False) -> Flow:
    """The original takes all ``width`` elements of its clip; the stream takes a window of so many."""
    return Flow(Way.COLLAPSE, layouts, Taps(sliding_map(width), width), still=still, resizable=resizable)


def read_back(grid: int) -> Taps:
    """How a recurrence reads what it carries: the element before, none at the start."""
    back = affine(1, -grid)
    return Taps(IndexMap(back, back, IDENTITY), fill=Absent.NOTHING)


def frame_gate(flow: Flow, layouts: tuple[Layout, ...], width: int) -> Flow:
    """A gate made from each frame, as from a clip of ``width`` such frames."""
    return replace(flow, way=Way.GATE, layouts=layouts, taps=Taps(repeats=1 if flow.still else width))


def window_gate(flow: Flow, layouts: tuple[Layout, ...], width: int) -> Flow:
    """A gate made from the last ``width`` elements.

    At the start, from those that there are; where it is another matter of fewer, the first stands for those before it.
    """
    fill = None if flow.still else Absent.EDGE
    taps = Taps(trailing_map(width), width, fill=fill, partial=flow.still)
    return replace(flow, way=Way.GATE, layouts=layouts, taps=taps)

"""When the elements of a tensor exist, what they depend on, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from co3d_compile.clock.periodic import IDENTITY, Periodic, affine, floor_ratio, maximum, minimum


@dataclass(frozen=True)
class IndexMap:
    """Which elements of one input an output element reads.

    Attributes:
        first: output index to the first element read.
        last: output index to the last element read.
        length: number of input elements to number of output elements.
    """

    first: Periodic
    last: Periodic
    length: Periodic


SAME = IndexMap(IDENTITY, IDENTITY, IDENTITY)


def window_map(
    kernel: int, stride: int, dilation: int, before: int, after: int, *, ceil_mode: bool = False
) -> IndexMap:
    """A convolution's or pool's map: ``stride*n - before`` to ``... + dilation*(kernel-1)`` (design.md, section 3).

    Args:
        before, after: padding elements at the two ends.
        ceil_mode: count a last window that hangs over the end, unless it starts in the padding (torch's pools).
    """
    reach = dilation * (kernel - 1)
    room = before + after - reach - 1 + stride
    length = floor_ratio(room, stride)
    if ceil_mode:
        length = minimum((floor_ratio(room + stride - 1, stride), floor_ratio(before - 1 + stride, stride)))
    return IndexMap(affine(stride, -before), affine(stride, reach - before), length)


def pad_map(before: int, after: int) -> IndexMap:
    """Constant padding in time: ``n - before``; negative numbers cut elements off."""
    shift = affine(1, -before)
    return IndexMap(shift, shift, affine(1, before + after))


def sliding_map(width: int, every: int = 1) -> IndexMap:
    """The windows of ``width`` elements that start at every so many."""
    return IndexMap(affine(every, 0), affine(every, width - 1), floor_ratio(every - width, every))


def every_map(stride: int) -> IndexMap:
    """Every ``stride``-th element, from the first."""
    index = affine(stride, 0)
    return IndexMap(index, index, floor_ratio(stride - 1, stride))


def dense_map(index: IndexMap, grid: int) -> IndexMap:
    """The map on a stream whose windows start at every element, and have one element of it in ``grid``.

    Strides go: a window of the strided network starts at each element (design.md, section 5). The index map's first
    and last must be affine.
    """
    missing = (index.length.count_through(0) - 1) * grid
    return IndexMap(affine(1, index.first(0) * grid), affine(1, index.last(0) * grid), affine(1, -missing))


def transposed_map(kernel: int, stride: int, dilation: int, padding: int, output_padding: int) -> IndexMap:
    """A transposed convolution's map: ``ceil((n+p-d(k-1))/s)`` to ``floor((n+p)/s)`` (design.md, section 3).

    Where the stride exceeds the kernel, outputs between two kernels read nothing; they count as reading the element
    before them, so that outputs come in order.
    """
    reach = dilation * (kernel - 1)
    last = floor_ratio(padding, stride)
    first = minimum((floor_ratio(padding - reach + stride - 1, stride), last))
    return IndexMap(first, last, affine(stride, reach + 1 + output_padding - 2 * padding - stride))


def repeat_map(count: int) -> IndexMap:
    """Every element ``count`` times."""
    return IndexMap(floor_ratio(0, count), floor_ratio(0, count), affine(count, 0))


def linear_map(factor: int) -> IndexMap:
    """Linear interpolation to ``factor`` elements for one: of the two around ``(n + 1/2) / factor - 1/2``."""
    first = floor_ratio(1 - factor, 2 * factor).after(affine(2, 0))
    last = floor_ratio(factor, 2 * factor).after(affine(2, 0))
    return IndexMap(first, last, affine(factor, 0))


def trailing_map(width: int) -> IndexMap:
    """The last ``width`` elements up to n; as many as there are before that."""
    return IndexMap(affine(1, 1 - width), IDENTITY, IDENTITY)


@dataclass(frozen=True)
class Timing:
    """The time of a tensor's elements, in ticks and input frames.

    Attributes:
        clock: element to the tick at which it exists.
        lo: element to the first input frame it depends on.
        hi: element to the last input frame it depends on.
        length: frames of video to number of elements (below zero: none).
        grid: elements from one element of a window to the next: more than one at a dense rate, where the strided
            network's elements are one in so many.
        front: leading elements that have seen padding before the video. Where frames are cut off and padded again,
            these depend on no frame before the first.
        back: frames of video to the first element that has seen padding after it, or is not there.
    """

    clock: Periodic
    lo: Periodic
    hi: Periodic
    length: Periodic
    back: Periodic
    grid: int = 1
    front: int = 0

    @property
    def stride(self) -> int:
        """Ticks after which the clock repeats."""
        return self.clock.step

    @property
    def delay(self) -> int:
        """Ticks before the first element."""
        return self.clock(0)

    @property
    def receptive_field(self) -> int:
        """Frames that one element depends on (the widest phase)."""
        return max(self.hi(n) - self.lo(n) + 1 for n in range(len(self.hi.offsets) * len(self.lo.offsets)))

    @property
    def padding(self) -> int:
        """Frames before the video that the first element reaches into: the aggregated temporal padding."""
        return max(0, -self.lo(0))

    @property
    def steady_tick(self) -> int:
        """The tick of the first element that depends on no padding before the video."""
        return self.clock(self.front)

    def unpadded(self, frames: int) -> range:
        """The elements of a video of so many frames that have seen padding neither before nor after it."""
        # a first element that waits for a later one has seen what that has seen: its span alone tells
        whole = min(self.back(frames), self.hi.count_through(frames - 1))
        return range(self.front, max(self.front, whole))

    @property
    def pace(self) -> Fraction:
        """Ticks from one element of a window to the next, on average."""
        return self.clock.rate * self.grid

    def count(self, frames: int) -> int:
        """Elements of a video of so many frames."""
        return max(0, self.length(frames))


def input_timing(rate: int = 1, grid: int = 1) -> Timing:
    """An input that has a frame at every ``rate``-th tick, of which a clip takes one in ``grid``."""
    ticks, length = affine(rate, 0), floor_ratio(rate - 1, rate)
    return Timing(ticks, ticks, ticks, length, length, grid)


@dataclass(frozen=True)
class Reading:
    """One input of an operation.

    Attributes:
        awaits: the element of it that the first output waits for, whatever the index map says; None: no such element.
    """

    timing: Timing
    index: IndexMap
    awaits: int | None = None

    @property
    def clock(self) -> Periodic:
        return self._bounded(self.timing.clock, self.timing.clock.after(self.index.last))

    @property
    def hi(self) -> Periodic:
        return self._bounded(self.timing.hi, self.timing.hi.after(self.index.last))

    @property
    def front(self) -> int:
        """Leading elements of the output that read padding, or what has seen it."""
        return self.index.first.count_through(self.timing.front - 1)

    @property
    def back(self) -> Periodic:
        """Frames of video to the first element of the output that reads padding after it, or what has seen it."""
        return self.index.last.counts.after(self.timing.back + -1)

    def _bounded(self, of_input: Periodic, read: Periodic) -> Periodic:
        return read if self.awaits is None else read.at_least(of_input(self.awaits))


def timing_after(readings: Sequence[Reading], grid: int = 1) -> Timing:
    """The timing of an output from those of its inputs: e, hi are maxima, lo and length minima.

    The elements that are read must come at one rate.
    """
    length = _shortest(tuple(reading.index.length.after(reading.timing.length) for reading in readings))
    return Timing(
        # where elements are cut off at the end, one is there to be cut until the video is longer
        clock=maximum((*(reading.clock for reading in readings), _existence(length))),
        lo=minimum(tuple(reading.timing.lo.after(reading.index.first) for reading in readings)),
        hi=maximum(tuple(reading.hi for reading in readings)),
        length=length,
        back=_shortest((length, *(reading.back for reading in readings))),
        grid=grid,
        front=max(0, *(reading.front for reading in readings)),
    )


def _existence(length: Periodic) -> Periodic:
    """Element to the tick from which on every longer video has it."""
    return length.counts + -1


def _shortest(lengths: tuple[Periodic, ...]) -> Periodic:
    return lengths[0] if len(set(lengths)) == 1 else minimum(lengths)

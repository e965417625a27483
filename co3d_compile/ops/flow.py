"""The ways in which an operation treats time. The ways are few, the operations many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from co3d_compile.clock.timing import SAME, IndexMap, sliding_map, trailing_map, window_map
from co3d_compile.layout import Layout


class Divisor(Enum):
    """What a mean over taps is divided by near the ends of the video (torch's average pools)."""

    KERNEL = "kernel"  # always the kernel's size
    PADDED = "padded"  # the taps within the padded extent
    VALID = "valid"  # the taps that are elements


class Way(Enum):
    """How output elements follow from input elements."""

    ALONE = "alone"  # from the elements of the same number
    WINDOW = "window"  # from some neighbours of one input
    REINDEX = "reindex"  # one input element under another number
    COLLAPSE = "collapse"  # from a window that the original takes for the whole clip
    GATE = "gate"  # a collapse that is broadcast back onto the stream, under a policy


@dataclass(frozen=True)
class Taps:
    """The elements that output n reads of each streaming input: ``index.first(n) + dilation*j``, ``j < count``.

    Attributes:
        fill: what stands for an element before the first or after the last; None where there is none to read.
        partial: elements that are missing at the ends are left out, and the operation runs on fewer.
        repeats: the one element read stands for a clip of so many (a gate made from a still clip).
        divisor: what an average is divided by where taps are missing.
        padding: elements of padding before and after, for ``Divisor.PADDED``.
    """

    index: IndexMap = SAME
    count: int = 1
    dilation: int = 1
    fill: float | None = None
    partial: bool = False
    repeats: int = 1
    divisor: Divisor = Divisor.KERNEL
    padding: tuple[int, int] = (0, 0)

    def share(self, n: int, length: int) -> float:
        """``count`` over the number of taps that output n is divided by, for an input of ``length`` elements."""
        if self.divisor is Divisor.KERNEL:
            return 1.0
        before, after = self.padding if self.divisor is Divisor.PADDED else (0, 0)
        first = self.index.first(n)
        counted = sum(-before <= first + j * self.dilation < length + after for j in range(self.count))
        return self.count / counted


ONE = Taps()


@dataclass(frozen=True)
class Flow:
    """What an operation does to time.

    Attributes:
        layouts: one per output tensor.
        still: a clip of equal frames gives what one of them gives (a mean, not a sum).
        resizable: the operation takes a window of another width than the clip's.
    """

    way: Way
    layouts: tuple[Layout, ...]
    taps: Taps = ONE
    still: bool = False
    resizable: bool = False


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
) -> Flow:
    index = window_map(kernel, stride, dilation, before, after, ceil_mode=ceil_mode)
    taps = Taps(index, kernel, dilation, fill, divisor=divisor, padding=(before, after))
    return Flow(Way.WINDOW, (layout,), taps)


def reindexed(layout: Layout, index: IndexMap, fill: float) -> Flow:
    return Flow(Way.REINDEX, (layout,), Taps(index, fill=fill))


def collapsed(*layouts: Layout, width: int, still: bool = False, resizable: bool = False) -> Flow:
    """The original takes all ``width`` elements of its clip; the stream takes a window of so many."""
    return Flow(Way.COLLAPSE, layouts, Taps(sliding_map(width), width), still, resizable)


def frame_gate(flow: Flow, layouts: tuple[Layout, ...], width: int) -> Flow:
    """A gate made from each frame, as from a clip of ``width`` such frames."""
    return replace(flow, way=Way.GATE, layouts=layouts, taps=Taps(repeats=1 if flow.still else width))


def window_gate(flow: Flow, layouts: tuple[Layout, ...], width: int) -> Flow:
    """A gate made from the last ``width`` elements, from fewer at the start."""
    return replace(flow, way=Way.GATE, layouts=layouts, taps=Taps(trailing_map(width), width, partial=True))

"""The original on a whole video where it takes no more than a clip: put together from its windows.

Code such as ``x.view(4, 8, c, h, w)`` fails on a longer video, or folds it otherwise. What stands before it is on
record from the run on the whole video; what reads neighbours behind it is right, in a window, wherever all that it
reads lies in that window. Windows overlap, so its elements on the whole video are found one by one, and replace it in
the windows in which the next such operation is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from co3d_compile.ops.flow import Taps, Way
from co3d_compile.plan.plan import Plan, PlanNode, timing_of
from co3d_compile.runtime.elements import block_length, joined_elements, part_of_block
from co3d_compile.verification.oracle import Oracle, Record


@dataclass(frozen=True)
class Windows:
    """The windows of a video on which the original runs.

    Attributes:
        frames: of the video.
        ticks: of a window.
        apart: ticks from one window to the next.
        clip: the inputs of the window that starts at a tick.
    """

    frames: int
    ticks: int
    apart: int
    clip: Callable[[int], list[Tensor]]

    @property
    def starts(self) -> range:
        return range(0, self.frames - self.ticks + 1, self.apart)

    @property
    def reach_the_end(self) -> bool:
        return (self.frames - self.ticks) % self.apart == 0


def reliable(plan: Plan, record: Record, frames: int) -> Record:
    """The record up to the first tensor that has not as many elements as its whole video has."""
    kept: dict[str, Tensor] = {}
    for name, tensor in record.tensors.items():
        value = plan.values[name]
        timing = timing_of(value)
        count = -(-timing.count(frames) // timing.grid)
        if tuple(tensor.shape) != value.layout.solid().running_shape(count, value.layout.batch):
            return Record(kept, record.stopped or f"{value.path or name} has shape {tuple(tensor.shape)} there")
        kept[name] = tensor
    return Record(kept, record.stopped)


def stitch(plan: Plan, oracle: Oracle, record: Record, windows: Windows) -> frozenset[str]:
    """Add to the record what reads neighbours and is not on it (native rates).

    Returns:
        The values whose elements on the whole video stay unknown: those that could not be found, and what reads them.
    """
    unknown: set[str] = set()
    for node in plan.nodes:
        name = node.outputs[0]
        if name in record.tensors:
            continue
        if not unknown.isdisjoint(node.reads):
            unknown.update(node.outputs)
        elif node.way is Way.MIXING:
            if all(read in record.tensors for read in oracle.mixtures.sources(node)):
                record.tensors[name] = oracle.mixtures.result(node, record.tensors)
            else:
                unknown.update(node.outputs)
        elif name not in oracle.gates.behind and _reads_beyond(plan, node, windows):
            found = _elements(plan, oracle, record, windows, node) if name in oracle.replaceable else {}
            count = plan.length(name, windows.frames)
            if len(found) < count or not windows.reach_the_end:
                unknown.update(node.outputs)
            elif count:
                layout = plan.values[name].layout
                record.tensors[name] = joined_elements([found[n] for n in range(count)], layout, layout.batch)
    return frozenset(unknown)


def _reads_beyond(plan: Plan, node: PlanNode, windows: Windows) -> bool:
    """What it gives in a window differs from what it gives in the video: it reads padding at the window's ends."""
    if node.way not in (Way.WINDOW, Way.REINDEX) or not plan.values[node.outputs[0]].has_time:
        return False
    last = plan.timing(node.outputs[0]).count(windows.ticks) - 1
    return any(
        taps.first(0) < begin or taps.index.last(last) >= end
        for taps, begin, end in _windows_read(plan, node, windows, 0)
    )


def _elements(plan: Plan, oracle: Oracle, record: Record, windows: Windows, node: PlanNode) -> Mapping[int, Tensor]:
    name = node.outputs[0]
    layout = plan.values[name].layout
    found: dict[int, Tensor] = {}
    for start in windows.starts:
        made = oracle.windows(record, windows.clip(start), start, windows.ticks, also={name}).get(name)
        if made is None:
            return {}
        first = int(start / plan.timing(name).pace)
        for place in _true_places(plan, node, windows, start, block_length(made, layout, layout.batch)):
            found.setdefault(first + place, part_of_block(made, layout, layout.batch, place, 1).clone())
    return found


def _true_places(plan: Plan, node: PlanNode, windows: Windows, start: int, count: int) -> Iterator[int]:
    """Places in a window whose elements read nothing beyond it, but for the video's own ends."""
    first = int(start / plan.timing(node.outputs[0]).pace)
    is_first, is_last = start == 0, start + windows.ticks == windows.frames
    for place in range(count):
        if all(
            (is_first or taps.first(first + place) >= begin) and (is_last or taps.index.last(first + place) < end)
            for taps, begin, end in _windows_read(plan, node, windows, start)
        ):
            yield place


def _windows_read(plan: Plan, node: PlanNode, windows: Windows, start: int) -> Iterator[tuple[Taps, int, int]]:
    """How a node reads each of its operands, and which elements of it a window holds."""
    for name, taps in zip(node.reads, node.taps, strict=True):
        timing = plan.timing(name)
        begin = int(start / timing.pace)
        yield taps, begin, begin + timing.count(windows.ticks)

"""The original on a whole video where it takes no more than a clip: put together from its windows.

Code such as ``x.view(4, 8, c, h, w)`` fails on a longer video, or folds it otherwise. What stands before it is on
record from the run on the whole video; what reads neighbours behind it is right, in a window, wherever all that it
reads lies in that window. Windows overlap, so its elements on the whole video are found one by one, and replace it in
the windows in which the next such operation is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from co3d_compile.ops.flow import Taps, Way
from co3d_compile.plan.plan import Plan, PlanNode, timing_of
from co3d_compile.runtime.elements import joined_elements, part_of_block
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
    """Add to the record what a window by itself does not give as the video does (native rates).

    Returns:
        The values whose elements stay unknown: those that could not be found, and what reads them.
    """
    known = _Known(plan, oracle, record, windows)
    for node in plan.nodes:
        known.follow(node)
    return frozenset(known.unknown)


class _Known:
    """Per value and window, the elements that the window gives as the whole video does.

    What reads neighbours knows fewer than its window holds. If its call in the original is known, its elements are put
    together from all windows, and from then on replaced there; else, what reads it knows as few.
    """

    def __init__(self, plan: Plan, oracle: Oracle, record: Record, windows: Windows) -> None:
        self._plan = plan
        self._oracle = oracle
        self._record = record
        self._windows = windows
        self._ranges: dict[tuple[str, int], range] = {}
        # a gate that is not on record would be made from the window alone
        self._joins = {node.name for node in oracle.gates.joins} - record.tensors.keys()
        self.unknown: set[str] = set()

    def follow(self, node: PlanNode) -> None:
        name = node.outputs[0]
        if not self._follows(node):
            return
        if node.way is Way.MIXING:
            self._mix(node)
        elif name in self._joins:
            self._join(node)
        elif not self.unknown.isdisjoint(node.reads) or (not self._has_time(node) and not self._reads_whole(node)):
            self.unknown.update(node.outputs)
        elif self._has_time(node):
            ranges = {start: self._range(node, start) for start in self._windows.starts}
            if any(ranges[start] != self._window(name, start) for start in ranges) and not self._put_together(
                node, ranges
            ):
                self._ranges |= {(output, start): ranges[start] for output in node.outputs for start in ranges}
                if name not in self._record.tensors:
                    self.unknown.update({name} & {output.value for output in self._plan.outputs})

    def _follows(self, node: PlanNode) -> bool:
        """It is not replaced in the windows anyway, and no other comparison takes care of it."""
        name = node.outputs[0]
        replaced = name in self._record.tensors and self._oracle.replaces(name)
        return not replaced and node.way is not Way.RECURRENT and name not in self._oracle.gates.behind

    def _mix(self, node: PlanNode) -> None:
        mixtures, tensors = self._oracle.mixtures, self._record.tensors
        if self._find(mixtures.sources(node)):
            tensors[node.outputs[0]] = mixtures.result(node, tensors)
        else:
            self.unknown.update(node.outputs)

    def _join(self, node: PlanNode) -> None:
        name = node.outputs[0]
        if name in self._oracle.replaceable and self._find(self._oracle.gates.needed(name)):
            self._record.tensors[name] = self._oracle.gated(self._record, name)
        else:
            self.unknown.update(node.outputs)

    def _find(self, names: Iterable[str]) -> bool:
        """Whether all elements of some values are on record, or could be put there from windows."""
        tensors = self._record.tensors
        for name in names:
            if name in tensors:
                continue
            found = None if name in self.unknown else self._from_windows(name, self._known)
            if found is None:
                return False
            tensors[name] = found
        return True

    def _put_together(self, node: PlanNode, ranges: Mapping[int, range]) -> bool:
        """Put the elements on the record, each from a window that knows it, and replace them in windows."""
        name = node.outputs[0]
        if name not in self._oracle.replaceable or not self._windows.reach_the_end:
            return False
        if name not in self._record.tensors:
            found = self._from_windows(name, lambda _, start: ranges[start])
            if found is None:
                return False
            self._record.tensors[name] = found
        self._record.stitched.add(name)
        return True

    def _from_windows(self, name: str, known: Callable[[str, int], range]) -> Tensor | None:
        """All elements of a value, each from a window that knows it."""
        if name not in self._oracle.observable or not self._windows.reach_the_end:
            return None
        layout, count = self._plan.values[name].layout, self._plan.length(name, self._windows.frames)
        found: dict[int, Tensor] = {}
        for start in self._windows.starts:
            made = self._made(name, start)
            if made is None:
                return None
            first = self._window(name, start).start
            for n in known(name, start):
                found.setdefault(n, part_of_block(made, layout, layout.batch, n - first, 1).clone())
        if not count or len(found) < count:
            return None
        return joined_elements([found[n] for n in range(count)], layout, layout.batch)

    def _made(self, name: str, start: int) -> Tensor | None:
        clip = self._windows.clip(start)
        return self._oracle.windows(self._record, clip, start, self._windows.ticks, also={name}).get(name)

    def _range(self, node: PlanNode, start: int) -> range:
        """The elements of a window that read known ones alone, and nothing beyond it but the video's own ends."""
        known = [
            n
            for n in self._window(node.outputs[0], start)
            if all(self._reads_known(name, taps, n, start) for name, taps in zip(node.reads, node.taps, strict=True))
        ]
        return range(known[0], known[-1] + 1) if known else range(0)

    def _reads_known(self, name: str, taps: Taps, n: int, start: int) -> bool:
        if not self._plan.values[name].has_time:
            return True
        there, known = self._window(name, start), self._known(name, start)
        at_start = start == 0 and known.start == there.start
        at_end = start + self._windows.ticks == self._windows.frames and known.stop == there.stop
        return (
            bool(known) and (at_start or taps.first(n) >= known.start) and (at_end or taps.index.last(n) < known.stop)
        )

    def _reads_whole(self, node: PlanNode) -> bool:
        return all(
            self._known(name, start) == self._window(name, start)
            for name in node.reads
            for start in self._windows.starts
            if self._plan.values[name].has_time
        )

    def _known(self, name: str, start: int) -> range:
        return self._ranges.get((name, start), self._window(name, start))

    def _window(self, name: str, start: int) -> range:
        """The elements of a value that a window holds."""
        timing = self._plan.timing(name)
        first = int(start / timing.pace)
        return range(first, first + timing.count(self._windows.ticks))

    def _has_time(self, node: PlanNode) -> bool:
        return self._plan.values[node.outputs[0]].has_time

"""What the original gives: on a whole video as far as it goes, and on every window with true neighbours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from co3d_compile.layout import Layout
from co3d_compile.ops.flow import Way
from co3d_compile.plan.plan import Plan, PlanNode
from co3d_compile.program.program import Program
from co3d_compile.runtime.elements import block_length, part_of_block
from co3d_compile.verification.adaptive import adaptive_pools
from co3d_compile.verification.courses import Course, course_of
from co3d_compile.verification.gates import GatedJoins, replacements_of
from co3d_compile.verification.matching import Matching
from co3d_compile.verification.mixtures import Mixtures
from co3d_compile.verification.recording import Replacement, Watch, put_in_place
from co3d_compile.verification.sampling import EvenChoices

Run = Callable[[Sequence[Tensor]], list[Tensor]]
"""Calls the original on flat tensors and gives its output tensors flat."""


@dataclass
class Record:
    """Results of the original's run on the whole video, by node.

    Attributes:
        stopped: why the original stopped before its end, or empty.
        stitched: what was put together from windows.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    stopped: str = ""
    stitched: set[str] = field(default_factory=set)


class Oracle:
    """The original under observation.

    Args:
        run: calls the original.
    """

    def __init__(self, plan: Plan, program: Program, matching: Matching, run: Run) -> None:
        self._plan = plan
        self._matching = matching
        self._run = run
        self._current: dict[str, Tensor] = {}
        self.gates = GatedJoins(plan, program, self._current.__getitem__)
        self.mixtures = Mixtures(plan, program, self._current.__getitem__)
        self.choices = EvenChoices(plan, program)
        self._anchors = self._neighbour_readers()

    def record(self, video: Sequence[Tensor]) -> Record:
        """Run on the whole video; keep every tensor with time that the stream computes too.

        Where a longer video makes other calls than the clip does, as in a loop over frames, it takes a second run to
        tell which of them are the same.
        """
        clip = self._matching.operators
        course = course_of(clip, clip, ended=True)
        watch, stopped = self._watched(video, course, clip)
        if watch.astray:
            course = course_of(clip, watch.operators, ended=not stopped)
            watch, stopped = self._watched(video, course)
        for name in self._behind_grown_kernels(watch.literals, course):
            self._current.pop(name, None)
        return Record(dict(self._current), stopped)

    def _watched(self, video: Sequence[Tensor], course: Course, expected: list[str] | None = None) -> tuple[Watch, str]:
        """Note what a run on a video computes; also returns why it stopped before its end, or an empty text."""
        self._current.clear()
        self._current |= {one.value: tensor for one, tensor in zip(self._plan.inputs, video, strict=True)}
        wanted = self._named_calls()

        def note(number: int, operator: str, result: Tensor) -> None:
            place = course.in_clip(number)
            for name in () if place is None else wanted.get(place, ()):
                # a model may lay out a longer video otherwise than a clip, as by windows of so many frames
                if _fits(result, self._plan.values[name].layout):
                    self._current[name] = result.detach().clone()

        replacements = {
            place: replacement
            for number, replacement in self._replacements().items()
            if (place := course.in_longer(number)) is not None
        }
        watch = Watch(note, replacements, expected)
        try:
            with watch:
                outputs = list(zip(self._plan.outputs, self._run(video), strict=True))
        except Exception as stop:
            return watch, str(stop).splitlines()[0] if str(stop) else type(stop).__name__
        for output, tensor in outputs:
            if output.carried and self._plan.values[output.value].has_time:
                self._current.setdefault(output.value, tensor.detach().clone())
        return watch, ""

    def _replacements(self) -> dict[int, Replacement]:
        return {
            **replacements_of(self.gates, self._matching.calls),
            **self.mixtures.replacements(self._matching.calls),
            **self.choices.replacements(self._matching.calls),
            **adaptive_pools(self._plan, self._matching.calls),
        }

    def _behind_grown_kernels(self, literals: Sequence[tuple[Any, ...]], course: Course) -> set[str]:
        """Values behind pools whose kernels follow from the clip's length: what a longer video gives is no window."""
        grown: set[str] = set()
        for node in self._plan.nodes:
            call = self._matching.calls.get(node.name)
            place = None if call is None else course.in_longer(call)
            differs = (
                call is not None
                and place is not None
                and place < len(literals)
                and literals[place] != self._matching.literals[call]
            )
            if not grown.isdisjoint(node.reads) or ("kernel_size" in node.arguments and differs):
                grown.update(node.outputs)
        return grown

    def replaces(self, name: str) -> bool:
        """What is on record of this value takes its place in windows."""
        return name in self._anchors

    @property
    def observable(self) -> Collection[str]:
        """Nodes whose call in the original is known."""
        return self._matching.calls.keys()

    def gated(self, record: Record, name: str) -> Tensor:
        """A join of gates on the whole video, from what is on record of what it needs."""
        self._current.clear()
        self._current |= record.tensors
        return self.gates.whole(name)

    @property
    def replaceable(self) -> Collection[str]:
        """Nodes whose call in the original is known, and makes a tensor of its own."""
        return self._matching.replaceable

    def windows(
        self,
        record: Record,
        clip: Sequence[Tensor],
        first_tick: int,
        ticks: int,
        *,
        also: Collection[str] = (),
        longer: bool = False,
    ) -> dict[str, Tensor]:
        """Run on one clip of ``ticks``, every convolution and pool replaced by its results from ``first_tick`` on.

        Args:
            also: nodes whose results are asked for beside those below.
            longer: than the example clip, so that a loop over frames makes more calls.

        Returns:
            Values of nodes without time, and the outputs, by name.
        """
        course = self._course(clip, longer=longer)
        made: dict[str, Tensor] = {}
        wanted = self._named_calls(with_time=False)
        for name in also:
            wanted.setdefault(self._matching.calls[name], []).append(name)
        self._current.clear()
        for name in self.gates.sources & record.tensors.keys():
            self._current[name] = record.tensors[name]

        def note(number: int, operator: str, result: Tensor) -> None:
            place = course.in_clip(number)
            for name in () if place is None else wanted.get(place, ()):
                made[name] = result.detach().clone()

        replacements: dict[int, Replacement] = {}
        for name in (self._anchors | record.stitched) & record.tensors.keys():
            place = course.in_longer(self._matching.calls[name])
            if place is not None:
                replacements[place] = self._slice(record.tensors[name], name, first_tick, ticks)
        with Watch(note, replacements):
            outputs = self._run(clip)
        made |= {output.value: value for output, value in zip(self._plan.outputs, outputs, strict=True)}
        return made

    def _course(self, clip: Sequence[Tensor], *, longer: bool) -> Course:
        """Which of the calls on these inputs are which of the example clip's."""
        operators = self._matching.operators
        if not longer:
            return course_of(operators, operators, ended=True)
        with Watch(lambda number, operator, result: None) as watch:
            self._run(clip)
        return course_of(operators, watch.operators, ended=True)

    def finite(self, video: Sequence[Tensor]) -> dict[str, list[bool]]:
        """For each tensor with time: which of its elements hold no NaN, for a video that does."""
        clean: dict[str, list[bool]] = {}
        for name, tensor in self.record(video).tensors.items():
            layout = self._plan.values[name].layout
            count = block_length(tensor, layout, layout.batch)
            clean[name] = [
                not part_of_block(tensor, layout, layout.batch, n, 1).isnan().any().item() for n in range(count)
            ]
        return clean

    def _slice(self, whole: Tensor, name: str, first_tick: int, ticks: int) -> Replacement:
        value = self._plan.values[name]
        assert value.timing is not None
        count = -(-value.timing.count(ticks) // value.timing.grid)
        # a branch that other outputs read may have fewer elements here; what it gives then is not compared
        first = min(int(first_tick / value.timing.pace), block_length(whole, value.layout, value.layout.batch) - count)

        def replace(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            part = part_of_block(whole, value.layout, value.layout.batch, first, count)
            return put_in_place(func, args, part.clone(), since_start=first_tick == 0)

        return replace

    def _neighbour_readers(self) -> set[str]:
        """Convolutions, pools and what else reads neighbours in time, what is carried on, and the joins of gates."""
        ways = (Way.WINDOW, Way.REINDEX, Way.MIXING)
        readers = {one.name for one in self._plan.nodes if one.way in ways or _convolves(one)}
        readers |= carried_values(self._plan)
        with_time = {name for name in readers & self._plan.values.keys() if self._plan.values[name].has_time}
        with_time -= self.gates.behind
        return (with_time | {node.name for node in self.gates.joins}) & self._matching.replaceable

    def _named_calls(self, *, with_time: bool = True) -> dict[int, list[str]]:
        named: dict[int, list[str]] = {}
        for name, call in self._matching.calls.items():
            value = self._plan.values.get(name)
            if (
                value is not None
                and value.timing is not None
                and value.has_time is with_time
                and name not in self.gates.behind
            ):
                named.setdefault(call, []).append(name)
        return named


def _fits(tensor: Tensor, layout: Layout) -> bool:
    """It is some elements of the layout."""
    dim = layout.time_dim
    if dim is None or tensor.dim() != layout.rank:
        return dim is None
    return tuple(tensor.shape) == layout.solid().running_shape(block_length(tensor, layout, layout.batch), layout.batch)


def carried_values(plan: Plan) -> set[str]:
    """The values that what is carried on goes into."""
    found: set[str] = set()
    for node in plan.nodes:
        if node.way is Way.RECURRENT or found.intersection(node.reads):
            found.update(node.outputs)
    return found


def _convolves(node: PlanNode) -> bool:
    return node.target.startswith("aten.conv")


def poisoned(video: Sequence[Tensor], time_axes: Sequence[int], rates: Sequence[int], tick: int) -> list[Tensor]:
    """The video with NaN in every frame from ``tick`` on."""
    spoiled = [tensor.clone() for tensor in video]
    for tensor, axis, rate in zip(spoiled, time_axes, rates, strict=True):
        first = -(-tick // rate)
        tensor.narrow(axis, first, tensor.shape[axis] - first).fill_(torch.nan)
    return spoiled


def elements_of(tensor: Tensor, layout: Layout) -> list[Tensor]:
    """A tensor's elements along time."""
    count = block_length(tensor, layout, layout.batch)
    return [part_of_block(tensor, layout, layout.batch, n, 1) for n in range(count)]

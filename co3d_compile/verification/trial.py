"""Both sides of one comparison, and how each of the original's tensors is held against the stream's elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import lcm

from torch import Tensor

from co3d_compile.ops.flow import Way
from co3d_compile.plan.plan import Plan
from co3d_compile.runtime.start import last_tick
from co3d_compile.verification.comparing import Elements, Tally, roundings_of
from co3d_compile.verification.oracle import Oracle, Record, carried_values, elements_of
from co3d_compile.verification.result import CHOSEN, GATED, PASTS, WHOLE, WINDOWS


@dataclass(frozen=True)
class Trial:
    """Both sides of one comparison.

    Attributes:
        record: the original's tensors on the whole video.
        streamed: the network's elements on the same frames.
        video: what the original saw: at a dense rate, from frame ``phase`` on, what the strided network takes of it.
        ticks: of a clip on which the original's windows are replayed.
        phase: the first frame that the original saw; 0 but at a dense rate.
        stop: the frame before which its video was cut, or the end of the stream's.
    """

    plan: Plan
    oracle: Oracle
    record: Record
    streamed: Elements
    frames: int
    video: Sequence[Tensor]
    ticks: int
    phase: int
    stop: int

    @property
    def seen(self) -> int:
        """Frames of the original's video."""
        return self.stop - self.phase

    @property
    def remark(self) -> str:
        gated = GATED if self.oracle.gates.joins or self.oracle.mixtures.ends else ""
        return gated + (CHOSEN if self.oracle.choices.chosen else "")

    def number(self, name: str, n: int) -> int:
        """The stream's number of the original's element n."""
        return self.phase + n * self.plan.timing(name).grid

    def clip(self, first: int, ticks: int | None = None) -> list[Tensor]:
        """The original's inputs from a tick on: for a window, or for so many ticks."""
        parts = []
        for one, tensor in zip(self.plan.inputs, self.video, strict=True):
            pace = one.rate * one.grid
            start, stop = -(-first // pace), -(-(first + (ticks or self.ticks)) // pace)
            parts.append(tensor.narrow(one.time_axis, start, stop - start))
        return parts

    def compares(self, name: str, number: int) -> bool:
        """The original saw the same frames: where its video is cut, the stream saw some, the original its padding."""
        if name not in self.outputs and self.plan.timing(name).clock(number) > self.end:
            return False  # the original makes it and cuts it off
        timing = self.plan.timing(name)
        if self.stop < self.frames and timing.clock(number) >= self.stop:
            return False
        return self.phase == 0 or (timing.lo(number) >= self.phase and number - self.phase >= timing.front)

    @cached_property
    def roundings(self) -> dict[str, float]:
        return roundings_of(self.plan)

    @cached_property
    def outputs(self) -> frozenset[str]:
        return frozenset(output.value for output in self.plan.outputs)

    @cached_property
    def end(self) -> int:
        """The tick at which the stream has brought out everything."""
        return last_tick(self.plan, self.frames)


def phases(plan: Plan) -> int:
    """Frames from one window of the strided network to the next, at a dense rate; else 1."""
    return lcm(*(timing.grid for timing in plan.node_timings))


def strided(plan: Plan, video: Sequence[Tensor], phase: int, stop: int | None = None) -> list[Tensor]:
    """What the strided network takes of a video from frame ``phase`` on, and before frame ``stop``."""
    return [
        tensor[(slice(None),) * one.time_axis + (slice(phase, stop, one.grid),)]
        for one, tensor in zip(plan.inputs, video, strict=True)
    ]


def tally_whole(trial: Trial, tallies: dict[str, Tally]) -> None:
    for name, tensor in trial.record.tensors.items():
        if name in trial.streamed:
            tally = _tally(trial, tallies, name, WHOLE)
            _compare_elements(trial, tally, name, 0, elements_of(tensor, trial.plan.values[name].layout))
            _note_extra(trial, tally, name)


def tally_windows(trial: Trial, tallies: dict[str, Tally]) -> None:
    """Tensors without time, and outputs that the whole run did not reach, on every window."""
    plan = trial.plan
    # a last state need not be computed from the states that are on record: it is asked of the past
    elsewhere = _unsettled(trial) | _states(plan)
    left = [name for name in trial.streamed if name not in trial.record.tensors and name not in elsewhere]
    outputs = {output.value for output in plan.outputs}
    for first in range(0, trial.seen - trial.ticks + 1, phases(plan)):
        wanted = [name for name in left if (first / plan.timing(name).pace).denominator == 1]
        if outputs.isdisjoint(wanted):
            continue
        made = trial.oracle.windows(trial.record, trial.clip(first), first, trial.ticks)
        for name in wanted:
            if name in made:
                tally = _tally(trial, tallies, name, WINDOWS)
                elements = (
                    elements_of(made[name], plan.values[name].layout) if plan.values[name].has_time else [made[name]]
                )
                _compare_elements(trial, tally, name, int(first / plan.timing(name).pace), elements)
                _note_extra(trial, tally, name)


def tally_past(trial: Trial, tallies: dict[str, Tally]) -> None:
    """Outputs of what is carried on: for each window, the original on all frames up to its end."""
    plan = trial.plan
    left = {out.value for out in plan.outputs if out.carried} & _states(plan)
    for first in range(0, trial.seen - trial.ticks + 1, phases(plan)) if left else ():
        ticks = first + trial.ticks
        made = trial.oracle.windows(trial.record, trial.clip(0, ticks), 0, ticks, longer=True)
        for name in left & made.keys():
            if not plan.values[name].has_time and (first / plan.timing(name).pace).denominator == 1:
                tally = _tally(trial, tallies, name, PASTS)
                _compare_elements(trial, tally, name, int(first / plan.timing(name).pace), [made[name]])
                _note_extra(trial, tally, name)


def _tally(trial: Trial, tallies: dict[str, Tally], name: str, against: str) -> Tally:
    return tallies.setdefault(name, Tally(trial.plan.values[name], against + trial.remark, trial.roundings[name]))


def _unsettled(trial: Trial) -> set[str]:
    """The values that what is carried on goes into, but for those that follow from what is on record of it."""
    found: set[str] = set()
    for node in trial.plan.nodes:
        on_record = node.outputs[0] in trial.record.tensors
        if not on_record and (node.way is Way.RECURRENT or found.intersection(node.reads)):
            found.update(node.outputs)
    return found


def _states(plan: Plan) -> set[str]:
    """What the last element alone of what is carried goes into: a mean over a window of states is in no clip."""
    carried, found = carried_values(plan), set[str]()
    for node in plan.nodes:
        if node.way is Way.COLLAPSE and carried.intersection(node.reads):
            last = node.target == "aten.select.int" and node.arguments["index"] in (-1, node.reading.count - 1)
            found.update(node.outputs if last else ())
        elif (read := carried.intersection(node.reads)) and read <= found:
            found.update(node.outputs)
    return found


def _compare_elements(trial: Trial, tally: Tally, name: str, first: int, elements: Sequence[Tensor]) -> None:
    """Elements first, first+1, ... of the original with those of the stream."""
    for place, element in enumerate(elements):
        number = trial.number(name, first + place)
        if trial.compares(name, number):
            tally.compare(number, element, trial.streamed[name].get(number))


def _note_extra(trial: Trial, tally: Tally, name: str) -> None:
    tally.extra(n for n in trial.streamed[name] if n >= trial.plan.length(name, trial.frames))

"""Compare a compiled network with its original, element by element, tick by tick."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import lcm

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from co3d_compile.capture.capture import trace
from co3d_compile.capture.clip import Clip
from co3d_compile.capture.export import evaluating, quiet
from co3d_compile.errors import InputError, VerificationError
from co3d_compile.ops.flow import Way
from co3d_compile.passes import rewrite
from co3d_compile.passes.loops.counting import count_positions
from co3d_compile.passes.loops.recognition import roll_loops
from co3d_compile.passes.own import ProgramPass, pass_name
from co3d_compile.passes.time_axes import read_at
from co3d_compile.plan.plan import Plan
from co3d_compile.program.interpret import run_graph
from co3d_compile.program.program import Program
from co3d_compile.runtime.module import StreamingModule
from co3d_compile.runtime.start import last_tick
from co3d_compile.verification.comparing import Elements, Tally, stream_elements
from co3d_compile.verification.matching import match_calls
from co3d_compile.verification.oracle import Oracle, Record, carried_values, elements_of, poisoned
from co3d_compile.verification.result import GATED, PASTS, WHOLE, WINDOWS, Comparison, Verification
from co3d_compile.verification.stitching import Windows, reliable, stitch
from co3d_compile.verification.video import wandering_video

Original = nn.Module | ExportedProgram


def verify(
    network: StreamingModule,
    model: Original,
    *,
    frames: int | None = None,
    seed: int = 0,
    passes: Sequence[ProgramPass] = (),
) -> Verification:
    """Run the original on a whole random video and the stream on the same frames, from the first through the end.

    Args:
        model: the original; it is not changed.
        frames: length of the video; None: the clip and two periods of the network.
        passes: the user's own, with which the network was compiled.

    Raises:
        VerificationError: the model is not the one that the network was compiled from.
        InputError: the video is shorter than the clip, or these are not the passes.
    """
    plan = network.plan
    _require_passes(plan, passes)
    ticks = window_ticks(plan)
    # as many more than the clip as keep its place in the period: a model may pad by what its strides leave over
    frames = ticks + 2 * plan.period * _phases(plan) if frames is None else frames
    if frames < ticks:
        raise InputError(f"a video of {frames} frames is shorter than the window of {ticks}\n  try: more frames")
    if not isinstance(model, nn.Module):
        with quiet():
            return _verified(network, model, passes, frames, seed)
    with evaluating(model), quiet():
        result = _verified(network, model, passes, frames, seed)
        if result.passed or network.weights.dtype is not torch.float32 or not _may_be_rounding(result):
            return result
        again = _verified(copy.deepcopy(network).double(), copy.deepcopy(model).double(), passes, frames, seed)
        return replace(result, in_double=again)


def _require_passes(plan: Plan, passes: Sequence[ProgramPass]) -> None:
    given = tuple(pass_name(own) for own in passes)
    if given != plan.passes:
        raise InputError(
            f"the network was compiled with the passes {', '.join(plan.passes) or '(none)'}, not "
            f"{', '.join(given) or '(none)'}\n  try: verify(model, passes=[...]) with those"
        )


def _may_be_rounding(result: Verification) -> bool:
    return bool(result.outputs) and all(one.may_be_rounding for one in (*result.outputs, *result.intermediates))


def window_ticks(plan: Plan) -> int:
    """Ticks of a clip that gives every window over time the elements that the stream takes together."""
    clip = max(one.clip_ticks for one in plan.inputs)
    for node in plan.nodes:
        source = plan.values[node.reads[0]]
        if node.way is Way.COLLAPSE:
            while plan.length(source.name, clip) < node.reading.count:
                clip += 1
    return clip


@dataclass(frozen=True)
class _Trial:
    """Both sides of one comparison.

    Attributes:
        record: the original's tensors on the whole video.
        streamed: the network's elements on the same frames.
        video: what the original saw: at a dense rate, from frame ``phase`` on, what the strided network takes of it.
        ticks: of a clip on which the original's windows are replayed.
        phase: the first frame that the original saw; 0 but at a dense rate.
    """

    plan: Plan
    oracle: Oracle
    record: Record
    streamed: Elements
    frames: int
    video: Sequence[Tensor]
    ticks: int
    phase: int

    @property
    def remark(self) -> str:
        return GATED if self.oracle.gates.joins or self.oracle.mixtures.ends else ""

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
        """The original saw the same frames: before a later phase, the stream saw frames, the original its padding."""
        if name not in self.outputs and self.plan.timing(name).clock(number) > self.end:
            return False  # the original makes it and cuts it off
        return self.phase == 0 or self.plan.timing(name).lo(number) >= self.phase

    @cached_property
    def outputs(self) -> frozenset[str]:
        return frozenset(output.value for output in self.plan.outputs)

    @cached_property
    def end(self) -> int:
        """The tick at which the stream has brought out everything."""
        return last_tick(self.plan, self.frames)


def _verified(
    network: StreamingModule, model: Original, passes: Sequence[ProgramPass], frames: int, seed: int
) -> Verification:
    plan = network.plan
    device = next(iter(network.weights.state_dict().values()), torch.empty(())).device
    clip_ticks = max(one.clip_ticks for one in plan.inputs)
    sample = wandering_video(plan, clip_ticks, seed + 1, device)
    sample = _strided(plan, sample, 0)
    program = _compared(network, model, passes, sample)
    run = _running(model, _traced(network, model, sample) if isinstance(model, ExportedProgram) else program)
    oracle = Oracle(plan, program, match_calls(program, run, sample), run)
    video = wandering_video(plan, frames, seed, device)
    streamed = stream_elements(network, video, frames)
    tallies: dict[str, Tally] = {}
    notes: list[str] = []
    unknown: frozenset[str] = frozenset()
    for phase in range(_phases(plan)):
        seen = _strided(plan, video, phase)
        record = reliable(plan, oracle.record(seen), frames - phase)
        trial = _Trial(plan, oracle, record, streamed, frames, seen, window_ticks(plan), phase)
        unknown |= _stitched(trial)
        _tally_whole(trial, tallies)
        _tally_windows(trial, tallies)
        _tally_past(trial, tallies)
        notes = notes or _stop_notes(trial)
    tallies = {name: tally for name, tally in tallies.items() if name not in unknown}
    return _result(plan, frames, tallies, [*notes, *_missing_notes(plan, tallies), *_tick_notes(trial, video)])


def _stitched(trial: _Trial) -> frozenset[str]:
    """Complete the record from windows; returns what stays unknown."""
    windows = Windows(trial.frames - trial.phase, trial.ticks, max(trial.plan.period, _phases(trial.plan)), trial.clip)
    return stitch(trial.plan, trial.oracle, trial.record, windows)


def _phases(plan: Plan) -> int:
    """Frames from one window of the strided network to the next, at a dense rate; else 1."""
    return lcm(*(timing.grid for timing in plan.node_timings))


def _strided(plan: Plan, video: Sequence[Tensor], phase: int) -> list[Tensor]:
    """What the strided network takes of a video from frame ``phase`` on."""
    return [
        tensor[(slice(None),) * one.time_axis + (slice(phase, None, one.grid),)]
        for one, tensor in zip(plan.inputs, video, strict=True)
    ]


def _traced(network: StreamingModule, model: Original, sample: Sequence[Tensor]) -> Program:
    arguments, _ = network.plan.in_structure.filled(sample)
    return trace(model, Clip(tuple(arguments)), network.operations)


def _compared(
    network: StreamingModule, model: Original, passes: Sequence[ProgramPass], sample: Sequence[Tensor]
) -> Program:
    """The program whose nodes have the names of the plan's."""
    plan = network.plan
    program = _traced(network, model, sample)
    program = rewrite(program, passes) if passes else program
    program = count_positions(roll_loops(read_at(program, [one.time_axis for one in plan.inputs])))
    weights = {node.target for node in program.graph.nodes if node.op == "get_attr"}
    if not weights.issuperset(plan.weights) or len(program.output_nodes) != len(plan.outputs):
        raise VerificationError(
            "the model's graph is not the one that this network was compiled from\n"
            "  try: the same model, or compile this one"
        )
    return program


def _running(model: Original, program: Program) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """The original on flat tensors; every list is a fresh one, as models may edit theirs."""
    if isinstance(model, ExportedProgram):
        return lambda tensors: run_graph(program, tensors)
    original = model

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        arguments, _ = pytree.tree_unflatten([tensor.clone() for tensor in tensors], program.in_spec)
        return [leaf for leaf in pytree.tree_leaves(original(*arguments)) if isinstance(leaf, Tensor)]

    return run


def _tally_whole(trial: _Trial, tallies: dict[str, Tally]) -> None:
    for name, tensor in trial.record.tensors.items():
        if name in trial.streamed:
            tally = tallies.setdefault(name, Tally(trial.plan.values[name], WHOLE + trial.remark))
            _compare_elements(trial, tally, name, 0, elements_of(tensor, trial.plan.values[name].layout))
            _note_extra(trial, tally, name)


def _tally_windows(trial: _Trial, tallies: dict[str, Tally]) -> None:
    """Tensors without time, and outputs that the whole run did not reach, on every window."""
    plan = trial.plan
    unsettled = _unsettled(trial)
    left = [name for name in trial.streamed if name not in trial.record.tensors and name not in unsettled]
    outputs = {output.value for output in plan.outputs}
    for first in range(0, trial.frames - trial.phase - trial.ticks + 1, _phases(plan)):
        wanted = [name for name in left if (first / plan.timing(name).pace).denominator == 1]
        if outputs.isdisjoint(wanted):
            continue
        made = trial.oracle.windows(trial.record, trial.clip(first), first, trial.ticks)
        for name in wanted:
            if name in made:
                tally = tallies.setdefault(name, Tally(plan.values[name], WINDOWS + trial.remark))
                elements = (
                    elements_of(made[name], plan.values[name].layout) if plan.values[name].has_time else [made[name]]
                )
                _compare_elements(trial, tally, name, int(first / plan.timing(name).pace), elements)
                _note_extra(trial, tally, name)


def _tally_past(trial: _Trial, tallies: dict[str, Tally]) -> None:
    """Outputs of what is carried on: for each window, the original on all frames up to its end."""
    plan = trial.plan
    left = {out.value for out in plan.outputs if out.carried} & _states(plan) & _unsettled(trial)
    for first in range(0, trial.frames - trial.phase - trial.ticks + 1, _phases(plan)) if left else ():
        ticks = first + trial.ticks
        made = trial.oracle.windows(trial.record, trial.clip(0, ticks), 0, ticks, longer=True)
        for name in left & made.keys():
            if not plan.values[name].has_time and (first / plan.timing(name).pace).denominator == 1:
                tally = tallies.setdefault(name, Tally(plan.values[name], PASTS + trial.remark))
                _compare_elements(trial, tally, name, int(first / plan.timing(name).pace), [made[name]])
                _note_extra(trial, tally, name)


def _unsettled(trial: _Trial) -> set[str]:
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


def _compare_elements(trial: _Trial, tally: Tally, name: str, first: int, elements: Sequence[Tensor]) -> None:
    """Elements first, first+1, ... of the original with those of the stream."""
    for place, element in enumerate(elements):
        number = trial.number(name, first + place)
        if trial.compares(name, number):
            tally.compare(number, element, trial.streamed[name].get(number))


def _note_extra(trial: _Trial, tally: Tally, name: str) -> None:
    tally.extra(n for n in trial.streamed[name] if n >= trial.plan.length(name, trial.frames))


def _stop_notes(trial: _Trial) -> list[str]:
    if not trial.record.stopped:
        return []
    return [f"the original stops on a longer video ({trial.record.stopped}); compared up to there"]


def _missing_notes(plan: Plan, tallies: Mapping[str, Tally]) -> list[str]:
    missing = [output.value for output in plan.outputs if output.value not in tallies]
    return [f"output {name} could not be compared" for name in missing]


def _tick_notes(trial: _Trial, video: Sequence[Tensor]) -> list[str]:
    """Elements that came out before the original can know them: NaN in every frame from one tick on shows it."""
    inputs = trial.plan.inputs
    if not all(tensor.is_floating_point() for tensor in video):
        return ["the inputs are integers, so ticks were not checked with NaN"]
    tick = trial.frames // 2
    spoiled = poisoned(video, [one.time_axis for one in inputs], [one.rate for one in inputs], tick)
    notes = []
    for name, clean in trial.oracle.finite(_strided(trial.plan, spoiled, 0)).items():
        timing = trial.plan.timing(name)
        out = min(len(clean), max(0, -(-timing.clock.count_through(tick - 1) // timing.grid)))
        if name in trial.streamed and not all(clean[:out]):
            notes.append(f"{name}: element {clean.index(False)} came out before the original can know it")
    return notes


def _result(plan: Plan, frames: int, tallies: Mapping[str, Tally], notes: list[str]) -> Verification:
    outputs = [tallies[one.value].comparison(one.name) for one in plan.outputs if one.value in tallies]
    names = {output.value for output in plan.outputs}
    inside: list[Comparison] = [
        tallies[node.outputs[0]].comparison(node.name, inside=True)
        for node in plan.nodes
        if node.outputs[0] in tallies and node.outputs[0] not in names
    ]
    return Verification(frames, tuple(outputs), tuple(inside), tuple(notes))

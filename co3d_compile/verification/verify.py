"""Compare a compiled network with its original, element by element, tick by tick."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from co3d_compile.capture.capture import trace
from co3d_compile.capture.clip import Clip
from co3d_compile.capture.export import evaluating, quiet
from co3d_compile.errors import InputError, VerificationError
from co3d_compile.ops.flow import Way
from co3d_compile.plan.plan import Plan
from co3d_compile.program.interpret import run_graph
from co3d_compile.program.program import Program
from co3d_compile.runtime.module import StreamingModule
from co3d_compile.runtime.videos import part_of_video
from co3d_compile.verification.comparing import Elements, Tally, stream_elements
from co3d_compile.verification.matching import match_calls
from co3d_compile.verification.oracle import Oracle, Record, elements_of, poisoned
from co3d_compile.verification.result import GATED, WHOLE, WINDOWS, Comparison, Verification
from co3d_compile.verification.video import wandering_video

Original = nn.Module | ExportedProgram


def verify(network: StreamingModule, model: Original, *, frames: int | None = None, seed: int = 0) -> Verification:
    """Run the original on a whole random video and the stream on the same frames, from the first through the end.

    Args:
        model: the original; it is not changed.
        frames: length of the video; None: the clip, two periods of the network and one frame more.

    Raises:
        VerificationError: the model is not the one that the network was compiled from.
        InputError: the video is shorter than the clip.
    """
    plan = network.plan
    ticks = window_ticks(plan)
    frames = ticks + 2 * plan.period + 1 if frames is None else frames
    if frames < ticks:
        raise InputError(f"a video of {frames} frames is shorter than the window of {ticks}\n  try: more frames")
    if not isinstance(model, nn.Module):
        with quiet():
            return _verified(network, model, frames, seed)
    with evaluating(model), quiet():
        result = _verified(network, model, frames, seed)
        if result.passed or network.weights.dtype is not torch.float32 or not _may_be_rounding(result):
            return result
        again = _verified(copy.deepcopy(network).double(), copy.deepcopy(model).double(), frames, seed)
        return replace(result, in_double=again)


def _may_be_rounding(result: Verification) -> bool:
    return bool(result.outputs) and all(one.may_be_rounding for one in (*result.outputs, *result.intermediates))


def window_ticks(plan: Plan) -> int:
    """Ticks of a clip that gives every window over time the elements that the stream takes together."""
    clip = max(one.shape[one.time_axis] * one.rate for one in plan.inputs)
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
        video: what both saw.
        ticks: of a clip on which the original's windows are replayed.
    """

    plan: Plan
    oracle: Oracle
    record: Record
    streamed: Elements
    frames: int
    video: Sequence[Tensor]
    ticks: int

    @property
    def remark(self) -> str:
        return GATED if self.oracle.gates.joins else ""


def _verified(network: StreamingModule, model: Original, frames: int, seed: int) -> Verification:
    plan = network.plan
    device = next(iter(network.weights.state_dict().values()), torch.empty(())).device
    clip_ticks = max(one.shape[one.time_axis] * one.rate for one in plan.inputs)
    sample = wandering_video(plan, clip_ticks, seed + 1, device)
    program = _traced(network, model, sample)
    run = _running(model, program)
    oracle = Oracle(plan, program, match_calls(program, run, sample), run)
    video = wandering_video(plan, frames, seed, device)
    trial = _Trial(
        plan=plan,
        oracle=oracle,
        record=oracle.record(video),
        streamed=stream_elements(network, video, frames),
        frames=frames,
        video=video,
        ticks=window_ticks(plan),
    )
    tallies = _whole_tallies(trial) | _window_tallies(trial)
    return _result(trial, tallies, [*_notes(trial, tallies), *_tick_notes(trial, video)])


def _traced(network: StreamingModule, model: Original, sample: Sequence[Tensor]) -> Program:
    plan = network.plan
    arguments, _ = plan.in_structure.filled(sample)
    axes = [one.time_axis for one in plan.inputs]
    program = trace(model, Clip(tuple(arguments)), axes, network.operations)
    weights = [node.target for node in program.graph.nodes if node.op == "get_attr"]
    if weights != list(plan.weights) or len(program.output_nodes) != len(plan.outputs):
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


def _whole_tallies(trial: _Trial) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    for name, tensor in trial.record.tensors.items():
        if name in trial.streamed:
            tallies[name] = tally = Tally(trial.plan.values[name], WHOLE + trial.remark)
            for n, element in enumerate(elements_of(tensor, trial.plan.values[name].layout)):
                tally.compare(n, element, trial.streamed[name].get(n))
            tally.extra(n for n in trial.streamed[name] if n >= tally.expected)
    return tallies


def _window_tallies(trial: _Trial) -> dict[str, Tally]:
    """Tensors without time, and outputs that the whole run did not reach, on every window."""
    left = [name for name in trial.streamed if name not in trial.record.tensors]
    outputs = {output.value for output in trial.plan.outputs}
    tallies: dict[str, Tally] = {}
    for first in range(trial.frames - trial.ticks + 1):
        wanted = [name for name in left if _starts_at(trial.plan, name, first)]
        if outputs.isdisjoint(wanted):
            continue
        clip = [part for part in part_of_video(trial.plan, trial.video, first, trial.ticks) if part is not None]
        made = trial.oracle.windows(trial.record, clip, first, trial.ticks)
        for name in wanted:
            if name in made:
                tally = tallies.setdefault(name, Tally(trial.plan.values[name], WINDOWS + trial.remark))
                _compare_window(trial, tally, name, first, made[name])
    for name, tally in tallies.items():
        tally.extra(n for n in trial.streamed[name] if n >= trial.plan.length(name, trial.frames))
    return tallies


def _starts_at(plan: Plan, name: str, first: int) -> bool:
    return (first / plan.timing(name).clock.rate).denominator == 1


def _compare_window(trial: _Trial, tally: Tally, name: str, first: int, made: Tensor) -> None:
    value = trial.plan.values[name]
    n = int(first / trial.plan.timing(name).clock.rate)
    for place, element in enumerate(elements_of(made, value.layout) if value.has_time else [made]):
        tally.compare(n + place, element, trial.streamed[name].get(n + place))


def _notes(trial: _Trial, tallies: dict[str, Tally]) -> list[str]:
    notes = []
    if trial.record.stopped:
        notes.append(f"the original stops on a longer video ({trial.record.stopped}); compared up to there")
    missing = [output.value for output in trial.plan.outputs if output.value not in tallies]
    return notes + [f"output {name} could not be compared" for name in missing]


def _tick_notes(trial: _Trial, video: Sequence[Tensor]) -> list[str]:
    """Elements that came out before the original can know them: NaN in every frame from one tick on shows it."""
    inputs = trial.plan.inputs
    if not all(tensor.is_floating_point() for tensor in video):
        return ["the inputs are integers, so ticks were not checked with NaN"]
    tick = trial.frames // 2
    spoiled = poisoned(video, [one.time_axis for one in inputs], [one.rate for one in inputs], tick)
    notes = []
    for name, clean in trial.oracle.finite(spoiled).items():
        out = min(len(clean), max(0, trial.plan.timing(name).clock.count_through(tick - 1)))
        if name in trial.streamed and not all(clean[:out]):
            notes.append(f"{name}: element {clean.index(False)} came out before the original can know it")
    return notes


def _result(trial: _Trial, tallies: dict[str, Tally], notes: list[str]) -> Verification:
    plan = trial.plan
    outputs = [tallies[one.value].comparison(one.name) for one in plan.outputs if one.value in tallies]
    names = {output.value for output in plan.outputs}
    inside: list[Comparison] = [
        tallies[node.outputs[0]].comparison(node.name, inside=True)
        for node in plan.nodes
        if node.outputs[0] in tallies and node.outputs[0] not in names
    ]
    return Verification(trial.frames, tuple(outputs), tuple(inside), tuple(notes))

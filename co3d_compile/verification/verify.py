"""Compare a compiled network with its original, element by element, tick by tick."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from co3d_compile.capture.capture import trace
from co3d_compile.capture.clip import Clip
from co3d_compile.capture.export import evaluating, quiet
from co3d_compile.capture.original import Original, require_model
from co3d_compile.capture.step_rules import StepRules, stepping
from co3d_compile.errors import InputError, VerificationError, first_line
from co3d_compile.ops.flow import Way
from co3d_compile.ops.looping import NAME as LOOP
from co3d_compile.options import require_count, require_list
from co3d_compile.passes import rewrite
from co3d_compile.passes.loops.counting import count_positions
from co3d_compile.passes.loops.recognition import roll_loops
from co3d_compile.passes.own import ProgramPass, pass_name
from co3d_compile.passes.time_axes import read_at
from co3d_compile.passes.whole_clips.last_resort import without_assertions
from co3d_compile.plan.plan import Plan
from co3d_compile.program.interpret import run_graph
from co3d_compile.program.program import Program
from co3d_compile.runtime.module import StreamingModule
from co3d_compile.verification.comparing import Elements, Tally, stream_elements
from co3d_compile.verification.matching import match_calls
from co3d_compile.verification.oracle import Oracle, poisoned
from co3d_compile.verification.result import Comparison, Verification
from co3d_compile.verification.rounded import compare_rounded, in_full
from co3d_compile.verification.stitching import Windows, reliable, stitch
from co3d_compile.verification.trial import Trial, phases, strided, tally_past, tally_whole, tally_windows
from co3d_compile.verification.video import device_of, wandering_video


@dataclass(frozen=True)
class Own:
    """What the user compiled the network with, as its file cannot hold it."""

    passes: Sequence[ProgramPass]
    recurrences: StepRules


def verify(
    network: StreamingModule,
    model: Original,
    *,
    frames: int | None = None,
    seed: int = 0,
    passes: Sequence[ProgramPass] = (),
    recurrences: StepRules | None = None,
) -> Verification:
    """Run the original on a whole random video and the stream on the same frames, from the first through the end.

    A stream whose state is rounded is run with its state in full, and then held against that.

    Args:
        model: the original; it is not changed.
        frames: length of the video; None: the clip and two periods of the network.
        passes: the user's own, with which the network was compiled.
        recurrences: the step rules with which it was compiled.

    Raises:
        VerificationError: the model is not the one that the network was compiled from.
        InputError: the video is shorter than the clip, or these are not the passes.
    """
    plan = network.plan
    require_model(model)
    _require_passes(plan, passes)
    own = Own(passes, recurrences or {})
    ticks = window_ticks(plan)
    if frames is not None:
        require_count("frames", frames, "frames")
    # as many more than the clip as keep its place in the period: a model may pad by what its strides leave over
    frames = ticks + 2 * plan.period * phases(plan) if frames is None else frames
    if frames < ticks:
        raise InputError(f"a video of {frames} frames is shorter than the window of {ticks}\n  try: more frames")
    if not plan.rounded_state:
        return _verified_by_law(network, model, own, frames, seed)
    result = _verified_by_law(in_full(network), model, own, frames, seed)
    return replace(result, rounding=compare_rounded(network, frames, seed))


def _verified_by_law(network: StreamingModule, model: Original, own: Own, frames: int, seed: int) -> Verification:
    """Everything against the original; where float32 cannot tell a difference from rounding, in float64 too."""
    if not isinstance(model, nn.Module):
        with quiet():
            return _verified(network, model, own, frames, seed)
    with evaluating(model), quiet():
        result = _verified(network, model, own, frames, seed)
        if result.passed or network.weights.dtype is not torch.float32 or not _may_be_rounding(result):
            return result
        return _verified_in_double(result, network, model, own, seed)


def _verified_in_double(
    result: Verification, network: StreamingModule, model: nn.Module, own: Own, seed: int
) -> Verification:
    try:
        again = _verified(copy.deepcopy(network).double(), copy.deepcopy(model).double(), own, result.frames, seed)
    except Exception as refusal:  # a model that casts to float32 itself may fail anywhere
        note = f"float64 could not tell a difference from rounding: the model fails in it ({first_line(refusal)})"
        return replace(result, notes=(*result.notes, note))
    return replace(result, in_double=again)


def _require_passes(plan: Plan, passes: Sequence[ProgramPass]) -> None:
    given = tuple(map(pass_name, require_list("passes", passes, "[my_pass]")))
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


def _verified(network: StreamingModule, model: Original, own: Own, frames: int, seed: int) -> Verification:
    plan = network.plan
    device = device_of(network)
    clip_ticks = max(one.clip_ticks for one in plan.inputs)
    sample = wandering_video(plan, clip_ticks, seed + 1, device)
    sample = strided(plan, sample, 0)
    program = _compared(network, model, own, sample)
    traced = _traced(network, model, sample, {}) if isinstance(model, ExportedProgram) else program
    run = _running(plan, model, traced)
    oracle = Oracle(plan, program, match_calls(program, run, sample), run)
    video = wandering_video(plan, frames, seed, device)
    streamed = stream_elements(network, video, frames)
    tallies: dict[str, Tally] = {}
    notes: list[str] = []
    unknown: frozenset[str] = frozenset()
    for phase in range(phases(plan)):
        trial = _trial(plan, oracle, streamed, video, frames, phase)
        unknown |= _stitched(trial)
        tally_whole(trial, tallies)
        tally_windows(trial, tallies)
        tally_past(trial, tallies)
        notes = notes or _stop_notes(trial)
    tallies = {name: tally for name, tally in tallies.items() if name not in unknown}
    return _result(plan, frames, tallies, [*notes, *_missing_notes(plan, tallies), *_tick_notes(trial, video)])


def _trial(plan: Plan, oracle: Oracle, streamed: Elements, video: Sequence[Tensor], frames: int, phase: int) -> Trial:
    """The original on the frames from a phase on.

    A model that pads by what its strides leave over does so as on its clip only where as much is left over.
    """

    def before(stop: int) -> Trial:
        seen = strided(plan, video, phase, stop)
        record = reliable(plan, oracle.record(seen), stop - phase)
        return Trial(plan, oracle, record, streamed, frames, seen, window_ticks(plan), phase, stop)

    whole = before(frames)
    cut_at = frames + phase - phases(plan)
    if not whole.record.stopped or phase == 0 or cut_at - phase < whole.ticks:
        return whole
    cut = before(cut_at)
    return whole if cut.record.stopped else cut


def _stitched(trial: Trial) -> frozenset[str]:
    """Complete the record from windows; returns what stays unknown."""
    windows = Windows(trial.seen, trial.ticks, max(trial.plan.period, phases(trial.plan)), trial.clip)
    return stitch(trial.plan, trial.oracle, trial.record, windows)


def _traced(network: StreamingModule, model: Original, sample: Sequence[Tensor], rules: StepRules) -> Program:
    arguments, _ = network.plan.in_structure.filled(sample)
    clip = Clip(tuple(arguments))
    if not isinstance(model, nn.Module):
        return trace(model, clip, network.operations)
    with stepping(model, rules, clip, network.operations):
        return trace(model, clip, network.operations)


def _compared(network: StreamingModule, model: Original, own: Own, sample: Sequence[Tensor]) -> Program:
    """The program whose nodes have the names of the plan's."""
    plan = network.plan
    program = _traced(network, model, sample, own.recurrences)
    program = rewrite(program, own.passes) if own.passes else without_assertions(program)
    program = count_positions(roll_loops(read_at(program, [one.time_axis for one in plan.inputs])))
    weights = {str(node.target) for node in program.graph.nodes if node.op == "get_attr"}
    loops = {node.name for node in plan.nodes if node.target == LOOP and node.way is Way.RECURRENT}
    if not loops.issubset(node.name for node in program.calls):
        raise VerificationError(
            f"{', '.join(sorted(loops))}: the network carries on what the model's graph shows no loop for\n"
            "  try: verify(model, recurrences={...}) with the step rules that it was compiled with"
        )
    if not _has_weights(plan.weights, weights) or len(program.output_nodes) != len(plan.outputs):
        raise VerificationError(
            "the model's graph is not the one that this network was compiled from\n"
            "  try: the same model, or compile this one"
        )
    return program


def _has_weights(wanted: Collection[str], there: Collection[str]) -> bool:
    """Under the same names, or with the attribute of a wrapper before those of one side, as torch.compile puts it."""
    names = {*wanted, *there}
    places = sorted({name[: end + 1] for name in names for end, sign in enumerate(name) if sign == "."})
    return any(
        {name.removeprefix(place) for name in wanted} <= {name.removeprefix(place) for name in there}
        for place in ("", *places)
    )


def _running(plan: Plan, model: Original, program: Program) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """The original's outputs that follow from the video; every list is a fresh one, as models may edit theirs."""
    if isinstance(model, ExportedProgram):
        return lambda tensors: plan.structure.moving(run_graph(program, tensors))
    original = model

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        arguments, _ = pytree.tree_unflatten([tensor.clone() for tensor in tensors], program.in_spec)
        leaves = [leaf for leaf in pytree.tree_leaves(original(*arguments)) if isinstance(leaf, Tensor)]
        return plan.structure.moving(leaves)

    return run


def _stop_notes(trial: Trial) -> list[str]:
    if not trial.record.stopped:
        return []
    return [f"the original stops on a longer video ({trial.record.stopped}); compared up to there"]


def _missing_notes(plan: Plan, tallies: Mapping[str, Tally]) -> list[str]:
    missing = [output.value for output in plan.outputs if output.value not in tallies]
    return [f"output {name} could not be compared" for name in missing]


def _tick_notes(trial: Trial, video: Sequence[Tensor]) -> list[str]:
    """Elements that came out before the original can know them: NaN in every frame from one tick on shows it."""
    inputs = trial.plan.inputs
    if not all(tensor.is_floating_point() for tensor in video):
        return ["the inputs are integers, so ticks were not checked with NaN"]
    tick = trial.frames // 2
    spoiled = poisoned(video, [one.time_axis for one in inputs], [one.rate for one in inputs], tick)
    notes = []
    for name, clean in trial.oracle.finite(strided(trial.plan, spoiled, 0)).items():
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

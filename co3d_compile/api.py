"""What users call: ``compile`` a model, ``load`` a compiled one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Literal, cast

import torch
from torch import nn

from co3d_compile.artifact import read_artifact
from co3d_compile.capture.capture import capture
from co3d_compile.capture.clip import Clip, ClipArgument, read_clip
from co3d_compile.capture.original import Original, require_model
from co3d_compile.capture.step_rules import StepRule
from co3d_compile.capture.trials import try_batch, try_frames
from co3d_compile.errors import ApproximationError, InputError
from co3d_compile.layout import Mark
from co3d_compile.network import Network
from co3d_compile.ops.operation import Operation
from co3d_compile.ops.table import table_with
from co3d_compile.options import require_choice, require_policy, require_settings, require_window
from co3d_compile.passes import compile_program, rewrite
from co3d_compile.passes.own import ProgramPass
from co3d_compile.passes.state.aims import Aims, Prefer
from co3d_compile.passes.state.narrowing import approximations_of, read_state_dtype
from co3d_compile.passes.time_axes import plan_as_read
from co3d_compile.passes.whole_clips.policies import GatePolicy
from co3d_compile.plan.plan import FrameTrial, Plan
from co3d_compile.report.frame_sizes import frame_of, frame_places, settled_sizes
from co3d_compile.report.symbolic import AS_COMPILED
from co3d_compile.report.what_if import Scenario, Size, scenarios
from co3d_compile.runtime.weights import Weights

Start = Literal["zeros", "valid", "replicate"]
Rate = Literal["native", "dense"]
RATES: tuple[str, ...] = ("native", "dense")
STARTS: tuple[str, ...] = ("zeros", "valid", "replicate")


def compile(
    model: Original,
    clip: ClipArgument,
    *,
    window: int | None = None,
    rate: Rate = "native",
    start: Start = "zeros",
    policy: Mapping[str, GatePolicy] | None = None,
    prefer: Prefer = "memory",
    recompute: bool = False,
    state_dtype: torch.dtype | str | None = None,
    balance: bool = False,
    extra_delay: int = 0,
    strict: bool = False,
    time_axis: int | Sequence[int] | None = None,
    ops: Sequence[Operation] = (),
    passes: Sequence[ProgramPass] = (),
    recurrences: Mapping[type[nn.Module], StepRule] | None = None,
) -> Network:
    """Turn a video model into a continual one.

    Args:
        model: any PyTorch video model; its weights are copied, its mode is put back.
        clip: an example input as the model takes it, or its shape: a tensor, a tuple of tensors for several
            arguments, a list of tensors for one argument that is a list.
        window: elements that a pool over the whole clip takes together in the stream; None: as many as in the clip.
        rate: an output as often as the strided network gives one (``native``), or at every frame, equal to the
            original on windows that start at every frame (``dense``).
        start: what stands before the first frame: the original's padding (``zeros``), nothing, so that outputs that
            have seen padding are held back (``valid``), or a still video of the first frame (``replicate``).
        policy: how gates, norms and attention on the whole clip are made, by pattern of module path: from each
            ``frame`` (gates and norms, unless told otherwise), from a ``window`` of the last ones, ``cumulative`` from
            all so far, or ``exact`` on whole windows; ``uniform`` takes frames that the model picks by their places
            in the clip at one step instead (docs/policies.md).
        prefer: ``memory``: the smallest state there is, at unchanged delay; ``speed``: partial sums are kept in place
            of inputs only where they move fewer bytes (docs/state.md).
        recompute: elements may be made again from smaller ones, where they are read, in place of being kept: less state
            for more multiply-accumulates.
        state_dtype: ``bfloat16`` or ``float16``: what is held between ticks is rounded to it, so that a state of
            float32 takes half the bytes, and every output that depends on it is approximate (docs/state-dtype.md).
        balance: of a strided network, make the tick that computes most as light as possible (docs/balance.md).
        extra_delay: ticks that outputs may be later, where that makes the state smaller or, with ``balance``, the
            heaviest tick lighter.
        strict: refuse every approximation.
        time_axis: the axis of time, for each input or for all. None: 5-D inputs are ``(N, C, T, H, W)``, or where that
            cannot be streamed ``(N, T, ...)``; for others the one axis at which the network streams.
        ops: rules for operators that are not built in, or in place of built-in ones (docs/adding-an-operation.md);
            those of installed packages are found without it.
        recurrences: by class of module, what such a module does at one frame (docs/recurrence.md): for modules with a
            memory whose loop over frames is not recognised.
        passes: rewrite the captured program before it is analysed, in order (docs/own-passes.md).

    Raises:
        CaptureError: the model fails on the clip, or cannot be traced.
        UnsupportedError: operations that cannot be streamed, all of them.
        RateError: branches of different temporal strides meet.
        ApproximationError: ``strict``, and something is only approximate.
        ExtensionError: a rule in ``ops``, or of an installed package that the model needs, cannot be used; a pass
            fails, or changes what is computed.
        InputError: an option is not one of its values.
    """
    require_choice("start", start, STARTS)
    require_choice("rate", rate, RATES)
    require_window(window)
    require_policy(policy)
    aims = Aims(prefer, recompute, read_state_dtype(state_dtype), balance, extra_delay)
    example = _example(model, clip)
    program = rewrite(capture(model, example, table_with(ops), recurrences), passes)
    plan_of = partial(compile_program, window=window, policy=policy, start=start, dense=rate == "dense", aims=aims)
    plan = plan_as_read(program, time_axis, plan_of)
    if strict:
        _require_exact(plan)
    plan = replace(plan, trials=_trials(model, example, plan))
    plan = replace(plan, fixed_batch=plan.fixed_batch or _misread_batch(model, example, plan))
    weights = Weights({**program.state, **program.tensors}, trainable=program.trainable, kept=frozenset(program.state))
    return Network(plan, weights, program.operations, passes, recurrences)


def what_if(
    model: Original,
    clip: ClipArgument,
    *,
    windows: Sequence[int | None] = (None,),
    sizes: Sequence[Size | None] = (None,),
    rates: Sequence[Rate] = ("native",),
    policy: Mapping[str, GatePolicy] | None = None,
    prefer: Prefer = "memory",
    recompute: bool = False,
    state_dtype: torch.dtype | str | None = None,
    balance: bool = False,
    extra_delay: int = 0,
    time_axis: int | Sequence[int] | None = None,
    ops: Sequence[Operation] = (),
    passes: Sequence[ProgramPass] = (),
    recurrences: Mapping[type[nn.Module], StepRule] | None = None,
) -> tuple[Scenario, ...]:
    """Delay, receptive field, cost and state for each rate, window and frame size, from one capture of the model.

    Args:
        windows: as ``window`` of ``compile``; None: the clip's.
        sizes: heights and widths of frames; None: the clip's.
        rates: as ``rate`` of ``compile``; the options below as there.

    Raises:
        CaptureError: as ``compile``. What refuses one of the networks is in its ``refusal``.
    """
    for rate in rates:
        require_choice("rate", rate, RATES)
    require_settings(windows, sizes)
    require_policy(policy)
    aims = Aims(prefer, recompute, read_state_dtype(state_dtype), balance, extra_delay)
    example, operations = _example(model, clip), table_with(ops)
    program = rewrite(capture(model, example, operations, recurrences), passes)
    found: list[Scenario] = []
    for rate, window in product(rates, windows):
        plan_of = partial(compile_program, window=window, policy=policy, dense=rate == "dense", aims=aims)
        try:
            plan = plan_as_read(program, time_axis, plan_of)
        except InputError as refused:
            reason = str(refused).splitlines()[0]
            found += [Scenario(rate, window, size, refusal=reason) for size in sizes]
            continue
        follows = AS_COMPILED
        if any(sizes):
            plan = replace(plan, trials=_trials(model, example, plan))
            follows = settled_sizes(plan, program.tensors.__getitem__, operations)
        found += scenarios(plan, follows, [None], sizes)
    return tuple(found)


def load(path: str | os.PathLike[str], *, ops: Sequence[Operation] = ()) -> Network:
    """The network that ``Network.save`` or co3d-compile wrote, on the CPU. Runs no code and needs no model source.

    Args:
        ops: the rules that ``compile`` was given; those of installed packages are found without it.

    Raises:
        ArtifactError: there is no such file, it is damaged, truncated, not one of ours, or of a later format, or it was
            compiled with rules that are not here.
        ExtensionError: a rule in ``ops``, or of an installed package that the file needs, cannot be used.
    """
    operations = table_with(ops)
    return Network(*read_artifact(path, operations), operations)


def _dtype_and_device(model: Original) -> tuple[torch.dtype, torch.device]:
    tensors = model.state_dict() if isinstance(model, nn.Module) else model.state_dict
    for tensor in tensors.values():
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    return torch.float32, torch.device("cpu")


def _example(model: Original, clip: ClipArgument) -> Clip:
    require_model(model)
    return read_clip(clip, *_dtype_and_device(model))


def _trials(model: Original, clip: Clip, plan: Plan) -> tuple[FrameTrial, ...]:
    """Of a model that is Python, and so may take frames of other sizes."""
    places = [frame_places(given, plan.values[given.value].layout) for given in plan.inputs]
    found = [place for place in places if place is not None]
    if not _is_python(model) or frame_of(plan) is None:
        return ()
    return try_frames(cast(nn.Module, model), clip, found)


def _misread_batch(model: Original, clip: Clip, plan: Plan) -> str:
    """Where a clip of one stream does not tell where the others' places are, what becomes of two; else empty."""
    layouts = [plan.values[given.value].layout for given in plan.inputs]
    folded = any(Mark.BATCH in dim and len(dim) > 1 for value in plan.values.values() for dim in value.layout.dims)
    if not _is_python(model) or plan.dense or not folded or any(one.batch != 1 for one in layouts):
        return ""
    places = [one.batch_dim for one in layouts]
    made = None if None in places else try_batch(cast(nn.Module, model), clip, cast(list[int], places), 2)
    if made is None:
        return ""
    for output, shape in zip(plan.outputs, plan.structure.moving(made), strict=True):
        layout = plan.values[output.value].layout
        expected = layout.solid().running_shape(layout.time, 2)
        if tuple(shape) != expected:
            path = plan.values[output.value].path or output.value
            return f"{path}: of two clips the model makes {tuple(shape)}, read from one clip it would be {expected}"
    return ""


def _is_python(model: Original) -> bool:
    return isinstance(model, nn.Module) and not isinstance(model, torch.jit.ScriptModule)


def _require_exact(plan: Plan) -> None:
    reasons = {f"{one.path}: {one.reason}" for of_output in approximations_of(plan) for one in of_output}
    if reasons:
        listed = "\n  ".join(sorted(reasons))
        raise ApproximationError(
            f"strict, and {len(reasons)} part(s) are approximate\n  {listed}\n"
            "  try: without strict, and read in the report what that means"
        )

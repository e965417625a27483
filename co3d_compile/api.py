"""What users call: ``compile`` a model, ``load`` a compiled one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import nn
from torch.export import ExportedProgram

from co3d_compile.artifact import read_artifact
from co3d_compile.capture.capture import capture
from co3d_compile.capture.clip import ClipArgument, read_clip
from co3d_compile.capture.step_rules import StepRule
from co3d_compile.errors import ApproximationError, InputError
from co3d_compile.network import Network
from co3d_compile.ops.operation import Operation
from co3d_compile.ops.table import table_with
from co3d_compile.passes import compile_program, rewrite
from co3d_compile.passes.own import ProgramPass
from co3d_compile.passes.state.aims import Aims, Prefer
from co3d_compile.passes.time_axes import plan_as_read
from co3d_compile.passes.whole_clips.policies import GatePolicy
from co3d_compile.plan.plan import Plan
from co3d_compile.runtime.weights import Weights

Start = Literal["zeros", "valid", "replicate"]
Rate = Literal["native", "dense"]
RATES: tuple[str, ...] = ("native", "dense")
STARTS: tuple[str, ...] = ("zeros", "valid", "replicate")


def compile(
    model: nn.Module | ExportedProgram,
    clip: ClipArgument,
    *,
    window: int | None = None,
    rate: Rate = "native",
    start: Start = "zeros",
    policy: Mapping[str, GatePolicy] | None = None,
    prefer: Prefer = "memory",
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
    if start not in STARTS:
        raise InputError(f"start is {start!r}\n  try: one of {', '.join(STARTS)}")
    if rate not in RATES:
        raise InputError(f"rate is {rate!r}\n  try: one of {', '.join(RATES)}")
    if window is not None and window < 1:
        raise InputError(f"window is {window}\n  try: a number of elements from 1 up")
    aims = Aims(prefer, balance, extra_delay)
    dtype, device = _dtype_and_device(model)
    program = rewrite(capture(model, read_clip(clip, dtype, device), table_with(ops), recurrences), passes)
    plan_of = partial(compile_program, window=window, policy=policy, start=start, dense=rate == "dense", aims=aims)
    plan = plan_as_read(program, time_axis, plan_of)
    if strict:
        _require_exact(plan)
    weights = Weights({**program.state, **program.tensors}, trainable=program.trainable, kept=frozenset(program.state))
    return Network(plan, weights, program.operations, passes, recurrences)


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


def _dtype_and_device(model: nn.Module | ExportedProgram) -> tuple[torch.dtype, torch.device]:
    tensors = model.state_dict() if isinstance(model, nn.Module) else model.state_dict
    for tensor in tensors.values():
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    return torch.float32, torch.device("cpu")


def _require_exact(plan: Plan) -> None:
    reasons = {f"{a.path}: {a.reason}" for output in plan.outputs for a in output.approximations}
    if reasons:
        listed = "\n  ".join(sorted(reasons))
        raise ApproximationError(
            f"strict, and {len(reasons)} part(s) are approximate\n  {listed}\n"
            "  try: without strict, and read in the report what that means"
        )

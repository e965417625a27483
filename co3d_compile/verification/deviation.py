"""How far an approximate network is from its original, on a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from co3d_compile.capture.clip import Clip
from co3d_compile.capture.export import quiet, run_eagerly
from co3d_compile.capture.original import Original, require_model
from co3d_compile.errors import ApproximationError
from co3d_compile.plan.plan import Plan, PlanOutput, Value
from co3d_compile.report.data import Deviation
from co3d_compile.runtime.module import StreamingModule
from co3d_compile.verification.comparing import stream_elements
from co3d_compile.verification.oracle import elements_of
from co3d_compile.verification.rounded import in_full
from co3d_compile.verification.video import device_of, wandering_video


def measure_deviation(network: StreamingModule, model: Original, *, seed: int = 0) -> tuple[Deviation, ...]:
    """Per output: what the stream gives for a random clip, from its first frame through flush, beside the original.

    Policies matter, and a state that is rounded; what is exact gives on a whole clip what the original gives.

    Raises:
        ApproximationError: the state's dtype is too narrow for the network's numbers.
    """
    require_model(model)
    plan = network.plan
    ticks = max(one.clip_ticks for one in plan.inputs)
    device = device_of(network)
    video = wandering_video(plan, ticks, seed, device)
    with quiet():
        wanted = _answers(plan, model, video)
        streamed = stream_elements(network, video, ticks)
        full = stream_elements(in_full(network), video, ticks) if plan.rounded_state else None
    found = []
    for output, one in zip(plan.outputs, wanted, strict=True):
        deviation = _deviation(plan.values[output.value], one, streamed[output.value])
        if full is not None:
            deviation = replace(deviation, rounding=_rounding(output, full[output.value], streamed[output.value]))
        found.append(deviation)
    return tuple(found)


def _answers(plan: Plan, model: Original, video: Sequence[Tensor]) -> list[Tensor]:
    taken = [
        tensor[(slice(None),) * one.time_axis + (slice(None, None, one.grid),)].clone()
        for one, tensor in zip(plan.inputs, video, strict=True)
    ]
    arguments, _ = plan.in_structure.filled(taken)
    if not isinstance(model, nn.Module):
        return plan.structure.moving(_tensors(model.module()(*arguments)))
    return plan.structure.moving(_tensors(run_eagerly(model, Clip(tuple(arguments)))))


def _tensors(result: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


def _deviation(value: Value, wanted: Tensor, streamed: Mapping[int, Tensor]) -> Deviation:
    elements = elements_of(wanted, value.layout) if value.has_time else [wanted]
    grid = 1 if value.timing is None else value.timing.grid
    found = [_relative(element, streamed[n * grid]) for n, element in enumerate(elements) if n * grid in streamed]
    return Deviation(max(found, default=0.0), median(found) if found else 0.0)


def _rounding(output: PlanOutput, full: Mapping[int, Tensor], streamed: Mapping[int, Tensor]) -> float:
    found = max((_relative(element, streamed[n]) for n, element in full.items()), default=0.0)
    if not all(element.isfinite().all() for n, element in streamed.items() if full[n].isfinite().all()):
        raise ApproximationError(
            f"output {output.name}: the state's dtype is too narrow: numbers beyond its range have become infinite\n"
            "  try: state_dtype='bfloat16', which has the range of float32"
        )
    return found


def _relative(wanted: Tensor, made: Tensor) -> float:
    """The length of the difference over that of the original's element."""
    apart: float = (made.double() - wanted.double()).norm().item()
    size: float = wanted.double().norm().item()
    return apart / max(size, torch.finfo(torch.float32).tiny)

"""Whole videos as a user gives them, checked, and cut into chunks of ticks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from co3d_compile.errors import FrameError
from co3d_compile.plan.plan import Plan, PlanInput
from co3d_compile.runtime.frames import require_kind


def read_video(plan: Plan, video: Any, devices: Collection[torch.device], begin: int = 0) -> tuple[list[Tensor], int]:
    """The tensors of a video that begins at tick ``begin``, one per input, and its batch.

    Args:
        devices: that the weights are on; empty if there are none.

    Raises:
        FrameError: their number, a shape, a dtype or a device is not what the network takes, or the lengths do not fit.
    """
    tensors = _per_input(plan, video, begin)
    if len(tensors) != len(plan.inputs):
        raise FrameError(f"the network takes {len(plan.inputs)} video(s), not {len(tensors)}\n  try: one per input")
    batch = _batch_of(plan, tensors)
    for one, tensor in zip(plan.inputs, tensors, strict=True):
        _require_fitting(plan, one, tensor, batch, devices)
    ticks = ticks_of(plan, tensors)
    for one, tensor in zip(plan.inputs, tensors, strict=True):
        wanted = plan.length(one.value, begin + ticks) - plan.length(one.value, begin)
        if tensor.shape[one.time_axis] != wanted:
            raise FrameError(
                f"input {one.value} has {tensor.shape[one.time_axis]} frames, not {wanted} of {ticks}\n"
                "  try: take all inputs from one video"
            )
    return tensors, batch


def _per_input(plan: Plan, video: Any, begin: int) -> list[Tensor]:
    """A tensor for each input; of one video for several, a slow pathway takes every so many frames."""
    if not isinstance(video, Tensor):
        return [leaf for leaf in pytree.tree_leaves(video) if isinstance(leaf, Tensor)]
    if len(plan.inputs) == 1:
        return [video]
    return [_every(video, one.time_axis, one.rate, -begin % one.rate) for one in plan.inputs]


def _every(video: Tensor, axis: int, rate: int, first: int) -> Tensor:
    return video[(slice(None),) * axis + (slice(first, None, rate),)]


def ticks_of(plan: Plan, tensors: Sequence[Tensor]) -> int:
    """Ticks that a video takes: the frames of its fastest input."""
    fastest = min(range(len(tensors)), key=lambda place: plan.inputs[place].rate)
    one = plan.inputs[fastest]
    return tensors[fastest].shape[one.time_axis] * one.rate


def part_of_video(plan: Plan, tensors: Sequence[Tensor], tick: int, ticks: int, begin: int = 0) -> list[Tensor | None]:
    """Per input the block of its elements at ticks ``tick .. tick+ticks-1``; the tensors begin at tick ``begin``."""
    blocks: list[Tensor | None] = []
    for one, tensor in zip(plan.inputs, tensors, strict=True):
        before, first, stop = (plan.length(one.value, max(0, at)) for at in (begin, tick, tick + ticks))
        blocks.append(tensor.narrow(one.time_axis, first - before, stop - first) if stop > first else None)
    return blocks


def after_still(one: PlanInput, tensor: Tensor, ticks: int) -> Tensor:
    """The video with so many ticks of its first frame before it."""
    first = tensor.narrow(one.time_axis, 0, 1)
    return torch.cat([*([first] * (ticks // one.rate)), tensor], one.time_axis)


def _batch_of(plan: Plan, tensors: Sequence[Tensor]) -> int:
    for one, tensor in zip(plan.inputs, tensors, strict=True):
        dim = plan.values[one.value].layout.batch_dim
        if dim is not None and dim < tensor.dim():
            return tensor.shape[dim]
    return 1


def _require_fitting(plan: Plan, one: PlanInput, tensor: Tensor, batch: int, devices: Collection[torch.device]) -> None:
    value = plan.values[one.value]
    frames = tensor.shape[one.time_axis] if tensor.dim() == len(one.shape) else 0
    wanted = value.layout.running_shape(max(frames, 1), batch)
    if tuple(tensor.shape) != wanted:
        raise FrameError(
            f"the video has shape {tuple(tensor.shape)}, the network was compiled for {wanted}, of any length along "
            f"axis {one.time_axis}\n  try: resize the video, or compile with a clip of its size"
        )
    require_kind("video", tensor, value.dtype, devices)

"""Frames as a user gives them, checked and made into elements."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from co3d_compile.errors import FrameError
from co3d_compile.plan.plan import Plan, PlanInput
from co3d_compile.runtime.state import State


def read_frames(plan: Plan, frame: Any, state: State, devices: Collection[torch.device]) -> list[Tensor | None]:
    """One element per input for this tick.

    Args:
        devices: that the weights are on; empty if there are none.

    Raises:
        FrameError: the number of tensors, a shape, a dtype or a device is not what the network takes.
    """
    given = _per_input(plan, frame)
    return [_element(plan, one, tensor, state, devices) for one, tensor in zip(plan.inputs, given, strict=True)]


def _per_input(plan: Plan, frame: Any) -> list[Tensor | None]:
    if not isinstance(frame, (list, tuple)):
        return [_tensor(frame)] * len(plan.inputs)
    if len(frame) != len(plan.inputs):
        raise FrameError(
            f"the network takes {len(plan.inputs)} inputs, not {len(frame)}\n  try: one frame per input, or one for all"
        )
    return [None if given is None else _tensor(given) for given in frame]


def _tensor(frame: object) -> Tensor:
    if isinstance(frame, Tensor):
        return frame
    raise FrameError(f"the frame is an object of type {type(frame).__name__}\n  try: a tensor, with torch.as_tensor")


def _element(
    plan: Plan, one: PlanInput, frame: Tensor | None, state: State, devices: Collection[torch.device]
) -> Tensor | None:
    if max(state.tick, 0) % one.rate:
        return None
    if frame is None:
        raise FrameError(
            f"input {one.value} has a frame at every tick that {one.rate} divides, and tick {state.tick} is one"
        )
    value = plan.values[one.value]
    wanted = list(value.layout.running_shape(1, state.batch))
    del wanted[one.time_axis]
    if list(frame.shape) != wanted:
        raise FrameError(
            f"the frame has shape {tuple(frame.shape)}, the network was compiled for {_shape_text(wanted)}\n"
            "  try: resize the frame, or compile with a clip of its size; initial_state(batch) sets the batch"
        )
    require_kind("frame", frame, value.dtype, devices)
    element = frame.unsqueeze(one.time_axis)
    # a copy: the history outlives the user's buffer, and convolutions are faster on channels-last frames
    return element.clone(memory_format=torch.channels_last_3d if element.dim() == 5 else torch.contiguous_format)


def require_kind(name: str, tensor: Tensor, dtype: torch.dtype, devices: Collection[torch.device]) -> None:
    """Refuse what torch could not compute with the weights.

    Raises:
        FrameError: it is of another dtype, on another device, or sparse.
    """
    if tensor.dtype != dtype:
        raise FrameError(f"the {name} is {tensor.dtype}, the network takes {dtype}\n  try: {name}.to({dtype})")
    if devices and tensor.device not in devices:
        there = sorted(map(str, devices))
        raise FrameError(
            f"the {name} is on {tensor.device}, the network on {', '.join(there)}\n  try: {name}.to({there[0]!r})"
        )
    if tensor.layout is not torch.strided:
        raise FrameError(f"the {name} has the layout {tensor.layout}\n  try: {name}.to_dense()")


def _shape_text(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(size) for size in shape) + ")"

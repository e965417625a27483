"""Frames as a user gives them, checked and made into elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from co3d_compile.errors import FrameError
from co3d_compile.plan.plan import Plan, PlanInput
from co3d_compile.runtime.state import State


def read_frames(plan: Plan, frame: Any, state: State) -> list[Tensor | None]:
    """One element per input for this tick.

    Raises:
        FrameError: the number of tensors, a shape or a dtype is not what the network takes.
    """
    given = _per_input(plan, frame)
    return [_element(plan, one, tensor, state) for one, tensor in zip(plan.inputs, given, strict=True)]


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


def _element(plan: Plan, one: PlanInput, frame: Tensor | None, state: State) -> Tensor | None:
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
    if frame.dtype != value.dtype:
        raise FrameError(f"the frame is {frame.dtype}, the network takes {value.dtype}\n  try: frame.to({value.dtype})")
    element = frame.unsqueeze(one.time_axis)
    # a copy: the history outlives the user's buffer, and convolutions are faster on channels-last frames
    return element.clone(memory_format=torch.channels_last_3d if element.dim() == 5 else torch.contiguous_format)


def _shape_text(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(size) for size in shape) + ")"

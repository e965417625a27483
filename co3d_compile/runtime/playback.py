"""A whole video, chunk by chunk, from before its first frame through its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from co3d_compile.runtime.eager.blocks import BlockEngine
from co3d_compile.runtime.start import last_tick, still_ticks, visible
from co3d_compile.runtime.state import Emitted, State
from co3d_compile.runtime.videos import after_still, part_of_video, ticks_of


def play_video(engine: BlockEngine, tensors: Sequence[Tensor], state: State, chunk: int) -> list[Emitted]:
    """Per output all elements of a whole video, from the initial state through the end."""
    plan = engine.plan
    emitted, state = play_frames(engine, tensors, state, chunk)
    state = replace(state, frames=state.tick)
    last: list[Emitted] = [[] for _ in plan.outputs]
    while state.tick <= last_tick(plan, state.frames or 0):
        ticks = min(chunk, last_tick(plan, state.frames or 0) + 1 - state.tick)
        state = _advance(engine, last, [None] * len(tensors), ticks, state)
    return [old + new for old, new in zip(emitted, visible(plan, last, state), strict=True)]


def play_frames(
    engine: BlockEngine, tensors: Sequence[Tensor], state: State, chunk: int
) -> tuple[list[Emitted], State]:
    """Per output the elements that come out while these frames go in, and the state after them.

    Args:
        tensors: the next frames of the video, one tensor per input.
        chunk: ticks taken at once.
    """
    plan = engine.plan
    begin = max(0, state.tick)
    still = still_ticks(plan) if state.tick == plan.first_tick else 0
    video = [after_still(one, tensor, still) for one, tensor in zip(plan.inputs, tensors, strict=True)]
    end = begin + still + ticks_of(plan, tensors)
    emitted: list[Emitted] = [[] for _ in plan.outputs]
    while state.tick < end:
        ticks = min(chunk, end - state.tick)
        part = part_of_video(plan, video, state.tick, ticks, begin)
        state = _advance(engine, emitted, part, ticks, state)
    return visible(plan, emitted, state), state


def _advance(
    engine: BlockEngine, emitted: list[Emitted], inputs: Sequence[Tensor | None], ticks: int, state: State
) -> State:
    came, state = engine.advance(inputs, ticks, state)
    for collected, new in zip(emitted, came, strict=True):
        collected.extend(new)
    return state

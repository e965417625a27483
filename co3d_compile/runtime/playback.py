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
    """Per output all its elements.

    Args:
        tensors: the video, one tensor per input.
        state: the initial state.
        chunk: ticks taken at once.
    """
    plan = engine.plan
    still = still_ticks(plan)
    video = [after_still(one, tensor, still) for one, tensor in zip(plan.inputs, tensors, strict=True)]
    frames = ticks_of(plan, video)
    emitted: list[Emitted] = [[] for _ in plan.outputs]
    while state.tick < frames:
        ticks = min(chunk, frames - state.tick)
        state = _advance(engine, emitted, part_of_video(plan, video, state.tick, ticks), ticks, state)
    state = replace(state, frames=frames)
    while state.tick <= last_tick(plan, frames):
        ticks = min(chunk, last_tick(plan, frames) + 1 - state.tick)
        state = _advance(engine, emitted, [None] * len(video), ticks, state)
    return visible(plan, emitted, state)


def _advance(
    engine: BlockEngine, emitted: list[Emitted], inputs: Sequence[Tensor | None], ticks: int, state: State
) -> State:
    came, state = engine.advance(inputs, ticks, state)
    for collected, new in zip(emitted, came, strict=True):
        collected.extend(new)
    return state

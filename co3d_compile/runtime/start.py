"""The ends of a video: what stands before the first frame, what is shown, and when the last element is out."""

from __future__ import annotations

from typing import TypeVar

from co3d_compile.plan.plan import Plan
from co3d_compile.runtime.state import State

T = TypeVar("T")


def still_ticks(plan: Plan) -> int:
    """Frames of still video before the first one under ``start="replicate"``; else 0.

    The least number after which no output has seen padding, and the slowest one is due at the first frame.
    """
    if plan.start != "replicate":
        return 0
    timings = [plan.timing(output.value) for output in plan.outputs]
    tick = max(timing.steady_tick for timing in timings)
    clock = max(timings, key=lambda timing: timing.clock.rate).clock
    while tick % plan.inputs[0].rate or clock.count_through(tick) == clock.count_through(tick - 1):
        tick += 1
    return tick


def visible(plan: Plan, emitted: list[list[tuple[int, T]]], state: State) -> list[list[tuple[int, T]]]:
    """``start="valid"`` holds back what has seen padding, ``"replicate"`` what comes out before the first frame."""
    if plan.start == "zeros":
        return emitted
    first = still_ticks(plan)
    end = state.frames if state.frames is not None else state.tick
    timings = [plan.timing(output.value) for output in plan.outputs]
    if plan.start == "replicate":
        return [[e for e in came if t.clock(e[0]) >= first] for came, t in zip(emitted, timings, strict=True)]
    return [[e for e in came if e[0] in t.unpadded(end)] for came, t in zip(emitted, timings, strict=True)]


def last_tick(plan: Plan, frames: int) -> int:
    """The tick at which a video of so many frames brings out its last element; -1 if there is none."""
    lasts = [(plan.timing(output.value), plan.length(output.value, frames)) for output in plan.outputs]
    return max([timing.clock(count - 1) for timing, count in lasts if count], default=-1)

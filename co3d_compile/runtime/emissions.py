"""What came out at a tick, in numbers: which elements of which output, and the frames that they depend on."""

from __future__ import annotations

from dataclasses import dataclass

from co3d_compile.plan.plan import Plan
from co3d_compile.runtime.start import still_ticks, visible
from co3d_compile.runtime.state import State


@dataclass(frozen=True)
class Emission:
    """One element of one output.

    Attributes:
        output: where it stands in the structure that the model returns, as in the report.
        element: its number along time, as the original numbers it on the whole video (of a window: of its first).
        tick: the frame with which it came.
        frame: the frame that it stands for: its tick without the network's delay.
        first_frame: the first frame that it depends on; below 0 it has seen padding before the video.
        last_frame: the last frame that it depends on; beyond the video's last it has seen padding after it.
    """

    output: str
    element: int
    tick: int
    frame: int
    first_frame: int
    last_frame: int


def emissions(plan: Plan, state: State, ticks: int = 1) -> tuple[Emission, ...]:
    """What the last steps brought out, the last of which made this state; nothing for an initial state."""
    still = still_ticks(plan)
    begin = max(still, state.tick - ticks)
    due: list[list[tuple[int, None]]] = [
        [(n, None) for n in _due(plan, output.value, begin, state)] for output in plan.outputs
    ]
    return tuple(
        _emission(plan, output.value, name, n, still)
        for output, name, numbers in zip(plan.outputs, plan.output_names, visible(plan, due, state), strict=True)
        for n, _ in numbers
    )


def _emission(plan: Plan, value: str, name: str, n: int, still: int) -> Emission:
    timing = plan.timing(value)
    tick = max(0, timing.clock(n) - still)
    frame, first, last = (at - still for at in (timing.clock(n) - timing.delay, timing.lo(n), timing.hi(n)))
    return Emission(name, n, tick, frame, first, last)


def _due(plan: Plan, value: str, begin: int, state: State) -> range:
    """Numbers of the elements made from tick ``begin`` on; those that lie wholly before the video come at tick 0."""
    clock = plan.timing(value).clock
    first = max(0, clock.count_through(begin - 1)) if begin else 0
    last = clock.count_through(state.tick - 1) if state.tick > begin else first
    if state.frames is not None:
        last = min(last, plan.length(value, state.frames))
    return range(first, max(first, last))

"""How the elements of several operands meet: at one rate, every so many windows, or at every frame."""

from __future__ import annotations

from dataclasses import replace
from math import lcm

from co3d_compile.clock.timing import Timing, every_map
from co3d_compile.ops.flow import Flow, Taps, Way
from co3d_compile.ops.operation import Call, Facts, Refused


def meet(call: Call, flow: Flow) -> bool:
    """All operands' elements are read at one rate."""
    return len({timing.clock.rate * taps.index.last.rate for timing, taps in _readings(call, flow)}) <= 1


def aligned_windows(call: Call, flow: Flow) -> Flow:
    """Answers for windows of several rates are joined where they are for the same frames: at every so many of each."""
    timings = [timing for timing, _ in _readings(call, flow)]
    if (
        flow.way is not Way.ALONE
        or not all(_answers_a_clip(facts) for facts in call.streaming)
        or len({timing.clock.rate for timing in timings}) <= 1
    ):
        return flow
    if not all(timing.clock.is_affine for timing in timings):
        return flow
    common = lcm(*(timing.stride for timing in timings))
    return replace(flow, each=tuple(Taps(every_map(common // timing.stride)) for timing in timings))


def dense_flow(call: Call, flow: Flow) -> tuple[Flow, int]:
    """The flow at a dense rate, and the grid of what comes out.

    Raises:
        Refused: the rate goes up, or branches of different strides meet.
    """
    read = _readings(call, flow)
    if not all(taps.is_affine for _, taps in read):
        raise Refused(
            "it makes several elements of one, which differ by their place: there is none of them for every frame",
            'rate="native"',
        )
    taps = tuple(taps.dense(timing.grid) for timing, taps in read)
    grids = [timing.grid * one.stride for timing, one in read]
    apart = {grid for facts, grid in zip(call.streaming, grids, strict=True) if not _answers_a_clip(facts)}
    if len(apart) > 1:
        raise Refused(f"branches of strides {' and '.join(map(str, sorted(apart)))} meet", "check the temporal strides")
    grid = 1 if flow.way is Way.COLLAPSE else max(apart or grids, default=1)
    return (replace(flow, each=taps) if flow.each else replace(flow, taps=taps[0] if taps else flow.taps)), grid


def _answers_a_clip(facts: Facts) -> bool:
    """There is one element of it in a clip."""
    return not facts.has_time or facts.layout.time == 1


def _readings(call: Call, flow: Flow) -> list[tuple[Timing, Taps]]:
    read = [(facts.timing, flow.taps_of(place)) for place, facts in enumerate(call.streaming)]
    return [(timing, taps) for timing, taps in read if timing is not None]

"""What must hold of every compiled network, asked of the network alone, without the original.

For networks of one input whose memory is finite.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from co3d_compile.clock.timing import Timing
from co3d_compile.network import Network
from co3d_compile.testing.alive import wandering_video

LOUD = 50.0
"""Beside videos of about 1: what no activation hides from all that reads it."""


def check_properties(net: Network, *, waits: bool = False) -> None:
    """All of them.

    Args:
        waits: elements are held until it is sure that the original does not cut them off.
    """
    check_shift(net)
    check_spans(net)
    if not waits:
        check_promptness(net)


def check_shift(net: Network) -> None:
    """A video that comes one period later gives the same outputs one period later, once no padding is in sight."""
    period = net.plan.period
    # from the next tick on: in one burst, elements that have seen padding may come with one that has not
    steady = 1 + max(_timing(net, place).steady_tick for place in range(len(net.plan.outputs)))
    video = _video(net, steady + 2 * period + 3)
    later = _joined(net, [_video(net, period, seed=1), video])
    came, again = _came(net, video), _came(net, later)

    for place in range(len(net.plan.outputs)):
        ticks = [tick for tick in range(steady, len(came)) if came[tick][place] is not None]
        assert ticks, "nothing came in the steady state"
        moved = _movement([leaf for answer in came if (leaf := answer[place]) is not None])
        for tick in range(steady, len(came)):
            one, other = came[tick][place], again[tick + period][place]
            assert (one is None) == (other is None), f"tick {tick}: output {place} came in one of two periods alone"
            assert one is None or _distance(one, other) <= 1e-4 * moved, f"tick {tick}: output {place} knows the time"


def check_spans(net: Network) -> None:
    """The measured receptive field is the reported one: its two ends matter, and nothing outside does."""
    for place, output in enumerate(net.report.outputs):
        seen = _look(net, place)
        told = f"output {place}, element at tick {seen.tick}, frames {seen.first} to {seen.last}"

        assert seen.last - seen.first + 1 <= output.receptive_field
        assert not seen.changes(slice(0, seen.first)), f"{told}: frames before the first matter"
        assert seen.changes(slice(seen.first, seen.first + 1)), f"{told}: the first does not matter"
        assert seen.changes(slice(seen.last, seen.last + 1)), f"{told}: the last does not matter"
        assert not seen.changes(slice(seen.last + 1, None)), f"{told}: frames after the last matter"


def check_promptness(net: Network) -> None:
    """No output could have come earlier: what comes at a tick depends on the frame of that tick."""
    for place in range(len(net.plan.outputs)):
        seen = _look(net, place)

        assert seen.changes(slice(seen.tick, None)), f"output {place} could have come before tick {seen.tick}"


@dataclass(frozen=True)
class _Look:
    """What one output gives at one tick of the steady state.

    Attributes:
        first, last: the frames that it depends on, as reported.
        video: up to this tick.
    """

    net: Network
    place: int
    tick: int
    first: int
    last: int
    video: Tensor

    def changes(self, frames: slice) -> bool:
        """Other values in these frames change the output: NaN, which spreads, or loud ones, which no mask hides."""
        axis = self.net.plan.inputs[0].time_axis
        spoiled = []
        for value in (torch.nan, LOUD, -LOUD):
            video = self.video.clone()
            video[(slice(None),) * axis + (frames,)] = value
            spoiled.append(video)
        clean, *others = self._outputs([self.video, *spoiled])
        return any(_differs(clean, other) for other in others)

    def _outputs(self, videos: list[Tensor]) -> list[Tensor]:
        """Of one tick; streams in lockstep where the network allows it."""
        if self.net.plan.fixed_batch or self.net.plan.inputs[0].time_axis == 0:
            return [self._output(video) for video in videos]
        joint = self._output(torch.cat(videos))
        return [part.clone() for part in joint.chunk(len(videos))]

    def _output(self, video: Tensor) -> Tensor:
        made = _came(self.net, video)[self.tick][self.place]
        assert made is not None
        return made


def _look(net: Network, place: int) -> _Look:
    """At an output's last tick of a period in the steady state: whose span is the widest is known by then."""
    timing = _timing(net, place)
    tick = timing.steady_tick + net.plan.period
    numbers = [n for n in range(timing.clock.count_through(tick)) if timing.clock(n) == tick]
    while not numbers:
        tick += 1
        numbers = [n for n in range(timing.clock.count_through(tick)) if timing.clock(n) == tick]
    first, last = min(timing.lo(n) for n in numbers), max(timing.hi(n) for n in numbers)
    return _Look(net, place, tick, first, last, _video(net, tick + 1))


def _timing(net: Network, place: int) -> Timing:
    return net.plan.timing(net.plan.outputs[place].value)


def _video(net: Network, frames: int, seed: int = 0) -> Tensor:
    (one,) = net.plan.inputs
    shape = [frames if place == one.time_axis else size for place, size in enumerate(one.shape)]
    return wandering_video(shape, time_axis=one.time_axis, seed=seed, dtype=one.dtype)


def _joined(net: Network, videos: list[Tensor]) -> Tensor:
    return torch.cat(videos, net.plan.inputs[0].time_axis)


def _came(net: Network, video: Tensor) -> list[list[Tensor | None]]:
    """Per tick, what came of each output; no flush, so that the video has no end."""
    axis = net.plan.inputs[0].time_axis
    stream = net.stream(video.shape[0] if axis else 1)
    answers = [stream.push(frame) for frame in video.unbind(axis)]
    nothing: list[Tensor | None] = [None] * len(net.plan.outputs)
    return [nothing if answer is None else _leaves(answer) for answer in answers]


def _leaves(answer: object) -> list[Tensor | None]:
    leaves: list[Tensor | None] = pytree.tree_leaves(answer, is_leaf=lambda leaf: leaf is None)
    return leaves


def _differs(clean: Tensor, other: Tensor) -> bool:
    """By more than the rounding of kernels that take the rows of a batch in other orders."""
    if not torch.equal(clean.isnan(), other.isnan()):
        return True
    return _distance(clean.nan_to_num(), other.nan_to_num()) > 1e-4 * clean.nan_to_num().abs().max().item()


def _distance(one: Tensor, other: Tensor | None) -> float:
    assert other is not None
    return (one.double() - other.double()).abs().max().item()


def _movement(leaves: list[Tensor]) -> float:
    """From one answer to the next; bursts may hold other numbers of elements."""
    moves = [_distance(one, other) for one, other in pairwise(leaves) if one.shape == other.shape]
    return max(moves, default=1.0)

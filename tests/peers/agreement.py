"""Our stream against what a peer's stream gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

import co3d_compile
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.law import assert_same, axes_of, stream_video

FRAMES = 24


@dataclass(frozen=True)
class Answer:
    """The elements that a peer gave for a video, from number 0 on, and the tick at which each was there."""

    elements: Tensor
    ticks: Sequence[int]


def alive(model: nn.Module, clip: Sequence[int]) -> nn.Module:
    """The model in eval mode, so weighted that its outputs move."""
    return make_alive(model.eval(), wandering_video(clip, seed=1))


def video_like(clip: Sequence[int], frames: int = FRAMES) -> Tensor:
    batch, channels, _, *frame = clip
    return wandering_video((batch, channels, frames, *frame), seed=2)


def assert_agrees(
    model: nn.Module, clip: Sequence[int], video: Tensor, answer: Answer, *, same_ticks: bool = True
) -> Tensor:
    """Element for element and tick for tick, as far as the peer answers: for half of the video at least.

    Without ``same_ticks`` ours comes at the peer's tick or before. Returns all of our elements.
    """
    network = co3d_compile.compile(model, tuple(clip), time_axis=2)
    (axis,) = axes_of(model, video)
    came = stream_video(network, video, [axis])
    (ours,), (ticks,) = came.outputs, came.ticks
    theirs = axis.apart(answer.elements, len(video))
    count = theirs.shape[axis.along]

    assert ours is not None
    assert len(answer.ticks) == count >= len(ticks) / 2
    assert_same(ours.narrow(axis.along, 0, count), theirs, axis.along, "our stream against the peer's")
    if same_ticks:
        assert ticks[:count] == list(answer.ticks)
    assert all(tick <= there for tick, there in zip(ticks[:count], answer.ticks, strict=True))
    return ours

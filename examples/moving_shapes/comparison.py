"""What the stream says of a video, beside what the original says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from co3d_compile import Network
from moving_shapes.model import FRAMES, Block, MovementNet

STRIDE = 2
WINDOW = FRAMES // STRIDE
"""Frames from one element of the features to the next, and elements in a clip."""


@dataclass(frozen=True)
class Comparison:
    """Scores of the same clips, made in three ways. Row n belongs to the clip that begins at frame ``STRIDE * n``.

    Attributes:
        times: of each frame, in seconds.
        stream: from the network, frame by frame.
        ticks: the tick at which each row of ``stream`` came out; from ``len(times)`` on: after the last frame.
        whole: the original's layers on the whole video, its head on each window.
        clips: the original on each clip by itself. A last clip that reaches beyond the video is left out.
        push_ms: of each frame of the stream.
        clip_ms: of each clip.
    """

    times: tuple[float, ...]
    stream: Tensor
    ticks: tuple[int, ...]
    whole: Tensor
    clips: Tensor
    push_ms: tuple[float, ...]
    clip_ms: tuple[float, ...]

    @property
    def law_difference(self) -> float:
        """The largest difference between the stream's scores and the original's on the whole video."""
        return (self.stream - self.whole).abs().max().item()

    @property
    def movement(self) -> float:
        """How far the original's scores move at most from one prediction to the next."""
        return self.whole.diff(dim=0).abs().max().item()

    @property
    def clip_difference(self) -> float:
        """The largest difference between the stream's scores and those of clips by themselves."""
        return (self.stream[: len(self.clips)] - self.clips).abs().max().item()

    @property
    def agreement(self) -> float:
        """The share of clips to which the stream and the original by itself give one class."""
        return (self.stream[: len(self.clips)].argmax(1) == self.clips.argmax(1)).float().mean().item()

    @property
    def stream_ms(self) -> float:
        """The time of one prediction: all the frames from one to the next."""
        pairs = zip(self.push_ms[::2], self.push_ms[1::2], strict=False)
        return median(sum(pair) for pair in pairs)

    @property
    def original_ms(self) -> float:
        return median(self.clip_ms)


def compare(model: MovementNet, network: Network, frames: Iterable[tuple[float, Tensor]]) -> Comparison:
    """Stream the frames; let the original see each clip when its last frame is there, and then the whole video."""
    times: list[float] = []
    seen: list[Tensor] = []
    came: list[tuple[int, Tensor]] = []
    clips: list[Tensor] = []
    push_ms: list[float] = []
    clip_ms: list[float] = []
    stream = network.stream()
    with one_thread(), torch.no_grad():
        for tick, (time, frame) in enumerate(frames):
            times.append(time)
            seen.append(frame)
            scores, milliseconds = timed(stream.push, frame)
            push_ms.append(milliseconds)
            if scores is not None:
                came.append((tick, scores))
            first = tick + 1 - FRAMES
            if first >= 0 and first % STRIDE == 0:
                scores, milliseconds = timed(model, torch.stack(seen[first:], 2))
                clips.append(scores)
                clip_ms.append(milliseconds)
    came += [(tick, scores) for tick, scores in enumerate(stream.flush(), len(seen)) if scores is not None]
    return Comparison(
        times=tuple(times),
        stream=torch.cat([scores for _, scores in came]),
        ticks=tuple(tick for tick, _ in came),
        whole=scores_of_whole_video(model, torch.stack(seen, 2)),
        clips=torch.cat(clips),
        push_ms=tuple(push_ms),
        clip_ms=tuple(clip_ms),
    )


def timed(function: Callable[[Tensor], Tensor], argument: Tensor) -> tuple[Tensor, float]:
    """The result and the milliseconds that it took."""
    begin = perf_counter()
    result = function(argument)
    return result, 1000 * (perf_counter() - begin)


@contextmanager
def one_thread() -> Iterator[None]:
    """So that other work on the machine disturbs the times as little as may be."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def scores_of_whole_video(model: MovementNet, video: Tensor) -> Tensor:
    """The original's layers on the whole video, so that clips have their true neighbours; its head on each window.

    One thing differs from the original, the one that the report names: the gates see one frame at a time.
    """
    original = deepcopy(model)
    for block in original.blocks:
        assert isinstance(block, Block)
        block.gate.over = (3, 4)
    features = original.features(video)
    count = features.shape[2] - WINDOW + 1
    return torch.cat([original.classify(features[:, :, n : n + WINDOW]) for n in range(count)])

"""What the stream says of a video, beside what the original says of it."""

from __future__ import annotations

from collections.abc import Iterable
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
    """Stream the frames; then let the original see the same frames as clips and as one whole video."""
    times: list[float] = []
    seen: list[Tensor] = []
    came: list[tuple[int, Tensor]] = []
    push_ms: list[float] = []
    stream = network.stream()
    for tick, (time, frame) in enumerate(frames):
        begin = perf_counter()
        scores = stream.push(frame)
        push_ms.append(1000 * (perf_counter() - begin))
        times.append(time)
        seen.append(frame)
        if scores is not None:
            came.append((tick, scores))
    came += [(tick, scores) for tick, scores in enumerate(stream.flush(), len(seen)) if scores is not None]
    video = torch.stack(seen, 2)
    clips, clip_ms = scores_of_clips(model, video)
    ticks = tuple(tick for tick, _ in came)
    scores = torch.cat([scores for _, scores in came])
    whole = scores_of_whole_video(model, video)
    return Comparison(tuple(times), scores, ticks, whole, clips, tuple(push_ms), clip_ms)


@torch.no_grad()
def scores_of_clips(model: MovementNet, video: Tensor) -> tuple[Tensor, tuple[float, ...]]:
    """The unchanged original on a sliding window, and the milliseconds that each clip took."""
    scores, milliseconds = [], []
    for first in range(0, video.shape[2] - FRAMES + 1, STRIDE):
        begin = perf_counter()
        scores.append(model(video[:, :, first : first + FRAMES]))
        milliseconds.append(1000 * (perf_counter() - begin))
    return torch.cat(scores), tuple(milliseconds)


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

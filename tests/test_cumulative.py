"""Gates and norms made from everything since the start of the video, against running statistics written out here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import ApproximationError, InputError, UnsupportedError
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.network import Network
from co3d_compile.testing.law import axes_of, check_ticks, check_video

CLIP = (1, 3, 8, 6, 6)
WIDTH = 8

Statistic = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def counts(x: Tensor) -> Tensor:
    return torch.arange(1, x.shape[2] + 1, dtype=x.dtype).view(1, 1, -1, 1, 1)


def running_mean(x: Tensor) -> Tensor:
    """(N, C, T, 1, 1): over space and all elements so far."""
    return x.mean((3, 4), keepdim=True).cumsum(2) / counts(x)


def running_variance(x: Tensor, correction: int = 1) -> Tensor:
    """As of a clip of the example's length."""
    spread = running_mean(x.square()) - running_mean(x).square()
    count = WIDTH * x.shape[3] * x.shape[4]
    return spread * count / (count - correction)


def running_logsumexp(x: Tensor) -> Tensor:
    return running_mean(x.double().exp()).log().to(x.dtype) + torch.tensor(float(WIDTH * x.shape[3] * x.shape[4])).log()


def running_max(x: Tensor) -> Tensor:
    return x.amax((3, 4), keepdim=True).cummax(2).values


ALL = (2, 3, 4)
STATISTICS: dict[str, tuple[Statistic, Statistic]] = {
    "mean": (lambda x: x.mean(ALL, keepdim=True), running_mean),
    "mean, dropped": (lambda x: x.mean(ALL)[:, :, None, None, None], running_mean),
    "sum": (lambda x: x.sum(ALL, keepdim=True) / 99, lambda x: running_mean(x) * (WIDTH * 36) / 99),
    "largest": (lambda x: x.amax(ALL, keepdim=True), running_max),
    "smallest": (lambda x: x.amin(ALL, keepdim=True), lambda x: -running_max(-x)),
    "largest along time": (lambda x: x.max(2, keepdim=True).values, lambda x: x.cummax(2).values),
    "smallest of all": (lambda x: x.min(), lambda x: x.amin((1, 3, 4), keepdim=True).cummin(2).values),
    "adaptive mean": (lambda x: F.adaptive_avg_pool3d(x, 1), running_mean),
    "adaptive maximum": (lambda x: F.adaptive_max_pool3d(x, 1), running_max),
    "average pool": (lambda x: F.avg_pool3d(x, (WIDTH, 6, 6)), running_mean),
    "maximum pool": (lambda x: F.max_pool3d(x, (WIDTH, 6, 6)), running_max),
    "variance": (lambda x: x.var(ALL, keepdim=True), running_variance),
    "variance, dropped": (lambda x: x.var(ALL, correction=0)[..., None, None, None], lambda x: running_variance(x, 0)),
    "variance along time": (
        lambda x: x.var(2, keepdim=True),
        lambda x: ((x.square().cumsum(2) / counts(x)) - (x.cumsum(2) / counts(x)).square()) * WIDTH / (WIDTH - 1),
    ),
    "deviation": (lambda x: x.std(ALL, keepdim=True), lambda x: running_variance(x).sqrt()),
    "logsumexp": (lambda x: x.logsumexp(ALL, keepdim=True), running_logsumexp),
}
ONE_STREAM = ("smallest of all",)


class Gated(nn.Module):
    """A convolution, and a gate on what it gives."""

    def __init__(self, statistic: Statistic) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, 1, 1)
        self.squeeze = nn.Conv3d(4, 4, 1)
        self.after = nn.Conv3d(4, 2, (3, 1, 1), padding=(1, 0, 0))
        self.statistic = statistic

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.after(y * self.gate(self.statistic(y)))

    def gate(self, statistic: Tensor) -> Tensor:
        return torch.sigmoid(self.squeeze(statistic) if statistic.shape[1] == 4 else statistic)


def check(network: Network, reference: nn.Module, streams: int = 2) -> None:
    """Stream, whole video and chunks give what the reference gives, and no element comes sooner or later than it can."""
    video = wandering_video((streams, 3, 13, 6, 6), seed=3)
    axes = axes_of(reference, wandering_video(CLIP))
    longest = check_video(network, reference, video, axes)
    check_ticks(reference, video, longest.ticks, axes)
    check_video(network, reference, video[:, :, :8], axes)


def gated(name: str) -> tuple[Gated, Gated]:
    """The model, and the same weights with the statistic written out for whole videos."""
    model, reference = (Gated(statistic) for statistic in STATISTICS[name])
    make_alive(nn.Sequential(model.conv, nn.ReLU()), wandering_video(CLIP))
    reference.load_state_dict(model.state_dict())
    return model.eval(), reference.eval()


@pytest.mark.parametrize("name", STATISTICS)
def test_a_cumulative_gate_is_made_from_everything_so_far(name: str) -> None:
    model, reference = gated(name)

    network = co3d_compile.compile(model, CLIP, policy={"*": "cumulative"})

    check(network, reference, streams=1 if name in ONE_STREAM else 2)

    (output,) = network.report.outputs
    assert output.delay == 2
    assert [entry.reason for entry in output.approximations] == [
        "a gate on the whole clip, made from all elements since the start instead"
    ]
    assert output.carried
    right = network.verify(model)
    assert right.passed, str(right)

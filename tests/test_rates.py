"""Networks at several rates: pathways of one video, and an answer at every frame of a strided network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import InputError, UnsupportedError
from co3d_compile.network import Network
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.dense import check_dense_law
from co3d_compile.testing.law import assert_same

CLIP = (1, 2, 12, 4, 4)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(2, 3, 3, stride=(2, 1, 1), padding=1)
        self.conv2 = nn.Conv3d(3, 3, (3, 1, 1), padding=(1, 0, 0))
        self.shortcut = nn.Conv3d(2, 3, 1, stride=(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x).relu()) + self.shortcut(x)).relu()


class Pathways(nn.Module):
    """A slow and a fast pathway, a lateral convolution with temporal stride, one head."""

    def __init__(self, alpha: int = 4) -> None:
        super().__init__()
        self.slow = nn.Conv3d(2, 4, (1, 3, 3), padding=(0, 1, 1))
        self.fast = nn.Conv3d(2, 2, (5, 3, 3), padding=(2, 1, 1))
        self.lateral = nn.Conv3d(2, 4, (5, 1, 1), stride=(alpha, 1, 1), padding=(2, 0, 0))
        self.slow2 = nn.Conv3d(8, 4, (3, 1, 1), padding=(1, 0, 0))
        self.fast2 = nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0))
        self.head = nn.Linear(6, 3)

    def forward(self, pathways: list[Tensor]) -> Tensor:
        slow, fast = self.slow(pathways[0]).relu(), self.fast(pathways[1]).relu()
        slow = self.slow2(torch.cat([slow, self.lateral(fast)], 1))
        fast = self.fast2(fast)
        return self.head(torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1))


STRIDED: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv3d(2, 3, 3, stride=2, padding=1),
    "two strides": lambda: nn.Sequential(
        nn.Conv3d(2, 3, 3, stride=(2, 1, 1), padding=1),
        nn.ReLU(),
        nn.Conv3d(3, 3, (3, 1, 1), stride=(3, 1, 1), padding=(1, 0, 0), dilation=(2, 1, 1)),
    ),
    "residual": Residual,
    "pools": lambda: nn.Sequential(
        nn.MaxPool3d((3, 1, 1), (2, 1, 1), (1, 0, 0)),
        nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0)),
        nn.AvgPool3d((2, 2, 2), ceil_mode=True, count_include_pad=False),
    ),
    "slices": lambda: nn.Sequential(Residual(), _Function(lambda x: x[:, :, 1:] - x[:, :, :-1])),
    "strided slice": lambda: nn.Sequential(_Function(lambda x: x[:, :, 1::3]), nn.Conv3d(2, 2, (2, 1, 1))),
}
HEADS: dict[str, Callable[[], nn.Module]] = {
    "mean": lambda: _Function(lambda x: x.mean((2, 3, 4))),
    "largest": lambda: nn.Sequential(nn.AdaptiveMaxPool3d(1), nn.Flatten()),
    "last": lambda: _Function(lambda x: x[:, :, -1]),
    "flatten and linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 16, 2)),
}


class _Function(nn.Module):
    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


def came_from(net: Network, frames: Tensor) -> list[tuple[int, Any]]:
    """Tick and answer of everything that a stream gives."""
    stream = net.stream(frames.shape[0])
    answers = [stream.push(frame) for frame in frames.unbind(2)] + stream.flush()
    return [(tick, answer) for tick, answer in enumerate(answers) if answer is not None]


@pytest.mark.parametrize("name", STRIDED)
def test_a_dense_rate_gives_every_phase_of_the_strided_network(name: str) -> None:
    torch.manual_seed(0)
    model = make_alive(STRIDED[name](), wandering_video(CLIP))

    check_dense_law(model, CLIP, frames=31)


@pytest.mark.parametrize("name", HEADS)
def test_a_dense_head_answers_the_window_at_every_frame(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Residual(), HEADS[name]())
    make_alive(model, wandering_video(CLIP))
    net = co3d_compile.compile(model, CLIP, rate="dense")
    result = net.verify(model)

    assert result.passed, str(result)
    assert result.outputs[0].elements >= 3


def test_without_padding_the_dense_answers_are_those_of_the_sliding_window() -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv3d(2, 3, (3, 1, 1), stride=(2, 1, 1)), nn.ReLU(), nn.Conv3d(3, 3, (2, 3, 3)))
    model = nn.Sequential(trunk, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 2))
    make_alive(model, wandering_video(CLIP))
    video = wandering_video((2, 2, 20, 4, 4), seed=1)
    net = co3d_compile.compile(model, CLIP, rate="dense")
    with torch.no_grad():
        wanted = torch.stack([model(video[:, :, first : first + 11]) for first in range(10)])

    came = came_from(net, video)

    assert [tick for tick, _ in came][:10] == list(range(10, 20))
    assert_same(torch.stack([answer for _, answer in came])[:10], wanted, 0, "windows")


def test_a_dense_rate_of_what_goes_up_is_refused() -> None:
    model = nn.Sequential(nn.AvgPool3d((2, 1, 1)), nn.Upsample(scale_factor=(2, 1, 1)))

    with pytest.raises(UnsupportedError, match="there is none of them for every frame"):
        co3d_compile.compile(model, CLIP, rate="dense")


def test_an_unknown_rate_is_refused() -> None:
    with pytest.raises(InputError, match="rate is 'double'\n  try: one of native, dense"):
        co3d_compile.compile(nn.Conv3d(2, 2, 3), CLIP, rate="double")  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", ["native", "dense"])
def test_two_pathways_of_one_video(rate: Any) -> None:
    torch.manual_seed(0)
    model = Pathways()
    clip = [wandering_video((1, 2, 3, 4, 4)), wandering_video((1, 2, 12, 4, 4))]
    make_alive(model, clip)
    net = co3d_compile.compile(model, clip, rate=rate)
    result = net.verify(model)

    assert result.passed, str(result)
    assert result.outputs[0].elements >= 3
    assert net.report.outputs[0].stride == (4 if rate == "native" else 1)


@pytest.mark.parametrize("rate", ["native", "dense"])
def test_one_video_feeds_both_pathways(rate: Any) -> None:
    torch.manual_seed(0)
    model = Pathways()
    clip = [wandering_video((1, 2, 3, 4, 4)), wandering_video((1, 2, 12, 4, 4))]
    make_alive(model, clip)
    net = co3d_compile.compile(model, clip, rate=rate)
    video = wandering_video((1, 2, 21, 4, 4), seed=1)

    came = came_from(net, video)
    whole = net.forward(video)

    assert len(came) > 2
    assert_same(torch.stack([answer for _, answer in came], 1), whole, 1, "forward")


def test_a_window_keeps_the_pathways_at_the_same_frames() -> None:
    clip = [torch.randn(1, 2, 3, 4, 4), torch.randn(1, 2, 12, 4, 4)]
    net = co3d_compile.compile(Pathways(), clip, window=5)

    assert sorted(node.reading.count for node in net.plan.nodes if node.resizable) == [5, 20]

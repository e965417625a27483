"""``window=``: what the original takes from its whole clip is taken from a window of another width in the stream."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.testing.alive import wandering_video

FRAMES = 13


class Head(nn.Module):
    """A pool over clips of four frames, behind one convolution."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, 3, padding=1)
        self.pool = pool
        self.post = nn.Conv3d(4, 3, 1)

    def forward(self, clip: Tensor) -> Tensor:
        return self.post(self.pool(self.conv(clip))).mean((3, 4))


AVERAGES = [nn.AvgPool3d((4, 5, 5), stride=1), nn.AvgPool3d((4, 5, 5)), nn.AdaptiveAvgPool3d(1)]
MAXIMA = [nn.MaxPool3d((4, 5, 5), stride=1), nn.AdaptiveMaxPool3d(1)]


@pytest.mark.parametrize("window", [1, 2, 4, 7])
@pytest.mark.parametrize("pool", AVERAGES + MAXIMA, ids=str)
def test_every_pool_that_spans_the_clip_takes_another_width(pool: nn.Module, window: int) -> None:
    """The oracle: the same network around a pool of that width."""
    torch.manual_seed(0)
    model = Head(pool).eval()
    video = wandering_video((1, 2, FRAMES, 5, 5))
    kind = nn.AvgPool3d if pool in AVERAGES else nn.MaxPool3d
    with torch.no_grad():
        wanted = model.post(kind((window, 5, 5), stride=1)(model.conv(video)))[0, :, :, 0, 0].T

    network = co3d_compile.compile(model, (1, 2, 4, 5, 5), window=window)
    stream = network.stream()
    came = [stream.push(frame) for frame in video.unbind(2)] + stream.flush()
    whole = network.forward(video)

    assert [tick for tick, out in enumerate(came) if out is not None] == list(range(window, FRAMES + 1))
    torch.testing.assert_close(torch.cat([out[..., 0] for out in came if out is not None]), wanted)
    torch.testing.assert_close(whole[0].T if whole.dim() == 3 else whole[0, :, :, 0], wanted)
    assert network.report.outputs[0].delay == window


def test_a_pool_that_does_not_span_the_clip_keeps_its_width() -> None:
    model = nn.Sequential(nn.AvgPool3d((3, 1, 1), stride=1), nn.Conv3d(2, 3, 1))

    wide = co3d_compile.compile(model, (1, 2, 4, 5, 5), window=9)

    assert wide.report.outputs[0].receptive_field == 3

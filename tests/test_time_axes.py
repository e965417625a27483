"""Time is found where only one reading of the clip streams."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import UnsupportedError
from co3d_compile.network import Network
from co3d_compile.report.text import render_report
from co3d_compile.testing.law import check_law
from tests.functions import Function


def frames_first(x: Tensor, frames: nn.Module, time: nn.Module) -> Tensor:
    """``(N, T, C, H, W)``: a 2-D network on every frame, a 1-D one over its features."""
    features = frames(x.flatten(0, 1)).mean((2, 3)).unflatten(0, x.shape[:2])
    return time(features.transpose(1, 2))


def channels_last(x: Tensor, frames: nn.Module) -> Tensor:
    """``(N, T, H, W, C)``: a 2-D network on every frame."""
    maps = frames(x.flatten(0, 1).permute(0, 3, 1, 2)).relu()
    return maps.unflatten(0, x.shape[:2])


MODELS = {
    "NTCHW": (Function(frames_first, frames=nn.Conv2d(3, 4, 3), time=nn.Conv1d(4, 2, 3)), (1, 8, 3, 6, 6), 1),
    "NTHWC": (Function(channels_last, frames=nn.Conv2d(3, 4, 3)), (1, 8, 6, 6, 3), 1),
    "NCTHW": (nn.Conv3d(3, 2, 3), (1, 3, 8, 6, 6), 2),
    "NCT": (nn.Conv1d(3, 2, 3), (1, 3, 8), 2),
    "NTC": (Function(lambda x, c: c(x.mT).mT, conv=nn.Conv1d(3, 2, 3)), (1, 8, 3), 1),
    "NTHW": (Function(lambda x, c: c(x.unsqueeze(1)), conv=nn.Conv3d(1, 2, 3)), (1, 8, 6, 6), 1),
}


@pytest.mark.parametrize(("model", "clip", "axis"), MODELS.values(), ids=MODELS.keys())
def test_time_is_found(model: nn.Module, clip: tuple[int, ...], axis: int) -> None:
    net = co3d_compile.compile(model, clip)

    assert [given.time_axis for given in net.report.inputs] == [axis]


@pytest.mark.parametrize(("model", "clip", "axis"), MODELS.values(), ids=MODELS.keys())
def test_a_network_obeys_the_law_wherever_time_lies(model: nn.Module, clip: tuple[int, ...], axis: int) -> None:
    torch.manual_seed(0)
    check_law(model, clip, time_axis=axis, lengths=(8, 13))


def told(net: Network) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_report(net.report))
    return console.export_text()


def test_the_report_tells_an_unusual_axis() -> None:
    assert "time is axis 1" in told(co3d_compile.compile(*MODELS["NTCHW"][:2]))
    assert "time is axis" not in told(co3d_compile.compile(*MODELS["NCTHW"][:2]))


def test_the_usual_reading_gives_the_reason() -> None:
    model = nn.Sequential(nn.Softmax(2), nn.Conv3d(3, 2, 3))

    with pytest.raises(UnsupportedError, match="it runs along time"):
        co3d_compile.compile(model, (1, 3, 8, 6, 6))


def test_a_reading_that_streams_to_the_end_comes_before_one_that_ends_in_windows() -> None:
    """Read as (N, C, T, H, W), the convolutions stream too, up to what needs the whole clip."""

    class FramesFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Linear(6, 4)
            self.colours = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.colours(self.rows(x).softmax(2).movedim(2, -1))

    network = co3d_compile.compile(FramesFirst().eval(), (1, 8, 3, 6, 6))

    assert network.plan.inputs[0].time_axis == 1
    assert not network.plan.last_resorts


def test_a_model_without_a_multiplication_is_read_as_usual() -> None:
    assert co3d_compile.compile(nn.MaxPool3d(2), (1, 3, 8, 6, 6)).plan.inputs[0].time_axis == 2

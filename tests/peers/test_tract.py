"""Our streams against tract's pulse mode, which is Rust, reads ONNX, and shares no code with torch or us."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from co3d_compile.testing.law import check_law
from tests.peers.agreement import alive, assert_agrees, video_like
from tests.peers.networks import Function, Gate, Joined, add, cat, conv, convs, pad, shifted
from tests.peers.pulsing import Pulsed, tract, written_as_onnx

pytestmark = pytest.mark.peers

VIDEO = (1, 2, 12, 6, 6)
SIGNAL = (1, 2, 12)


def residual() -> nn.Module:
    return Joined(add, convs(conv(2, 4), conv(4, 2, 5)), nn.Identity())


def inception() -> nn.Module:
    pooled = nn.Sequential(nn.MaxPool3d(3, 1, 1), conv(2, 1, 1))
    return Joined(cat, conv(2, 3, 1), convs(conv(2, 2, 1), conv(2, 2)), conv(2, 2, 5), pooled)


def dense() -> nn.Module:
    return nn.Sequential(
        Joined(cat, nn.Identity(), conv(2, 3)), Joined(cat, nn.Identity(), conv(5, 2, 5)), conv(7, 2, 2)
    )


def folded() -> nn.Module:
    """Frames in the batch in between."""
    into, back = (
        Function(lambda x: x.transpose(1, 2).flatten(0, 1)),
        Function(lambda x: x.unflatten(0, (1, -1)).transpose(1, 2)),
    )
    return nn.Sequential(conv(2, 3), into, nn.Conv2d(3, 4, 3, padding=1), back, conv(4, 2))


def separable() -> nn.Module:
    space, time = nn.Conv3d(2, 4, (1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.Conv3d(4, 4, (3, 1, 1), 1, (1, 0, 0), groups=4)
    return nn.Sequential(space, nn.BatchNorm3d(4), nn.ReLU(), time)


def temporal(channels: int) -> nn.Module:
    """A residual block of a temporal convolutional network: causal and dilated."""
    late = nn.Sequential(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(channels, channels, 3, dilation=2), nn.ReLU())
    return Joined(add, late, nn.Identity())


FRAME_BY_FRAME: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "padded": (lambda: convs(conv(2, 3), conv(3, 4, 5), conv(4, 2)), VIDEO),
    "dilated": (lambda: convs(conv(2, 3, d=2), conv(3, 2, d=3)), VIDEO),
    "valid": (lambda: convs(conv(2, 3, p=0), conv(3, 2, 4, p=0)), VIDEO),
    "even kernels": (lambda: convs(conv(2, 3, 4, p=2), conv(3, 2, 2, p=1)), VIDEO),
    "grouped": (lambda: convs(conv(2, 4, groups=2), conv(4, 4, 5, groups=4)), VIDEO),
    "causal": (lambda: nn.Sequential(pad(2, 0), conv(2, 3, p=0), nn.ReLU(), pad(1, 0), conv(3, 2, 2, p=0)), VIDEO),
    "looking ahead": (lambda: nn.Sequential(pad(0, 2), conv(2, 3, p=0), nn.ReLU(), conv(3, 2)), VIDEO),
    "residual": (lambda: nn.Sequential(residual(), nn.ReLU(), conv(2, 3)), VIDEO),
    "inception": (lambda: nn.Sequential(inception(), nn.ReLU(), conv(8, 2)), VIDEO),
    "dense": (dense, VIDEO),
    "separable": (separable, VIDEO),
    "gated in each frame": (lambda: nn.Sequential(conv(2, 4), Gate(4), conv(4, 2)), VIDEO),
    "folded": (folded, VIDEO),
    "max pool": (lambda: nn.Sequential(conv(2, 3), nn.MaxPool3d(3, 1, 1), conv(3, 2)), VIDEO),
    "dilated max pool": (
        lambda: nn.Sequential(conv(2, 3), nn.MaxPool3d((3, 2, 2), (1, 2, 2), dilation=(2, 1, 1))),
        VIDEO,
    ),
    "average pool": (lambda: nn.Sequential(conv(2, 3), nn.AvgPool3d((4, 2, 2), 1), conv(3, 2)), VIDEO),
    "temporal shift": (lambda: nn.Sequential(conv(2, 4), Function(shifted), conv(4, 3, 1), Function(shifted)), VIDEO),
    "differences": (lambda: nn.Sequential(conv(2, 3), Function(lambda x: x[:, :, 1:] - x[:, :, :-1])), VIDEO),
    "cut at the start": (lambda: nn.Sequential(conv(2, 3), Function(lambda x: x[:, :, 2:]), conv(3, 2)), VIDEO),
    "over space, then over time": (
        lambda: nn.Sequential(conv(2, 3), Function(lambda x: x.mean((3, 4))), nn.Conv1d(3, 4, 5, padding=2)),
        VIDEO,
    ),
    "of a signal": (lambda: nn.Sequential(nn.Conv1d(2, 4, 1), temporal(4), temporal(4), nn.Conv1d(4, 2, 1)), SIGNAL),
    "transposed": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.ConvTranspose1d(3, 2, 3, padding=1)), SIGNAL),
    "transposed to two elements a frame": (
        lambda: nn.Sequential(nn.ConvTranspose1d(2, 3, 4, stride=2, padding=1), nn.ReLU(), nn.Conv1d(3, 2, 3)),
        SIGNAL,
    ),
}

LATER: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "strided": (lambda: convs(conv(2, 3, s=2), conv(3, 3), conv(3, 2, s=2)), VIDEO, 4),
    "strides of 2 and 3": (lambda: convs(conv(2, 3, 4, s=2, p=1), conv(3, 3, 5, s=3, p=2), conv(3, 2)), VIDEO, 6),
    "strided residual": (
        lambda: nn.Sequential(Joined(add, convs(conv(2, 4, s=2), conv(4, 3)), conv(2, 3, 1, s=2)), conv(3, 2)),
        VIDEO,
        4,
    ),
    "strided pools": (
        lambda: nn.Sequential(conv(2, 3), nn.MaxPool3d(3, 2, 1), conv(3, 3), nn.AvgPool3d((2, 1, 1))),
        VIDEO,
        4,
    ),
    "padded by more than is late": (lambda: nn.Sequential(conv(2, 3), pad(2, 1, 0.5), conv(3, 2, p=0)), VIDEO, 1),
}

REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "one frame under a stride": (lambda: conv(2, 3, s=2), VIDEO, r"requires pulse \(1\) to be a stride \(2\) multiple"),
    "padded average pool": (lambda: nn.AvgPool3d(3, 1, 1), VIDEO, "No padding value for streaming pool"),
    "cut before the start": (lambda: nn.Sequential(conv(2, 3), pad(-1, 1)), VIDEO, "is too large"),
}


def pulsed(model: nn.Module, clip: tuple[int, ...], folder: Path, pulse: int = 1) -> Pulsed:
    return Pulsed(written_as_onnx(model, video_like(clip), folder / "model.onnx"), clip, pulse)


def lively(build: Callable[[], nn.Module], clip: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    return alive(build(), clip)


@pytest.mark.parametrize("name", FRAME_BY_FRAME)
def test_elements_and_ticks_are_those_of_tract_frame_by_frame(name: str, tmp_path: Path) -> None:
    build, clip = FRAME_BY_FRAME[name]
    model = lively(build, clip)
    answer = pulsed(model, clip, tmp_path).run(video_like(clip))

    assert_agrees(model, clip, video_like(clip), answer)


@pytest.mark.parametrize("name", LATER)
def test_elements_are_those_of_tract_and_come_no_later(name: str, tmp_path: Path) -> None:
    """tract takes strided networks in steps of whole periods, and waits before it pads what is late already."""
    build, clip, pulse = LATER[name]
    model = lively(build, clip)
    answer = pulsed(model, clip, tmp_path, pulse).run(video_like(clip))

    assert_agrees(model, clip, video_like(clip), answer, same_ticks=False)


@pytest.mark.parametrize("name", REFUSED)
def test_what_tract_refuses_obeys_the_law_with_us(name: str, tmp_path: Path) -> None:
    build, clip, reason = REFUSED[name]
    model = lively(build, clip)

    with pytest.raises(tract.TractError, match=reason):
        pulsed(model, clip, tmp_path).run(video_like(clip))
    check_law(model, clip, alive=False)


def test_a_whole_clip_pool_has_no_pulse_in_tract_and_is_a_window_with_us(tmp_path: Path) -> None:
    head = nn.Sequential(conv(2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())

    with pytest.raises(tract.TractError, match="could not track pulsing axis"):
        pulsed(lively(lambda: head, VIDEO), VIDEO, tmp_path)


def test_tract_counts_the_delay_of_a_transposed_convolution_in_elements_of_its_input(tmp_path: Path) -> None:
    """Its elements are ours all the same, twice as late as it says."""
    model = lively(lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.ConvTranspose1d(3, 2, 2, stride=2)), SIGNAL)
    theirs = pulsed(model, SIGNAL, tmp_path)

    assert theirs.delay == 2
    theirs.delay = 4
    assert_agrees(model, SIGNAL, video_like(SIGNAL), theirs.run(video_like(SIGNAL)))

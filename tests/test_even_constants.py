"""Constants laid out for all frames of the clip, the same for each, do not keep a network from streaming."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import co3d_compile
from co3d_compile.testing.law import check_law
from tests.functions import Function

CLIP = (1, 3, 8, 6, 5)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def repeated(y: Tensor) -> Tensor:
    """Coordinates as CoordConv makes them."""
    b, _, t, h, w = y.shape
    columns = torch.arange(w).repeat(b, 1, t, h, 1).float() / (w - 1)
    rows = torch.arange(h)[:, None].repeat(b, 1, t, 1, w).float() / (h - 1)
    return torch.cat([y, columns * 2 - 1, rows * 2 - 1], 1)


def warped(y: Tensor) -> Tensor:
    """Frames sampled where they say themselves, from a grid laid out for all of them."""
    frames = y.transpose(1, 2).flatten(0, 1)
    n, _, h, w = frames.shape
    columns = torch.linspace(-1, 1, w).view(1, 1, 1, w).expand(n, -1, h, -1)
    rows = torch.linspace(-1, 1, h).view(1, 1, h, 1).expand(n, -1, -1, w)
    grid = torch.cat([columns, rows], 1) + frames[:, :2] / 8
    moved = F.grid_sample(frames, grid.permute(0, 2, 3, 1), align_corners=True)
    return moved.unflatten(0, (len(y), -1)).transpose(1, 2)  # type: ignore[no-untyped-call]


def tabled(y: Tensor) -> Tensor:
    return y * torch.tensor([[0.5, 2.0]]).repeat(y.shape[2], 2)[:, :4].mT[:, :, None, None]


@pytest.mark.parametrize("tail", [repeated, warped, tabled])
def test_what_is_the_same_for_every_frame_streams(tail: Callable[[Tensor], Tensor]) -> None:
    model = Function(lambda x, conv: tail(conv(x)), conv=nn.Conv3d(3, 4, 3, padding=1)).eval()

    network = check_law(model, CLIP, lengths=[8, 9, 13])

    assert network.report.totals.share_streamed == 1
    assert not network.report.last_resorts
    assert network.verify(model).passed


@pytest.mark.parametrize(
    "factor", [nn.Parameter(torch.ones(8, 1, 1)), torch.arange(8.0)[:, None, None]], ids=["trained", "by frame"]
)
def test_what_training_may_change_or_frames_have_each_for_itself_stays_what_it_is(factor: Tensor) -> None:
    conv = nn.Conv3d(3, 4, 3, padding=1)
    model = Function(lambda x, conv, factor: conv(x) * factor, conv=conv, factor=factor).eval()

    (part,) = co3d_compile.compile(model, CLIP).report.last_resorts

    assert "an operand of 8 fixed values lies along time" in part.refusals[0].reason


def test_a_list_of_one_tensor_is_joined_along_time_to_nothing() -> None:
    model = Function(lambda x, conv: torch.cat([conv(x).flatten(1)], 1), conv=nn.Conv3d(3, 4, 3, padding=1)).eval()

    assert co3d_compile.compile(model, CLIP).verify(model).passed

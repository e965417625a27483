"""Constant masks of channels or pixels pick places that are known when a network is compiled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import UnsupportedError
from co3d_compile.testing.law import check_law

CLIP = (1, 3, 8, 6, 6)


class Masking(nn.Module):
    def __init__(self, tail: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(3, 4, 3, padding=1)
        self.register_buffer("mask", torch.tensor([True, False, True, True]))
        self.tail = tail

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.conv(x), self.mask)


TAILS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a literal": lambda y, mask: y[:, torch.tensor([True, False, False, True])],
    "a buffer": lambda y, mask: y[:, mask].flatten(3).relu() + 1,
    "computed": lambda y, mask: torch.cat([y[:, torch.arange(4) % 2 == 0], y[:, ~mask] * 2], 1),
    "of pixels": lambda y, mask: y[..., torch.eye(6, dtype=torch.bool)].view(*y.shape[:3], -1),
}


@pytest.mark.parametrize("name", TAILS)
def test_what_a_constant_mask_picks_streams(name: str) -> None:
    model = Masking(TAILS[name]).eval()
    network = check_law(model, CLIP, lengths=[8, 9, 13])

    assert network.report.totals.share_streamed == 1
    assert network.verify(model).passed


def test_what_a_mask_of_the_video_picks_is_of_no_known_size() -> None:
    with pytest.raises(UnsupportedError, match="depends on the values in the video"):
        co3d_compile.compile(Masking(lambda y, mask: y[:, y.mean((0, 2, 3, 4)) > 0]), CLIP)

"""Networks that both a peer and we stream, as torch writes them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Joined(nn.Module):
    """Branches from one input, added or laid side by side."""

    def __init__(self, join: Callable[[list[Tensor]], Tensor], *branches: nn.Module) -> None:
        super().__init__()
        self.join = join
        self.branches = nn.ModuleList(branches)

    def forward(self, video: Tensor) -> Tensor:
        return self.join([branch(video) for branch in self.branches])


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, video: Tensor) -> Tensor:
        return self.function(video)


class Gate(nn.Module):
    """Squeeze-and-excitation within each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, 1)

    def forward(self, video: Tensor) -> Tensor:
        return video * torch.sigmoid(self.conv(video.mean((3, 4), keepdim=True)))


def add(branches: list[Tensor]) -> Tensor:
    return branches[0] + branches[1]


def cat(branches: list[Tensor]) -> Tensor:
    return torch.cat(branches, 1)


def shifted(video: Tensor) -> Tensor:
    """The first channel a frame late, the second a frame early."""
    late, early = F.pad(video[:, :1, :-1], (0, 0, 0, 0, 1, 0)), F.pad(video[:, 1:2, 1:], (0, 0, 0, 0, 0, 1))
    return torch.cat([late, early, video[:, 2:]], 1)


def convs(*layers: nn.Module) -> nn.Sequential:
    """Layers with a batch norm and an activation between every two."""
    between = [(one, nn.BatchNorm3d(one.out_channels), nn.ReLU()) for one, _ in pairwise(layers)]
    return nn.Sequential(*[part for three in between for part in three], layers[-1])


def conv(
    channels: int, out: int, k: int = 3, *, s: int = 1, d: int = 1, p: int | None = None, groups: int = 1
) -> nn.Conv3d:
    """Over time and space; ``k, s, d, p`` are those over time, and without ``p`` the length stays."""
    before = d * (k - 1) // 2 if p is None else p
    return nn.Conv3d(channels, out, (k, 3, 3), (s, 1, 1), (before, 1, 1), (d, 1, 1), groups)


def pad(before: int, after: int, value: float = 0.0) -> nn.Module:
    return nn.ConstantPad3d((0, 0, 0, 0, before, after), value)

"""Models of a few weights each, for files, commands and bad input; importable as ``tests.small_models:residual``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

CLIP = (1, 2, 6, 6, 6)


class Residual(nn.Module):
    """A strided residual block with a gate, a max pool and a classifier: every kind of field that a plan has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm3d(3)
        self.pool = nn.MaxPool3d(3, stride=1, padding=1)
        self.long = nn.Conv3d(3, 3, 3, stride=(2, 1, 1), padding=1)
        self.short = nn.Conv3d(3, 3, 1, stride=(2, 1, 1))
        self.gate = nn.Conv3d(3, 3, 1)
        self.head = nn.Linear(3, 4)
        self.register_buffer("scale", torch.tensor([0.5]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu() * self.scale
        x = self.long(self.pool(x)) + self.short(x)
        x = x * self.gate(x.mean((2, 3, 4), keepdim=True)).sigmoid()
        return self.head(x.mean((2, 3, 4)).double().float())


class Trunk(nn.Module):
    """Two convolutions whose weights are tied; elements come out along time."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv3d(2, 2, 3, padding=1)
        self.other = nn.Conv3d(2, 2, 3, padding=1, bias=False)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.one(x))


class Both(NamedTuple):
    trunk: Tensor
    more: dict


class Several(nn.Module):
    """Returns containers in containers, with constants among the tensors."""

    def forward(self, x: Tensor) -> Both:
        return Both(x + 1, {"none": None, "parts": [x * 2], "scale": 2})


class Branching(nn.Module):
    """Looks at the values to decide what to compute."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.mean() > 0 else x - 1


class Unmeeting(nn.Module):
    """Branches at strides 2 and 4, equally long for eight frames."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = nn.Sequential(nn.MaxPool3d(1, stride=(4, 1, 1)), nn.ConstantPad3d((0, 0, 0, 0, 0, 2), 0.0))
        self.fast = nn.MaxPool3d(1, stride=(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.fast(x) + self.slow(x)


class Pair(nn.Module):
    """Takes two videos."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other


def residual() -> nn.Module:
    """The same weights at every call; the norm's statistics are not what a norm starts with."""
    torch.manual_seed(0)
    model = Residual()
    nn.init.uniform_(model.norm.running_mean, -0.5, 0.5)
    nn.init.uniform_(model.norm.running_var, 0.5, 2.0)
    return model.eval()


def trunk() -> nn.Module:
    torch.manual_seed(0)
    return Trunk().eval()


def number() -> int:
    return 3


def failing() -> nn.Module:
    raise KeyError("no configuration")


CONSTANT = 7

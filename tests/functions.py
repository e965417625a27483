"""What the layers of random networks compute frame by frame, how their branches join, and how their time ends."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)
        self.names = tuple(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *(getattr(self, name) for name in self.names))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu_": lambda x: F.relu(x + 0, inplace=True),
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "hardswish": F.hardswish,
    "leaky_relu": F.leaky_relu,
    "silu_": lambda x: F.silu(x * 1.5, inplace=True),
    "swish": lambda x: x * torch.sigmoid(x),
    "clamp": lambda x: x.clamp(-1.0, 1.5),
    "abs": lambda x: (x - 0.25).abs(),
}
JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "iadd": lambda x, y: (x * 1).add_(y),
    "sub": lambda x, y: x - 0.5 * y,
    "mul": lambda x, y: x * torch.sigmoid(y),
    "max": torch.maximum,
    "where": lambda x, y: torch.where(y > 0, x, x * 0.5 + y),
    "stack": lambda x, y: torch.stack([x, y], 1).mean(1),
    "addcmul": lambda x, y: torch.addcmul(x, y, y, value=0.25),
}


def _square(channels: int) -> nn.Parameter:
    generator = torch.Generator().manual_seed(channels)
    return nn.Parameter(torch.randn(channels, channels, generator=generator) / channels**0.5)


def _bias(channels: int) -> nn.Parameter:
    return nn.Parameter(_square(channels)[0].detach().reshape(-1, 1, 1, 1))


MIXES: dict[str, Callable[[int], nn.Module]] = {
    "shuffle": lambda c: Function(lambda x: _shuffled(x, gcd(2, c))),
    "shuffle 3": lambda c: Function(lambda x: _shuffled(x, gcd(3, c))),
    "swap": lambda c: Function(lambda x: torch.cat([x[:, c // 2 :], x[:, : c // 2]], 1)),
    "chunk": lambda c: Function(lambda x: torch.cat([part * (n + 1) for n, part in enumerate(x.chunk(2, 1))], 1)),
    "split": lambda c: Function(lambda x: torch.cat(list(reversed(x.split(max(1, c // 2), 1))), 1)),
    "assign": lambda c: Function(lambda x: _assigned(x, max(1, c // 2))),
    "select": lambda c: Function(lambda x: x + x[:, 0].unsqueeze(1)),
    "roll": lambda c: Function(lambda x: x.roll(1, 1) + x.flip(4)),
    "linear": lambda c: Function(lambda x, fc: fc(x.movedim(1, -1)).movedim(-1, 1), fc=nn.Linear(c, c)),
    "einsum": lambda c: Function(lambda x, w: torch.einsum("ncthw,cd->ndthw", x, w), weight=_square(c)),
    "matmul": lambda c: Function(lambda x, w: (x.transpose(1, 4) @ w).transpose(1, 4), weight=_square(c)),
    "attention": lambda c: Function(_attention),
    "expand": lambda c: Function(lambda x: x + x.mean((3, 4), keepdim=True).expand_as(x)),
    "bias": lambda c: Function(lambda x, b: x * 0.5 + b, bias=_bias(c)),
    "transposed": lambda c: Function(lambda x: x.transpose(2, 3).contiguous().relu().transpose(3, 2)),
    "highest": lambda c: Function(lambda x: x - x.amax((1, 3, 4), keepdim=True)),
    "last axis": lambda c: Function(lambda x: F.softmax(x.permute(0, 3, 4, 1, 2), 3).permute(0, 3, 4, 1, 2)),
}
SIZE_CHANGING = {
    "grid": lambda c: Function(lambda x: F.adaptive_avg_pool3d(x, (None, 2, 2))),
    "flat space": lambda c: Function(lambda x: x.flatten(3).unsqueeze(-1)),
    "row": lambda c: Function(lambda x: x[:, :, :, :1] + x.narrow(3, 1, 1)),
    "rows in channels": lambda c: Function(lambda x: x.mean(3, keepdim=True).expand(-1, -1, -1, 2, -1)),
}


def _shuffled(x: Tensor, groups: int) -> Tensor:
    n, c, t, h, w = x.shape
    return x.view(n, groups, c // groups, t, h, w).transpose(1, 2).reshape(n, c, t, h, w)


def _assigned(x: Tensor, half: int) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :half] = x[:, :half] * 2
    y[:, half:] = x[:, half:] - x[:, :1]
    return y


def _attention(x: Tensor) -> Tensor:
    """Every position meets those of its own frame."""
    n, c, t, h, w = x.shape
    tokens = x.permute(0, 2, 3, 4, 1).reshape(n * t, h * w, c)
    weights = torch.softmax(tokens @ tokens.transpose(1, 2) / c**0.5, -1)
    return torch.bmm(weights, tokens).reshape(n, t, h, w, c).permute(0, 4, 1, 2, 3)


HEADS: dict[str, Callable[[int, int, int, int], nn.Module]] = {
    "mean": lambda c, t, h, w: nn.Sequential(Function(lambda x: x.mean((2, 3, 4))), nn.Linear(c, 3)),
    "pool": lambda c, t, h, w: nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(c, 3)),
    "max": lambda c, t, h, w: nn.Sequential(nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(c, 3)),
    "space kept": lambda c, t, h, w: nn.AdaptiveAvgPool3d((1, None, None)),
    "fixed": lambda c, t, h, w: nn.Sequential(nn.AvgPool3d((t, h, w)), nn.Conv3d(c, 3, 1), nn.Flatten()),
    "fixed max": lambda c, t, h, w: nn.Sequential(nn.MaxPool3d((t, 1, 1)), nn.Flatten(1)),
    "flatten": lambda c, t, h, w: nn.Sequential(nn.Flatten(), nn.Linear(c * t * h * w, 3)),
    "last": lambda c, t, h, w: Function(lambda x: x[:, :, -1].mean((2, 3))),
    "sum": lambda c, t, h, w: Function(lambda x: x.sum(2)),
    "spread": lambda c, t, h, w: Function(lambda x: torch.cat([x.amax((2, 3, 4)), x.mean((2, 3, 4))], 1)),
    "frames then time": lambda c, t, h, w: Function(lambda x: x.mean((3, 4)).transpose(1, 2).mean(1)),
    "scores": lambda c, t, h, w: Function(lambda x, fc: fc(x.mean((3, 4)).transpose(1, 2)).mean(1), fc=nn.Linear(c, 3)),
}

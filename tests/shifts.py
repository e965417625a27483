"""What renumbers time in random networks: ``a`` and ``b`` are small numbers of frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Renumbering = Callable[[Tensor, int, int], Tensor]


def _padded(x: Tensor, before: int, after: int, mode: str = "constant", value: float = 0.0) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, before, after), mode=mode, **({"value": value} if mode == "constant" else {}))


def _by_channel(x: Tensor, a: int, b: int) -> Tensor:
    channels = x.shape[1]
    later = _padded(x[:, :1], 1, -1)
    if channels == 1:
        return later
    return torch.cat([later, _padded(x[:, 1:2], -1, 1), x[:, 2:]], 1)


def _assigned(x: Tensor, a: int, b: int) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :1, :-a] = x[:, :1, a:]
    y[:, 1:, b:] = x[:, 1:, :-b]
    return y


def _assigned_to_a_copy(x: Tensor, a: int, b: int) -> Tensor:
    y = x.clone()
    y[:, :1, a:] = x[:, :1, :-a]
    y[:, 1:, :-b] += x[:, 1:, b:]
    return y


def _assigned_in_frames(x: Tensor, a: int, b: int) -> Tensor:
    n, c, t, h, w = x.shape
    frames = x.transpose(1, 2).reshape(n * t, c, h, w).view(n, t, c, h, w)
    y = torch.zeros_like(frames)
    y[:, :-a, :1] = frames[:, a:, :1]
    y[:, b:, 1:] = frames[:, :-b, 1:]
    return y.view(n * t, c, h, w).relu().reshape(n, t, c, h, w).transpose(1, 2)


def _ends_set(x: Tensor, a: int, b: int) -> Tensor:
    y = x.clone()
    y[:, :, 0] = 0.5
    y[:, :, -b:] = 0
    return y


def _rolled(x: Tensor, a: int, b: int) -> Tensor:
    y = x.roll(a, 2)
    y[:, :, :a] = 0
    return y


def _rolled_back(x: Tensor, a: int, b: int) -> Tensor:
    places = torch.arange(x.shape[2]).view(-1, 1, 1)
    return torch.where(places < x.shape[2] - a, x.roll(-a, 2), torch.zeros_like(x))


def _differences(x: Tensor, a: int, b: int) -> Tensor:
    """Of one difference nobody can tell whether the first is repeated, or all are."""
    if x.shape[2] < 3:
        raise IndexError("one difference is too few")
    differences = x[:, :, 1:] - x[:, :, :-1]
    return torch.cat([differences[:, :, :1], differences], 2)


KEEPING: dict[str, Renumbering] = {
    "delay": lambda x, a, b: _padded(x, a, -a),
    "advance": lambda x, a, b: _padded(x, -a, a),
    "shift": _by_channel,
    "assigned": _assigned,
    "assigned to a copy": _assigned_to_a_copy,
    "assigned in frames": _assigned_in_frames,
    "ends set": _ends_set,
    "rolled": _rolled,
    "rolled back": _rolled_back,
    "joined": lambda x, a, b: torch.cat([torch.zeros_like(x[:, :, :a]), x[:, :, :-a]], 2),
    "joined behind": lambda x, a, b: torch.cat([x[:, :, b:], torch.ones_like(x[:, :, :b])], 2),
    "first repeated": lambda x, a, b: torch.cat([x[:, :, :1]] * a + [x[:, :, :-a]], 2),
    "last repeated": lambda x, a, b: torch.cat([x[:, :, b:], x[:, :, -1:].expand(-1, -1, b, -1, -1)], 2),
    "differences": _differences,
    "differences before zeros": lambda x, a, b: torch.cat(
        [x[:, :, 1:] - x[:, :, :-1], torch.zeros_like(x[:, :, :1])], 2
    ),
}
"""As many frames come out as go in."""

RESIZING: dict[str, Renumbering] = {
    "slice": lambda x, a, b: x[:, :, a::b],
    "crop": lambda x, a, b: x[:, :, a:-b],
    "pad": lambda x, a, b: _padded(x, a, b, value=0.5),
    "cut": lambda x, a, b: _padded(x, -a, b),
    "difference": lambda x, a, b: x[:, :, a:] - x[:, :, :-a],
    "split": lambda x, a, b: x.split([a, x.shape[2] - a], 2)[1] - x.split([x.shape[2] - a, a], 2)[0],
    "cut by split": lambda x, a, b: x.split([a, x.shape[2] - a - b, b], 2)[1] + x[:, :, a:-b],
    "taken apart": lambda x, a, b: torch.stack(x.unbind(2)[a:], 2) - torch.stack(x.unbind(2)[:-a], 2),
    "by index": lambda x, a, b: x[:, :, torch.arange(x.shape[2] - a)] * x[:, :, torch.arange(x.shape[2] - a) + a],
    "torch.diff": lambda x, a, b: torch.diff(x, dim=2),
    "replicated": lambda x, a, b: _padded(x, a, b, "replicate"),
    "replicated and cut": lambda x, a, b: _padded(x, a, -b, "replicate"),
    "reflected": lambda x, a, b: _padded(x, a, b, "reflect"),
    "joined around": lambda x, a, b: torch.cat([x[:, :, :1]] * a + [x] + [torch.zeros_like(x[:, :, :b])], 2),
    "put together": lambda x, a, b: torch.cat([x[:, :, :a], x[:, :, a:]], 2),
}

ONE_DELAY = ("slice", "pad", "put together")
"""All channels of an element come from frames that settle it together, whatever the video's length."""

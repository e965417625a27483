"""Layers of random video networks: a description that prints as the code that makes it.

Every layer takes and gives ``(N, C, T, H, W)``; what it folds or permutes in between is its own affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.functions import ACTIVATIONS, HEADS, JOINS, MIXES, SIZE_CHANGING, Function
from tests.shifts import KEEPING, RESIZING


@dataclass(frozen=True)
class Layer:
    """One layer; ``out`` is the number of channels it gives for so many it takes."""

    def out(self, channels: int) -> int:
        return channels

    def build(self, channels: int) -> nn.Module:
        raise NotImplementedError


@dataclass(frozen=True)
class Conv(Layer):
    """A convolution over time and space; ``pads`` other than symmetric ones are made with ``F.pad``."""

    channels: int = 2
    k: int = 3
    s: int = 1
    d: int = 1
    pads: tuple[int, int] | str = (1, 1)
    value: float = 0.0
    space: int = 1
    space_stride: int = 1
    groups: bool = False
    bias: bool = True

    def out(self, channels: int) -> int:
        return self.channels

    def build(self, channels: int) -> nn.Module:
        groups = gcd(channels, self.channels) if self.groups else 1
        kernel, dilation = (self.k, self.space, self.space), (self.d, 1, 1)
        kept = {"groups": groups, "bias": self.bias, "dilation": dilation}
        if isinstance(self.pads, str):
            return nn.Conv3d(channels, self.channels, kernel, padding=self.pads, **kept)
        before, after = self.pads
        stride = (self.s, self.space_stride, self.space_stride)
        aside = self.space // 2
        if before == after and self.value == 0.0:
            padding = (before, aside, aside)
            return nn.Conv3d(channels, self.channels, kernel, stride=stride, padding=padding, **kept)
        conv = nn.Conv3d(channels, self.channels, kernel, stride=stride, padding=(0, aside, aside), **kept)
        return nn.Sequential(nn.ConstantPad3d((0, 0, 0, 0, before, after), self.value), conv)


@dataclass(frozen=True)
class Pool(Layer):
    """A max or average pool."""

    kind: str = "max"
    k: int = 2
    s: int = 2
    p: int = 0
    d: int = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None
    space: int = 1
    space_stride: int = 1

    def build(self, channels: int) -> nn.Module:
        kernel = (self.k, self.space, self.space)
        stride = (self.s, self.space_stride, self.space_stride)
        padding = (self.p, self.space // 2, self.space // 2)
        if self.kind == "max":
            return nn.MaxPool3d(kernel, stride, padding, dilation=(self.d, 1, 1), ceil_mode=self.ceil_mode)
        return nn.AvgPool3d(kernel, stride, padding, self.ceil_mode, self.count_include_pad, self.divisor)


@dataclass(frozen=True)
class Norm(Layer):
    kind: str = "batch"

    def build(self, channels: int) -> nn.Module:
        match self.kind:
            case "batch":
                return nn.BatchNorm3d(channels)
            case "plain batch":
                return nn.BatchNorm3d(channels, affine=False)
            case "layer":
                return Function(
                    lambda x, norm: norm(_several(x).permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3),
                    n=nn.LayerNorm(channels),
                )
            case "space":
                return Function(lambda x: F.layer_norm(x, x.shape[3:]))
            case "folded group":
                return Folded(nn.GroupNorm(1, channels))
            case "folded instance":
                return Folded(nn.InstanceNorm2d(channels, affine=True))
            case _:
                return Function(lambda x: F.softmax(x, dim=1))


def _several(x: Tensor) -> Tensor:
    """A norm of one value is a constant, settled before there is a video."""
    if x.shape[1] == 1:
        raise IndexError("one channel is too few")
    return x


@dataclass(frozen=True)
class Act(Layer):
    kind: str = "relu"

    def build(self, channels: int) -> nn.Module:
        return Function(ACTIVATIONS[self.kind])


class Folded(nn.Module):
    """A 2-D module on every frame, time folded into the batch."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, h, w = x.shape
        y = self.inner(x.transpose(1, 2).reshape(n * t, c, h, w))
        return y.reshape(n, t, *y.shape[1:]).transpose(1, 2)


@dataclass(frozen=True)
class Frames(Layer):
    """A 2-D layer with time folded into the batch."""

    kind: str = "conv"
    channels: int = 2

    def out(self, channels: int) -> int:
        return self.channels if self.kind in ("conv", "separable") else channels

    def build(self, channels: int) -> nn.Module:
        match self.kind:
            case "conv":
                return Folded(nn.Conv2d(channels, self.channels, 3, padding=1))
            case "separable":
                depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
                return Folded(nn.Sequential(depthwise, nn.BatchNorm2d(channels), nn.Conv2d(channels, self.channels, 1)))
            case "pool":
                return Folded(nn.MaxPool2d(3, 1, 1))
            case "average":
                return Folded(nn.AvgPool2d(3, 1, 1, count_include_pad=False))
            case "gate":
                squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid())
                return Folded(Function(lambda x, gate: x * gate(x), gate=squeeze))
            case _:
                return Folded(nn.Sequential(nn.Upsample(scale_factor=2), nn.AvgPool2d(2)))


@dataclass(frozen=True)
class TimeOnly(Layer):
    """A temporal convolution or pool in another layout: ``(N*H*W, C, T)`` or ``(N, C, T, H*W)``."""

    kind: str = "conv1d"
    channels: int = 2
    k: int = 3
    s: int = 1
    d: int = 1
    p: int = 1

    def out(self, channels: int) -> int:
        return self.channels if self.kind.startswith("conv") else channels

    def build(self, channels: int) -> nn.Module:
        geometry = (self.k, self.s, self.p)
        flat = ((self.k, 1), (self.s, 1), (self.p, 0))
        match self.kind:
            case "conv1d":
                return Function(_over_lines, inner=nn.Conv1d(channels, self.channels, *geometry, dilation=self.d))
            case "max1d":
                return Function(_over_lines, inner=nn.MaxPool1d(*geometry))
            case "avg1d":
                return Function(_over_lines, inner=nn.AvgPool1d(*geometry))
            case "conv2d":
                return Function(_over_plane, inner=nn.Conv2d(channels, self.channels, *flat, dilation=(self.d, 1)))
            case "avg2d":
                return Function(_over_plane, inner=nn.AvgPool2d(*flat, count_include_pad=False))
            case _:
                return Function(_over_plane, inner=nn.MaxPool2d(*flat))


def _over_lines(x: Tensor, inner: nn.Module) -> Tensor:
    n, c, t, h, w = x.shape
    y = inner(x.permute(0, 3, 4, 1, 2).reshape(n * h * w, c, t))
    return y.reshape(n, h, w, y.shape[1], y.shape[2]).permute(0, 3, 4, 1, 2)


def _over_plane(x: Tensor, inner: nn.Module) -> Tensor:
    y = inner(x.flatten(3))
    return y.unflatten(3, x.shape[3:])


@dataclass(frozen=True)
class Up(Layer):
    """Time made longer by a factor: by a transposed convolution, interpolation, or channels that become frames."""

    kind: str = "transposed"
    channels: int = 2
    factor: int = 2
    k: int = 3
    d: int = 1
    p: int = 0
    extra: int = 0
    groups: bool = False
    space: int = 1

    def out(self, channels: int) -> int:
        return self.channels if self.kind in ("transposed", "lines", "channels") else channels

    def build(self, channels: int) -> nn.Module:
        r, extra = self.factor, min(self.extra, max(self.factor, self.d) - 1)
        match self.kind:
            case "transposed":
                return nn.ConvTranspose3d(
                    channels,
                    self.channels,
                    (self.k, self.space, self.space),
                    stride=(r, 1, 1),
                    padding=(self.p, self.space // 2, self.space // 2),
                    output_padding=(extra, 0, 0),
                    dilation=(self.d, 1, 1),
                    groups=gcd(channels, self.channels) if self.groups else 1,
                )
            case "lines":
                geometry = {"stride": r, "padding": self.p, "output_padding": extra, "dilation": self.d}
                return Function(_over_lines, inner=nn.ConvTranspose1d(channels, self.channels, self.k, **geometry))
            case "channels":
                return Function(
                    lambda x, conv: _frames_of_channels(conv(x), r), conv=nn.Conv3d(channels, self.channels * r, 1)
                )
            case "repeat":
                return Function(lambda x: x.repeat_interleave(r, 2))
            case "expand":
                return Function(lambda x: x.unsqueeze(3).expand(-1, -1, -1, r, -1, -1).flatten(2, 3))
            case "lines linear":
                return Function(_over_lines, inner=nn.Upsample(scale_factor=r, mode="linear"))
            case _:
                return nn.Upsample(scale_factor=(r, 1, 1), mode=self.kind)


@dataclass(frozen=True)
class Gather(Layer):
    """Several frames become channels of one."""

    count: int = 2

    def out(self, channels: int) -> int:
        return channels * self.count

    def build(self, channels: int) -> nn.Module:
        return Function(lambda x: torch.unflatten(x, 2, (-1, self.count)).movedim(3, 1).flatten(1, 2))


def _frames_of_channels(x: Tensor, count: int) -> Tensor:
    return torch.unflatten(x, 1, (count, -1)).movedim(1, 3).flatten(2, 3)


@dataclass(frozen=True)
class DownUp(Layer):
    """Down in rate, through some layers, up again, and joined with what came in: a level of a U-Net."""

    down: Layer
    inner: tuple[Layer, ...]
    up: Layer
    join: str = "cat"

    def out(self, channels: int) -> int:
        return channels_after((self.down, *self.inner, self.up), channels) + (channels if self.join == "cat" else 0)

    def build(self, channels: int) -> nn.Module:
        layers = [self.down, *self.inner, self.up]
        if self.join != "cat":
            layers.append(Conv(channels, k=1, pads=(0, 0)))
        return Joined([sequence(layers, channels), nn.Identity()], self.join)


@dataclass(frozen=True)
class Mix(Layer):
    """What treats frames alone, on channels or space."""

    kind: str = "shuffle"

    def build(self, channels: int) -> nn.Module:
        return (MIXES | SIZE_CHANGING)[self.kind](channels)


@dataclass(frozen=True)
class Reindex(Layer):
    """What renumbers time: slices, pads, shifts, differences."""

    kind: str = "slice"
    a: int = 1
    b: int = 1

    def build(self, channels: int) -> nn.Module:
        renumbered = (KEEPING | RESIZING)[self.kind]
        return Function(lambda x: renumbered(_longer_than(x, max(self.a, self.b)), self.a, self.b))


def _longer_than(x: Tensor, frames: int) -> Tensor:
    if x.shape[2] <= frames:
        raise IndexError("nothing would be left")
    return x


@dataclass(frozen=True)
class Branches(Layer):
    """Branches that meet: all keep as many elements as the others."""

    branches: tuple[tuple[Layer, ...], ...]
    join: str = "add"

    def out(self, channels: int) -> int:
        outs = [channels_after(branch, channels) for branch in self.branches]
        return sum(outs) if self.join == "cat" else outs[0]

    def build(self, channels: int) -> nn.Module:
        width = channels_after(self.branches[0], channels)
        built = []
        for branch in self.branches:
            layers = list(branch)
            if self.join != "cat" and channels_after(branch, channels) != width:
                layers.append(Conv(width, k=1, pads=(0, 0)))
            built.append(sequence(layers, channels))
        return Joined(built, self.join)


class Joined(nn.Module):
    def __init__(self, branches: Sequence[nn.Module], join: str) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        results = [branch(x) for branch in self.branches]
        if self.join == "cat":
            return torch.cat(results, 1)
        joined = results[0]
        for result in results[1:]:
            joined = JOINS[self.join](joined, result)
        return joined


@dataclass(frozen=True)
class Dense(Layer):
    """A dense block: every layer reads all that came before it."""

    layers: tuple[Layer, ...]

    def out(self, channels: int) -> int:
        for layer in self.layers:
            channels += layer.out(channels)
        return channels

    def build(self, channels: int) -> nn.Module:
        built = []
        for layer in self.layers:
            built.append(layer.build(channels))
            channels += layer.out(channels)
        return DenseBlock(built)


class DenseBlock(nn.Module):
    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for layer in self.layers:
            parts.append(layer(torch.cat(parts, 1)))
        return torch.cat(parts, 1)


@dataclass(frozen=True)
class Twice(Layer):
    """One module called twice."""

    layer: Conv

    def build(self, channels: int) -> nn.Module:
        return Function(lambda x, inner: inner(inner(x)), inner=replace(self.layer, channels=channels).build(channels))


def channels_after(layers: Sequence[Layer], channels: int) -> int:
    for layer in layers:
        channels = layer.out(channels)
    return channels


def sequence(layers: Sequence[Layer], channels: int) -> nn.Sequential:
    built = []
    for layer in layers:
        built.append(layer.build(channels))
        channels = layer.out(channels)
    return nn.Sequential(*built)


class Tapped(nn.Module):
    """Stages, of which some give an output of their own."""

    def __init__(self, stages: nn.Sequential, taps: frozenset[int]) -> None:
        super().__init__()
        self.stages = stages
        self.taps = taps

    def forward(self, x: Tensor) -> Any:
        outputs = {}
        for place, stage in enumerate(self.stages):
            x = stage(x)
            if place in self.taps:
                outputs[f"stage{place}"] = x
        return {**outputs, "last": x} if outputs else x


@dataclass(frozen=True)
class RandomNetwork:
    """A network, its clip and its video.

    Attributes:
        taps: layers that are outputs too.
        head: empty, or how time collapses at the end.
        multiple: the network takes videos whose frames this number divides.
        time_axis: where time lies in its clip: 2 in ``(N, C, T, H, W)``, 1 in ``(N, T, C, H, W)``.
    """

    layers: tuple[Layer, ...]
    channels: int = 2
    frames: int = 10
    side: int = 4
    clip_batch: int = 1
    batch: int = 1
    longer: int = 5
    taps: frozenset[int] = frozenset()
    head: str = ""
    multiple: int = 1
    time_axis: int = 2

    @property
    def clip(self) -> tuple[int, ...]:
        return (self.clip_batch, self.channels, self.frames, self.side, self.side)

    def trunk(self) -> nn.Module:
        stages = sequence(self.layers, self.channels)
        return Tapped(stages, self.taps) if self.taps and not self.head else stages

    def head_module(self, shape: Sequence[int]) -> nn.Module:
        """The head for features of this shape in the clip."""
        return HEADS[self.head](*shape[1:])

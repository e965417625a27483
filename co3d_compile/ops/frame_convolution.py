"""One element of a temporal convolution from its taps, as convolutions over space alone.

torch's convolutions over time and space take many times longer on one frame than the same arithmetic over space alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from co3d_compile.ops.operation import Step

THIN = 16
"""Below so many input channels one wide convolution over all taps beats one for each."""


class Geometry(NamedTuple):
    """A convolution's numbers, each per axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]

    def over_space(self, time: int) -> Geometry:
        """Without the axis of time."""
        return Geometry(*(values[:time] + values[time + 1 :] for values in self))

    @property
    def is_pointwise(self) -> bool:
        return prod(self.kernel) == 1 and prod(self.stride) == 1 and not any(self.padding)


def frame_convolution(arguments: Mapping[str, Any], geometry: Geometry, time: int) -> Step:
    """The step of a convolution whose axis ``time``, counted among its two or three, is time."""
    weight: Tensor = arguments["weight"]
    groups = arguments["groups"]
    space = geometry.over_space(time)
    weights = [_packed(weight.select(2 + time, tap)) for tap in range(weight.shape[2 + time])]
    convolve = _Convolution(space, groups, arguments["bias"], 2 + time)
    if len(weights) == 1:
        return _single(convolve, weights[0])
    if weight.shape[1] == 1 and weight.shape[0] == groups and space.is_pointwise:
        return _multiply_add(convolve, weight)
    if groups == 1 and (weight.shape[1] < THIN or space.is_pointwise):
        return _side_by_side(convolve, weights)
    return _tap_by_tap(convolve, weights)


class _Convolution(NamedTuple):
    """Everything about the convolution over space but its weight; ``dim`` is the dimension of time."""

    space: Geometry
    groups: int
    bias: Tensor | None
    dim: int

    def __call__(self, frame: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        run = torch.conv2d if len(self.space.kernel) == 2 else torch.conv1d
        result: Tensor = run(
            frame, weight, bias, self.space.stride, self.space.padding, self.space.dilation, self.groups
        )
        return result


def _packed(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight.contiguous()


def _single(convolve: _Convolution, weight: Tensor) -> Step:
    dim, bias = convolve.dim, convolve.bias

    def step(taps: Sequence[Tensor | None]) -> Tensor:
        (tap,) = taps
        assert tap is not None
        return convolve(tap.squeeze(dim), weight, bias).unsqueeze(dim)

    return step


def _multiply_add(convolve: _Convolution, weight: Tensor) -> Step:
    """Each channel is a weighted sum of its own taps."""
    shape = [-1] + [1] * (weight.dim() - 2)
    factors = [weight.flatten(1)[:, tap].reshape(shape).contiguous() for tap in range(weight[0].numel())]
    bias = None if convolve.bias is None else convolve.bias.reshape(shape)

    def step(taps: Sequence[Tensor | None]) -> Tensor:
        total: Tensor | None = None
        for tap, factor in zip(taps, factors, strict=True):
            if tap is None:
                continue
            if total is None:
                total = tap * factor if bias is None else torch.addcmul(bias, tap, factor)
            else:
                total.addcmul_(tap, factor)
        assert total is not None
        return total

    return step


def _side_by_side(convolve: _Convolution, weights: Sequence[Tensor]) -> Step:
    """All taps as channels of one wide frame."""
    wide, dim, bias = _packed(torch.cat(list(weights), 1)), convolve.dim, convolve.bias

    def step(taps: Sequence[Tensor | None]) -> Tensor:
        there = next(tap for tap in taps if tap is not None)
        frames = [torch.zeros_like(there) if tap is None else tap for tap in taps]
        return convolve(torch.cat(frames, 1).squeeze(dim), wide, bias).unsqueeze(dim)

    return step


def _tap_by_tap(convolve: _Convolution, weights: Sequence[Tensor]) -> Step:
    dim, bias = convolve.dim, convolve.bias

    def step(taps: Sequence[Tensor | None]) -> Tensor:
        total: Tensor | None = None
        for tap, weight in zip(taps, weights, strict=True):
            if tap is None:
                continue
            if total is None:
                total = convolve(tap.squeeze(dim), weight, bias)
            else:
                total += convolve(tap.squeeze(dim), weight, None)
        assert total is not None
        return total.unsqueeze(dim)

    return step

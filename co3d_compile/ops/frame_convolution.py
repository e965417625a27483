"""One element of a temporal convolution from its taps, as convolutions over space alone.

torch's convolutions over time and space take many times longer on one frame than the same arithmetic over space alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

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


def frame_convolution(arguments: Mapping[str, Any], geometry: Geometry, time: int, frame: Sequence[int]) -> Step:
    """The step of a convolution whose axis ``time``, counted among its two or three, is time.

    Args:
        frame: the shape of one frame that it will see.
    """
    weight: Tensor = arguments["weight"]
    groups, bias = arguments["groups"], arguments["bias"]
    space = geometry.over_space(time)
    taps = [weight.select(2 + time, tap) for tap in range(weight.shape[2 + time])]
    if groups == 1 and space.is_pointwise:
        return _channel_product(torch.cat(taps, 1), bias)
    if is_depthwise(weight, groups) and space.is_pointwise:
        return _multiply_add(weight, bias)
    if groups == 1 and weight.shape[1] < THIN:
        wide = [frame[0], frame[1] * len(taps), *frame[2:]]
        return _wide(space_convolution(torch.cat(taps, 1), bias, space, groups, wide), 2 + time)
    return _tap_by_tap([space_convolution(tap, bias, space, groups, frame) for tap in taps], 2 + time)


def is_depthwise(weight: Tensor, groups: int) -> bool:
    """Each output channel reads the input channel of the same place."""
    return weight.shape[1] == 1 and weight.shape[0] == groups


@dataclass(frozen=True)
class _Convolution:
    """A convolution over space with one weight.

    Attributes:
        weight: packed once, where oneDNN runs it (torch's own call packs at every run); else channels last.
        packed: oneDNN runs it.
        bias: added by a first tap, not by those added to it.
    """

    weight: Tensor
    packed: bool
    bias: Tensor | None
    space: Geometry
    groups: int

    @property
    def _numbers(self) -> tuple[Any, ...]:
        return (self.space.padding, self.space.stride, self.space.dilation, self.groups)

    def __call__(self, frame: Tensor) -> Tensor:
        if not self.packed:
            return self._plain(frame, self.bias)
        run = torch.ops.mkldnn._convolution_pointwise
        result: Tensor = run(frame, self.weight, self.bias, *self._numbers, "none", [], "")
        return result

    def added(self, total: Tensor, frame: Tensor) -> Tensor:
        """``total``, written over, plus this convolution of a frame without its bias."""
        if not self.packed:
            return total.add_(self._plain(frame, None))
        run = torch.ops.mkldnn._convolution_pointwise_.binary
        result: Tensor = run(total, frame, self.weight, None, *self._numbers, "add", 1.0, None, [], None)
        return result

    def _plain(self, frame: Tensor, bias: Tensor | None) -> Tensor:
        run = torch.conv2d if len(self.space.kernel) == 2 else torch.conv1d
        padding, stride, dilation, groups = self._numbers
        result: Tensor = run(frame, self.weight, bias, stride, padding, dilation, groups)
        return result


def space_convolution(
    weight: Tensor, bias: Tensor | None, space: Geometry, groups: int, frame: Sequence[int]
) -> _Convolution:
    """Made ready for frames of a shape; others run too, perhaps slower."""
    if not _onednn_runs(weight):
        return _Convolution(_channels_last(weight), False, bias, space, groups)
    numbers = (list(space.padding), list(space.stride), list(space.dilation), groups)
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight.contiguous(), *numbers, list(frame))
    return _Convolution(packed, True, bias, space, groups)


def _onednn_runs(weight: Tensor) -> bool:
    return (
        weight.dim() == 4
        and weight.device.type == "cpu"
        and weight.dtype is torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
    )


def _channels_last(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight.contiguous()


def _channel_product(weight: Tensor, bias: Tensor | None) -> Step:
    """A matrix product over the channels of all taps: the frames' channels already lie side by side in memory."""
    matrix = weight.flatten(1).contiguous()
    # a bias, be it zero, keeps torch on its fast path for tensors of many dimensions
    shift = matrix.new_zeros(len(matrix)) if bias is None else bias

    def step(taps: Sequence[Tensor | None]) -> Tensor:
        return linear(_side_by_side(taps).movedim(1, -1), matrix, shift).movedim(-1, 1)

    return step


def _multiply_add(weight: Tensor, bias: Tensor | None) -> Step:
    """Each channel is a weighted sum of its own taps."""
    shape = [-1] + [1] * (weight.dim() - 2)
    factors = [weight.flatten(1)[:, tap].reshape(shape).contiguous() for tap in range(weight[0].numel())]
    shift = None if bias is None else bias.reshape(shape)

    def step(taps: Sequence[Tensor | None]) -> Tensor:
        total: Tensor | None = None
        for tap, factor in zip(taps, factors, strict=True):
            if tap is None:
                continue
            if total is None:
                total = tap * factor if shift is None else torch.addcmul(shift, tap, factor)
            else:
                total.addcmul_(tap, factor)
        assert total is not None
        return total

    return step


def _wide(convolve: _Convolution, dim: int) -> Step:
    """One convolution over all taps as channels of one frame."""

    def step(taps: Sequence[Tensor | None]) -> Tensor:
        return convolve(_side_by_side(taps).squeeze(dim)).unsqueeze(dim)

    return step


def _tap_by_tap(convolutions: Sequence[_Convolution], dim: int) -> Step:
    def step(taps: Sequence[Tensor | None]) -> Tensor:
        total: Tensor | None = None
        for tap, convolve in zip(taps, convolutions, strict=True):
            if tap is None:
                continue
            frame = tap.squeeze(dim)
            total = convolve(frame) if total is None else convolve.added(total, frame)
        assert total is not None
        return total.unsqueeze(dim)

    return step


def _side_by_side(taps: Sequence[Tensor | None]) -> Tensor:
    """The taps' channels in one frame, zeros for padding."""
    if len(taps) == 1 and taps[0] is not None:
        return taps[0]
    there = next(tap for tap in taps if tap is not None)
    return torch.cat([torch.zeros_like(there) if tap is None else tap for tap in taps], 1)

"""A temporal convolution in transposed form: what one frame adds to each output that reads it, over space alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, addcmul
from torch.nn.functional import linear

from co3d_compile.ops.frame_convolution import Geometry, is_depthwise, space_convolution
from co3d_compile.ops.operation import Accumulator

Feed = Callable[[Tensor, int, Tensor | None], Tensor]


def frame_accumulation(
    arguments: Mapping[str, Any], geometry: Geometry, time: int, frame: Sequence[int]
) -> Accumulator:
    """The transposed form of a convolution whose axis ``time``, counted among its two or three, is time.

    Args:
        frame: the shape of one frame that it will see.
    """
    weight: Tensor = arguments["weight"]
    groups = arguments["groups"]
    space = geometry.over_space(time)
    taps = [weight.select(2 + time, tap) for tap in range(weight.shape[2 + time])]
    finish = _with_bias(arguments["bias"], weight.dim() - 2)
    if groups == 1 and space.is_pointwise:
        return Accumulator(_product(taps), finish)
    if is_depthwise(weight, groups) and space.is_pointwise:
        return Accumulator(_multiply_add(weight), finish)
    return Accumulator(_convolution(taps, space, groups, frame, 2 + time), finish)


def _product(taps: Sequence[Tensor]) -> Feed:
    matrices = [tap.flatten(1).contiguous() for tap in taps]
    # a bias, be it zero, keeps torch on its fast path for tensors of many dimensions
    zero = matrices[0].new_zeros(len(matrices[0]))

    def feed(element: Tensor, tap: int, total: Tensor | None) -> Tensor:
        share = linear(element.movedim(1, -1), matrices[tap], zero).movedim(-1, 1)
        return share if total is None else share.add_(total)

    return feed


def _multiply_add(weight: Tensor) -> Feed:
    shape = [-1] + [1] * (weight.dim() - 2)
    factors = [weight.flatten(1)[:, tap].reshape(shape).contiguous() for tap in range(weight[0].numel())]

    def feed(element: Tensor, tap: int, total: Tensor | None) -> Tensor:
        return element * factors[tap] if total is None else addcmul(total, element, factors[tap])

    return feed


def _convolution(taps: Sequence[Tensor], space: Geometry, groups: int, frame: Sequence[int], dim: int) -> Feed:
    convolutions = [space_convolution(tap, None, space, groups, frame) for tap in taps]

    def feed(element: Tensor, tap: int, total: Tensor | None) -> Tensor:
        share = convolutions[tap](element.squeeze(dim)).unsqueeze(dim)
        return share if total is None else share.add_(total)

    return feed


def _with_bias(bias: Tensor | None, axes: int) -> Callable[[Tensor], Tensor]:
    if bias is None:
        return lambda total: total
    shift = bias.reshape([-1] + [1] * axes)
    return lambda total: total.add_(shift)

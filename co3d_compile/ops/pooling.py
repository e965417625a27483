"""Max and average pools over one, two or three axes, with all their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.flow import Divisor, Flow, Taps, alone, collapsed, windowed
from co3d_compile.ops.operation import Accumulator, Block, Call, Operation, Sample, Step, per_spatial
from co3d_compile.ops.spatial import spatial_layout, time_axis


class Pool(Operation):
    """What max and average pools share.

    A pool that spans the whole clip is a collapse (design.md, section 6), unless time goes on behind it.
    """

    fill = 0.0

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        count = pool_rank(call.target)
        axis = time_axis(layout, count)
        result = spatial_layout(layout, count, call.shapes[0])
        kernel, stride, padding, dilation = (_per_axis(call.arguments, name, count) for name in GEOMETRY)
        if axis is None or (kernel[axis], stride[axis], padding[axis]) == (1, 1, 0):
            return alone(result)
        resizable = spans_clip(call.arguments, layout, axis, count)
        if kernel[axis] == layout.time == stride[axis] > 1 and padding[axis] == 0 and not call.goes_on:
            flow = collapsed(result.without(Mark.TIME), width=layout.time, still=True, resizable=resizable)
            return replace(flow, ends=True)
        flow = windowed(
            result,
            kernel=kernel[axis],
            stride=stride[axis],
            dilation=dilation[axis],
            before=padding[axis],
            after=padding[axis],
            fill=self.fill,
            ceil_mode=call["ceil_mode"],
            divisor=self.divisor(call.arguments),
            accumulates=_is_over_time_alone(call.arguments, kernel[axis]),
        )
        return replace(flow, resizable=resizable and stride[axis] == 1)

    def divisor(self, arguments: Mapping[str, Any]) -> Divisor:
        return Divisor.KERNEL

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        count = pool_rank(block.target)
        axis = time_axis(block.reads, count)
        if axis is None:
            return arguments
        padding = _per_axis(arguments, "padding", count)
        stripped = [0 if place == axis else pad for place, pad in enumerate(padding)]
        kernel = list(_per_axis(arguments, "kernel_size", count))
        if spans_clip(arguments, block.reads, axis, count):
            stride = _per_axis(arguments, "stride", count)
            kernel[axis] = block.width - (block.elements - 1) * stride[axis]
        return {**arguments, "kernel_size": kernel, "padding": stripped}


class MaxPool(Pool):
    targets = tuple(f"aten.max_pool{n}d.default" for n in (1, 2, 3))
    # -inf, not 0: a max pool's padding must never win (torch.nn.MaxPool3d)
    fill = -inf

    def stepper(self, arguments: Mapping[str, Any], reads: Layout, taps: Taps) -> Step | None:
        if not _is_over_time_alone(arguments, taps.count):
            return None

        def step(elements: Sequence[Tensor | None]) -> Tensor:
            there = [element for element in elements if element is not None]
            # a copy: the one element belongs to a history, and the result may be written over
            return reduce(torch.maximum, there) if len(there) > 1 else there[0].clone()

        return step

    def accumulator(self, arguments: Mapping[str, Any], reads: Layout, taps: Taps) -> Accumulator:
        def feed(element: Tensor, _: int, total: Tensor | None) -> Tensor:
            return element.clone() if total is None else torch.maximum(total, element)

        return Accumulator(feed, lambda total: total)

    def combined(self, total: Tensor, share: Tensor) -> Tensor:
        return torch.maximum(total, share)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("cube", nn.MaxPool3d(2)),
            Sample("overlapping", nn.MaxPool3d((3, 1, 1), stride=1)),
            Sample("padded, of negative values", lambda x: F.max_pool3d(-x.abs() - 1.0, 3, 2, 1)),
            Sample("padded, time alone", lambda x: F.max_pool3d(-x.abs() - 1.0, (3, 1, 1), (2, 1, 1), (1, 0, 0))),
            Sample("dilated", nn.MaxPool3d((3, 2, 2), stride=1, dilation=(2, 1, 1), padding=(1, 0, 0))),
            Sample("ceil mode", nn.MaxPool3d((3, 2, 2), stride=(2, 2, 2), ceil_mode=True)),
            Sample("ceil mode, padded", nn.MaxPool3d((2, 1, 1), stride=(3, 1, 1), padding=(1, 0, 0), ceil_mode=True)),
            Sample("kernel 1 strided", nn.MaxPool3d(1, stride=(2, 1, 1))),
            Sample("space alone", nn.MaxPool3d((1, 2, 2), stride=(1, 2, 2))),
            Sample("1d", nn.MaxPool1d(3, stride=2, padding=1), (2, 2, 8)),
            Sample("2d", nn.MaxPool2d((3, 1), stride=(2, 1), padding=(1, 0)), (1, 2, 8, 6)),
            Sample("all of the clip", nn.MaxPool3d((8, 1, 1)), collapses=True),
        )


class AveragePool(Pool):
    targets = tuple(f"aten.avg_pool{n}d.default" for n in (1, 2, 3))

    def divisor(self, arguments: Mapping[str, Any]) -> Divisor:
        if arguments.get("divisor_override") is not None:
            return Divisor.KERNEL
        if not arguments["count_include_pad"]:
            return Divisor.VALID
        return Divisor.PADDED if arguments["ceil_mode"] else Divisor.KERNEL

    def stepper(self, arguments: Mapping[str, Any], reads: Layout, taps: Taps) -> Step | None:
        if not _is_over_time_alone(arguments, taps.count):
            return None
        factor = _factor(arguments, taps)

        def step(elements: Sequence[Tensor | None]) -> Tensor:
            return reduce(torch.add, [element for element in elements if element is not None]) * factor

        return step

    def accumulator(self, arguments: Mapping[str, Any], reads: Layout, taps: Taps) -> Accumulator:
        factor = _factor(arguments, taps)

        def feed(element: Tensor, _: int, total: Tensor | None) -> Tensor:
            return element * factor if total is None else torch.add(total, element, alpha=factor)

        return Accumulator(feed, lambda total: total)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("cube", nn.AvgPool3d(2)),
            Sample("padded", nn.AvgPool3d(3, 2, 1)),
            Sample("padding not counted", nn.AvgPool3d(3, 2, 1, count_include_pad=False)),
            Sample("padding not counted, time alone", nn.AvgPool3d((3, 1, 1), 1, (1, 0, 0), count_include_pad=False)),
            Sample("ceil mode", nn.AvgPool3d((3, 1, 1), (2, 1, 1), ceil_mode=True)),
            Sample("ceil mode, padded", nn.AvgPool3d((4, 3, 3), 3, (2, 1, 1), ceil_mode=True)),
            Sample("ceil mode, padding not counted", nn.AvgPool3d((4, 1, 1), (3, 1, 1), (2, 0, 0), True, False)),
            Sample("own divisor", nn.AvgPool3d(3, 1, 1, divisor_override=5)),
            Sample("own divisor, ceil mode", nn.AvgPool3d((3, 1, 1), (2, 1, 1), (1, 0, 0), True, divisor_override=2)),
            Sample("1d", nn.AvgPool1d(3, 2, 1, count_include_pad=False), (2, 2, 8)),
            Sample("2d", nn.AvgPool2d((3, 1), (2, 1), (1, 0)), (1, 2, 8, 6)),
            Sample("all of the clip", nn.AvgPool3d((8, 4, 5)), collapses=True),
        )


def spans_clip(arguments: Mapping[str, Any], layout: Layout, axis: int, count: int) -> bool:
    """The pool takes all elements of the clip together, so that it takes a window of another width as well."""
    kernel, stride, padding, dilation = (_per_axis(arguments, name, count)[axis] for name in GEOMETRY)
    scaled = arguments.get("divisor_override") is not None
    return kernel == layout.time > 1 and stride in (1, kernel) and (padding, dilation, scaled) == (0, 1, False)


FEW = 8
"""Up to so many taps, reading them one by one beats joining them."""

GEOMETRY = ("kernel_size", "stride", "padding", "dilation")


def pool_rank(target: str) -> int:
    """The number of axes in a target's name: ``aten.avg_pool3d.default`` has three."""
    return int(target.split("pool")[1][0])


def _is_over_time_alone(arguments: Mapping[str, Any], taps: int) -> bool:
    """A few taps, and neither kernel, stride nor padding over space."""
    count = len(arguments["kernel_size"])
    kernel, stride, padding = (_per_axis(arguments, name, count) for name in GEOMETRY[:3])
    pooled = [place for place in range(count) if (kernel[place], stride[place], padding[place]) != (1, 1, 0)]
    return count > 1 and len(pooled) == 1 and kernel[pooled[0]] == taps <= FEW


def _factor(arguments: Mapping[str, Any], taps: Taps) -> float:
    return 1.0 / (arguments.get("divisor_override") or taps.count)


def _per_axis(arguments: Mapping[str, Any], name: str, count: int) -> tuple[int, ...]:
    given = arguments.get(name, 1)
    return per_spatial(arguments["kernel_size"] if name == "stride" and not given else given, count)

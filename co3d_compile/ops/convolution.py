"""Convolutions over one, two or three axes, time among them or in the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.flow import Flow, alone, windowed
from co3d_compile.ops.operation import Block, Call, Operation, Refused, per_spatial
from co3d_compile.ops.spatial import spatial_layout, time_axis


class Convolution(Operation):
    """``aten.conv{1,2,3}d``, padded with zeros."""

    targets = tuple(f"aten.conv{n}d.default" for n in (1, 2, 3))

    def flow(self, call: Call) -> Flow:
        _require_constant_weight(call)
        layout: Layout = call["input"].layout
        count = len(call["weight"].layout.shape) - 2
        _require_whole_channels(layout, count)
        axis = time_axis(layout, count)
        kernel, stride, dilation, padding = geometry(call.arguments, call["weight"].layout.shape[2:])
        channels: Dim = (call["weight"].layout.shape[0],)
        result = spatial_layout(layout, count, call.shapes[0], channels=channels)
        if axis is None or _is_alone(kernel[axis], stride[axis], padding[axis]):
            return alone(result)
        return windowed(
            result,
            kernel=kernel[axis],
            stride=stride[axis],
            dilation=dilation[axis],
            before=padding[axis],
            after=padding[axis],
            fill=0.0,
        )

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        weight = arguments["weight"]
        axis = time_axis(block.reads, weight.dim() - 2)
        if axis is None:
            return arguments
        *_, padding = geometry(arguments, weight.shape[2:])
        return {**arguments, "padding": [0 if place == axis else pad for place, pad in enumerate(padding)]}

    def macs(self, call: Call, flow: Flow) -> int:
        kernel: tuple[int, ...] = call["weight"].layout.shape
        return prod(flow.layouts[0].with_time(1).shape) * prod(kernel[1:])


def geometry(
    arguments: Mapping[str, Any], kernel: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Kernel, stride, dilation and padding, each per axis."""
    count = len(kernel)
    stride = per_spatial(arguments["stride"], count)
    dilation = per_spatial(arguments["dilation"], count)
    return tuple(kernel), stride, dilation, per_spatial(arguments["padding"], count)


def _is_alone(kernel: int, stride: int, padding: int) -> bool:
    return (kernel, stride, padding) == (1, 1, 0)


def _require_constant_weight(call: Call) -> None:
    if call["weight"].streams:
        raise Refused(
            "the kernel is computed from the video",
            "dynamic kernels cannot be streamed; a fixed kernel can",
        )


def _require_whole_channels(layout: Layout, count: int) -> None:
    if Mark.TIME in layout.dims[layout.rank - count - 1]:
        raise Refused(
            "time is folded into the channels, which this convolution mixes",
            "keep time as an axis of its own and convolve along it",
        )

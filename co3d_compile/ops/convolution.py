"""Convolutions over one, two or three axes, time among them or in the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.flow import Flow, Taps, alone, collapsed, windowed
from co3d_compile.ops.frame_accumulation import frame_accumulation
from co3d_compile.ops.frame_convolution import Geometry, frame_convolution
from co3d_compile.ops.operation import Accumulator, Block, Call, Operation, Refused, Sample, Step, per_spatial
from co3d_compile.ops.spatial import spatial_layout, time_axis


class Convolution(Operation):
    """``aten.conv{1,2,3}d``, padded with zeros."""

    targets = tuple(f"aten.conv{n}d.default" for n in (1, 2, 3))

    def flow(self, call: Call) -> Flow:
        require_constant_weight(call)
        layout: Layout = call["input"].layout
        count = len(call["weight"].layout.shape) - 2
        axis = time_axis(layout, count)
        kernel, stride, dilation, padding = geometry(call.arguments, call["weight"].layout.shape[2:])
        channels: Dim = (call["weight"].layout.shape[0],)
        result = spatial_layout(layout, count, call.shapes[0], channels=channels)
        if mixes_clip(layout, count, call["groups"]):
            return collapsed(result, width=layout.time)
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
            accumulates=count > 1,
        )

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        weight = arguments["weight"]
        axis = time_axis(block.reads, weight.dim() - 2)
        if axis is None:
            return arguments
        *_, padding = geometry(arguments, weight.shape[2:])
        return {**arguments, "padding": [0 if place == axis else pad for place, pad in enumerate(padding)]}

    def stepper(self, arguments: Mapping[str, Any], reads: Layout, taps: Taps) -> Step | None:
        weight: Tensor = arguments["weight"]
        axis = time_axis(reads, weight.dim() - 2)
        if axis is None or weight.dim() == 3:
            return None
        return frame_convolution(arguments, geometry(arguments, weight.shape[2:]), axis, _frame(reads))

    def accumulator(self, arguments: Mapping[str, Any], reads: Layout, taps: Taps) -> Accumulator | None:
        weight: Tensor = arguments["weight"]
        axis = time_axis(reads, weight.dim() - 2)
        if axis is None or weight.dim() == 3:
            return None
        return frame_accumulation(arguments, geometry(arguments, weight.shape[2:]), axis, _frame(reads))

    def share_of_taps(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**arguments, "bias": None}

    def macs(self, call: Call, flow: Flow) -> int:
        kernel: tuple[int, ...] = call["weight"].layout.shape
        return prod(flow.layouts[0].with_time(1).shape) * prod(kernel[1:])

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("all of a cube", nn.Conv3d(2, 3, 3, padding=1)),
            Sample("no padding", nn.Conv3d(2, 3, (3, 1, 1))),
            Sample("kernel 1", nn.Conv3d(2, 3, 1)),
            Sample("kernel 1 strided", nn.Conv3d(2, 3, 1, stride=2)),
            Sample("kernel 1 padded", nn.Conv3d(2, 3, 1, padding=(1, 0, 0))),
            Sample("even kernel", nn.Conv3d(2, 3, (4, 2, 2), padding=(1, 0, 0))),
            Sample("stride over kernel", nn.Conv3d(2, 3, (2, 1, 1), stride=(3, 1, 1))),
            Sample("strided and padded", nn.Conv3d(2, 3, (5, 3, 3), stride=2, padding=2)),
            Sample("dilated", nn.Conv3d(2, 3, (3, 1, 1), dilation=(2, 1, 1), padding=(2, 0, 0))),
            Sample("dilated and strided", nn.Conv3d(2, 3, (2, 3, 3), stride=2, dilation=(3, 1, 1), padding=1)),
            Sample("wider padding than kernel", nn.Conv3d(2, 3, (2, 1, 1), padding=(3, 0, 0))),
            Sample("same", nn.Conv3d(2, 3, 3, padding="same")),
            Sample("same, even", nn.Conv3d(2, 3, (4, 2, 3), padding="same")),
            Sample("valid", nn.Conv3d(2, 3, 3, padding="valid")),
            Sample("depthwise", nn.Conv3d(2, 4, 3, padding=1, groups=2, bias=False)),
            Sample("over time, 1d", nn.Conv1d(2, 3, 3, stride=2, padding=1, dilation=2), (3, 2, 8)),
            Sample("same, 1d", nn.Conv1d(2, 3, 4, padding="same"), (1, 2, 8)),
            Sample("over time and rows, 2d", nn.Conv2d(2, 3, (3, 1), stride=(2, 1), padding=(1, 0)), (2, 2, 8, 6)),
            Sample("frames in the batch, 2d", _in_frames(nn.Conv2d(2, 3, 3, padding=1))),
            Sample(
                "kernel from the video",
                lambda x: torch.conv3d(x, x[:, :, :, :1, :1].mean(2, True)),
                refusal="the kernel is",
            ),
            Sample("time in channels", nn.Sequential(nn.Flatten(1, 2), nn.Conv2d(16, 3, 3)), collapses=True),
            Sample("channels in time", lambda x: _frames_in_channels(x, groups=1), collapses=True),
            Sample("channels apart, each with its time", _grouped(2), collapses=True),
            Sample(
                "frame by frame in channels",
                lambda x: _frames_in_channels(x, groups=8),
                refusal="the 8 groups share out the clip's 8 frames",
            ),
        )


def geometry(arguments: Mapping[str, Any], kernel: Sequence[int]) -> Geometry:
    """Kernel, stride, dilation and padding, each per axis."""
    count = len(kernel)
    stride = per_spatial(arguments["stride"], count)
    dilation = per_spatial(arguments["dilation"], count)
    return Geometry(tuple(kernel), stride, dilation, per_spatial(arguments["padding"], count))


def _frame(reads: Layout) -> list[int]:
    """The shape of one frame."""
    return [size for dim, size in enumerate(reads.running_shape(1, reads.batch)) if dim != reads.time_dim]


def _is_alone(kernel: int, stride: int, padding: int) -> bool:
    return (kernel, stride, padding) == (1, 1, 0)


def require_constant_weight(call: Call) -> None:
    if call["weight"].streams:
        raise Refused(
            "the kernel is computed from the video",
            "dynamic kernels cannot be streamed; a fixed kernel can",
        )


def mixes_clip(layout: Layout, count: int, groups: int) -> bool:
    """Time is folded into the channels, and every output channel reads all of it.

    Raises:
        Refused: an output channel reads some of the clip's frames, by their place.
    """
    channels = layout.dims[layout.rank - count - 1]
    if Mark.TIME not in channels:
        return False
    outside = prod(layout.size(factor) for factor in channels[: channels.index(Mark.TIME)])
    if outside % groups:
        raise Refused(
            f"time is folded into the channels, and the {groups} groups share out the clip's {layout.time} frames, "
            "each with weights of its own",
            "keep time as an axis of its own and convolve along it",
        )
    return True


def _in_frames(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(_FoldTime(), layer)


class _FoldTime(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        folded: Tensor = x.transpose(1, 2).flatten(0, 1)
        return folded


def _frames_in_channels(x: Tensor, groups: int) -> Tensor:
    weight = torch.linspace(-1, 1, 8 * 16 // groups).reshape(8, 16 // groups, 1, 1)
    return torch.conv2d(x.transpose(1, 2).flatten(1, 2), weight, groups=groups)


def _grouped(groups: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(1, 2), nn.Conv2d(16, 4, 3, groups=groups))

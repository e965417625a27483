"""Transposed convolutions over one, two or three axes: over time, several elements come of one."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from co3d_compile.clock.periodic import affine
from co3d_compile.clock.timing import transposed_map
from co3d_compile.layout import Dim, Layout
from co3d_compile.ops.convolution import geometry, mixes_clip, require_constant_weight
from co3d_compile.ops.flow import Flow, Taps, Way, alone, collapsed
from co3d_compile.ops.operation import Block, Call, Operation, Sample, per_spatial
from co3d_compile.ops.spatial import spatial_layout, time_axis


class TransposedConvolution(Operation):
    """``aten.conv_transpose{1,2,3}d``: output n adds up what the elements around ``(n+p)/s`` give to it."""

    targets = ("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")

    def flow(self, call: Call) -> Flow:
        require_constant_weight(call)
        layout: Layout = call["input"].layout
        count = len(call["weight"].layout.shape) - 2
        channels: Dim = (call.shapes[0][layout.rank - count - 1],)
        axis = time_axis(layout, count)
        result = spatial_layout(layout, count, call.shapes[0], channels=channels)
        if mixes_clip(layout, count, call["groups"]):
            return collapsed(result, width=layout.time)
        if axis is None:
            return alone(result)
        kernel, stride, dilation, padding = (
            values[axis] for values in geometry(call.arguments, call["weight"].layout.shape[2:])
        )
        extra = per_spatial(call["output_padding"], count)[axis]
        if (kernel, stride, padding, extra) == (1, 1, 0, 0):
            return alone(result)
        index = transposed_map(kernel, stride, dilation, padding, extra)
        taps = Taps(index, dilation * (kernel - 1) // stride + 1, fill=0.0, produces=affine(stride, -padding))
        return Flow(Way.WINDOW, (result,), taps)

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        weight = arguments["weight"]
        count = weight.dim() - 2
        axis = time_axis(block.reads, count)
        if axis is None:
            return arguments
        kernel, stride, dilation, padding = geometry(arguments, weight.shape[2:])
        extra = list(per_spatial(arguments["output_padding"], count))
        # where the stride exceeds the kernel, the outputs up to the next element's are the bias alone
        extra[axis] = max(0, stride[axis] - 1 - dilation[axis] * (kernel[axis] - 1))
        kept = [0 if place == axis else pad for place, pad in enumerate(padding)]
        return {**arguments, "padding": kept, "output_padding": extra}

    def macs(self, call: Call, flow: Flow) -> int:
        """Every element of the input meets the whole kernel, and is shared by the outputs that come of it."""
        weight: tuple[int, ...] = call["weight"].layout.shape
        layout: Layout = call["input"].layout
        made = flow.layouts[0]
        clip = prod(layout.shape) * prod(weight[1:])
        return round(clip / made.time) if made.time_dim is not None else clip

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("no overlap", nn.ConvTranspose3d(2, 3, 2, stride=2)),
            Sample("overlapping", nn.ConvTranspose3d(2, 3, 4, stride=2, padding=1)),
            Sample("one more at the end", nn.ConvTranspose3d(2, 3, 3, stride=2, padding=1, output_padding=1)),
            Sample("no padding", nn.ConvTranspose3d(2, 2, (5, 1, 1), stride=(2, 1, 1))),
            Sample("stride 1", nn.ConvTranspose3d(2, 2, 3, padding=1)),
            Sample("kernel 1", nn.ConvTranspose3d(2, 3, 1)),
            Sample("kernel 1 padded", nn.ConvTranspose3d(2, 3, 1, padding=(1, 0, 0))),
            Sample("kernel 1 strided", nn.ConvTranspose3d(2, 3, (1, 2, 2), stride=(3, 2, 2))),
            Sample("stride over kernel", nn.ConvTranspose3d(2, 3, (2, 1, 1), stride=(4, 1, 1), padding=(1, 0, 0))),
            Sample(
                "stride over kernel, more at the end",
                nn.ConvTranspose3d(2, 3, (2, 1, 1), stride=(4, 1, 1), output_padding=(3, 0, 0)),
            ),
            Sample("cropped", nn.ConvTranspose3d(2, 3, (3, 1, 1), stride=(2, 1, 1), padding=(4, 0, 0))),
            Sample("dilated", nn.ConvTranspose3d(2, 3, (3, 1, 1), dilation=(2, 1, 1), padding=(2, 0, 0))),
            Sample(
                "dilated and strided",
                nn.ConvTranspose3d(
                    2, 3, (3, 2, 2), stride=2, dilation=(3, 1, 1), padding=(2, 0, 0), output_padding=(1, 0, 1)
                ),
            ),
            Sample("stride and dilation of a factor", nn.ConvTranspose3d(2, 3, (2, 1, 1), 2, dilation=(4, 1, 1))),
            Sample("grouped", nn.ConvTranspose3d(2, 4, 3, stride=2, padding=1, groups=2, bias=False)),
            Sample("over time, 1d", nn.ConvTranspose1d(2, 3, 4, stride=3, padding=1, output_padding=2), (3, 2, 8)),
            Sample("over time and rows, 2d", nn.ConvTranspose2d(2, 3, (3, 1), stride=(2, 1)), (2, 2, 8, 6)),
            Sample("frames in the batch, 2d", _by_frame),
            Sample("to one value", lambda x: _of_channels(x, groups=1), collapses=True),
            Sample("frame by frame in channels", lambda x: _of_channels(x, groups=8), refusal="time is folded"),
            Sample(
                "kernel from the video",
                lambda x: torch.conv_transpose3d(x, x[:, :, :, :1, :1].mean(2, True).movedim(0, 1)),
                refusal="the kernel is",
            ),
        )


def _by_frame(x: Tensor) -> Tensor:
    return torch.conv_transpose2d(
        x.transpose(1, 2).flatten(0, 1), torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2), None, 2
    )


def _of_channels(x: Tensor, groups: int) -> Tensor:
    weight = torch.linspace(-1, 1, 16 * 2).reshape(16, 2, 1, 1)
    return torch.conv_transpose2d(x.transpose(1, 2).flatten(1, 2), weight, None, groups=groups)

"""Interpolation and shuffles of space; time must keep its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import nn

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Block, Call, Operation, Refused, Sample
from co3d_compile.ops.spatial import spatial_layout, time_axis

KINDS = {1: ("nearest1d", "linear1d"), 2: ("nearest2d", "bilinear2d", "bicubic2d"), 3: ("nearest3d", "trilinear3d")}


class Upsample(Operation):
    targets = tuple(
        f"aten.upsample_{kind}.{variant}"
        for kinds in KINDS.values()
        for kind in kinds
        for variant in ("default", "vec")
    )

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self" if "self" in call.arguments else "input"].layout
        count = _rank(call.target)
        time_axis(layout, count)
        result = spatial_layout(layout, count, call.shapes[0])
        if result.time != layout.time:
            raise Refused(
                f"it resamples time from {layout.time} to {result.time} elements",
                "resample space alone, and leave time as it is",
            )
        return alone(result)

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        axis = time_axis(block.reads, _rank(block.target))
        sizes = arguments["output_size"]
        if axis is None or sizes is None:
            return arguments
        return {**arguments, "output_size": [block.width if n == axis else size for n, size in enumerate(sizes)]}

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("nearest", nn.Upsample(scale_factor=(1, 2, 2))),
            Sample("linear", nn.Upsample(scale_factor=(1, 2, 3), mode="trilinear")),
            Sample("frames in the batch", lambda x: F.interpolate(x.flatten(0, 1), scale_factor=2.0), (1, 1, 8, 4, 5)),
            Sample("bilinear", lambda x: F.interpolate(x[:, 0], size=(8, 9), mode="bilinear"), (1, 2, 8, 4, 5)),
            Sample("of time", nn.Upsample(scale_factor=2), refusal="it resamples time from 8 to 16"),
        )


class PixelShuffle(Operation):
    targets = ("aten.pixel_shuffle.default", "aten.pixel_unshuffle.default", "aten.channel_shuffle.default")

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        first = layout.rank - 2 if call.target == "aten.channel_shuffle.default" else layout.rank - 3
        if any(isinstance(factor, Mark) for dim in layout.dims[max(first, 1) :] for factor in dim):
            raise Refused("it moves values between channels and an axis that holds time", "fold time into the batch")
        return alone(
            layout.with_dims([d if n < layout.rank - 3 else (call.shapes[0][n],) for n, d in enumerate(layout.dims)])
        )

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("frames in the batch", lambda x: F.pixel_shuffle(x.transpose(1, 2), 2), (1, 4, 8, 4, 5)),
            Sample("back", lambda x: F.pixel_unshuffle(x.transpose(1, 2), 2), (1, 2, 8, 4, 6)),
        )


def _rank(target: str) -> int:
    return int(target.split("d.", maxsplit=1)[0][-1])

"""Adaptive pools: to one value over time (a collapse), or leaving time as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import nn

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.flow import Flow, alone, collapsed, gathered
from co3d_compile.ops.operation import Block, Call, Operation, Refused, Sample
from co3d_compile.ops.pooling import pool_rank
from co3d_compile.ops.spatial import spatial_layout, time_axis
from co3d_compile.ops.unpooling import PLACES


class AdaptivePool(Operation):
    targets = (
        *(f"aten.adaptive_avg_pool{n}d.default" for n in (1, 2, 3)),
        *(f"aten._adaptive_avg_pool{n}d.default" for n in (2, 3)),
        *(f"aten.adaptive_max_pool{n}d.default" for n in (2, 3)),
    )

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        count = pool_rank(call.target)
        axis = time_axis(layout, count)
        result = spatial_layout(layout, count, call.shapes[0])
        if 1 in call.used and axis is not None:
            raise PLACES
        if axis is None or result.time == layout.time > 1:
            return alone(*[result] * len(call.shapes))
        if result.time == 1:
            results = [result.without(Mark.TIME)] * len(call.shapes)
            return collapsed(*results, width=layout.time, still=True, resizable=True)
        if layout.time % result.time:
            raise Refused(
                f"an adaptive pool makes {result.time} elements of the clip's {layout.time}, which they do not divide, "
                "so what each reads depends on its place in the clip",
                "pool over time with a fixed kernel and stride, or to a number that divides the clip's",
            )
        return replace(gathered(result, layout.time // result.time), layouts=(result,) * len(call.shapes))

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        axis = time_axis(block.reads, pool_rank(block.target))
        if axis is None or block.layouts[0].time_dim is None:
            return arguments
        sizes = arguments["output_size"]
        return {**arguments, "output_size": [block.elements if n == axis else size for n, size in enumerate(sizes)]}

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("to one value", nn.AdaptiveAvgPool3d(1), collapses=True),
            Sample("to one element", nn.AdaptiveAvgPool3d((1, 2, 2)), collapses=True),
            Sample("largest, to one value", nn.AdaptiveMaxPool3d(1), collapses=True),
            Sample("time kept", nn.AdaptiveAvgPool3d((None, 2, 1))),
            Sample("frames in the batch", nn.Sequential(nn.Flatten(0, 1), nn.AdaptiveAvgPool2d(1)), (1, 1, 8, 4, 5)),
            Sample("1d", nn.AdaptiveAvgPool1d(1), (2, 2, 8), collapses=True),
            Sample("2d", nn.AdaptiveAvgPool2d((1, None)), (2, 2, 8, 6), collapses=True),
            Sample("halved", nn.AdaptiveAvgPool3d((4, 1, 1)), as_streamed=nn.AvgPool3d((2, 4, 5))),
            Sample("quartered, 1d", nn.AdaptiveAvgPool1d(2), (3, 2, 8), as_streamed=lambda x: F.avg_pool1d(x, 4)),
            Sample("largest of pairs", nn.AdaptiveMaxPool3d((4, 2, 5)), as_streamed=nn.MaxPool3d((2, 2, 1))),
            Sample(
                "places of the largest",
                lambda x: F.adaptive_max_pool3d(x, (8, 1, 1), return_indices=True)[1],
                refusal="the places of the maxima count",
            ),
            Sample("to some elements", nn.AdaptiveAvgPool3d((3, 1, 1)), refusal="an adaptive pool makes 3 elements"),
        )

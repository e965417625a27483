"""Max pools that tell where their maxima were, and unpools that put them back there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from co3d_compile.layout import Layout
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Operation, Refused, Sample
from co3d_compile.ops.pooling import pool_rank
from co3d_compile.ops.spatial import spatial_layout, time_axis

PLACES = Refused(
    "the places of the maxima count from the first frame of the clip, so that the same maximum has another place in "
    "every clip",
    "pool over space alone, with time folded into the batch, or upsample without the places",
)


class MaxPoolWithPlaces(Operation):
    """Within a frame; where nobody asks for the places it is a plain max pool."""

    targets = ("aten.max_pool2d_with_indices.default", "aten.max_pool3d_with_indices.default")

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        count = pool_rank(call.target)
        if time_axis(layout, count) is not None:
            raise PLACES
        return alone(*[spatial_layout(layout, count, call.shapes[0])] * 2)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("of frames", lambda x: torch.stack(F.max_pool2d(_frames(x), 2, return_indices=True), 1).float()),
            Sample("of space and time", lambda x: F.max_pool3d(x, (1, 2, 2), return_indices=True)[1], refusal="places"),
        )


class MaxUnpool(Operation):
    targets = ("aten.max_unpool2d.default", "aten.max_unpool3d.default")

    def flow(self, call: Call) -> Flow:
        operands = [call["self"], call["indices"]]
        count = pool_rank(call.target)
        if any(time_axis(facts.layout, count) is not None for facts in operands):
            raise PLACES
        return alone(spatial_layout(joined(operands, call.sizes), count, call.shapes[0]))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("of frames", _unpooled),
            Sample("of space and time", _unpooled_over_time, refusal="the places of the maxima count from the first"),
        )


def _frames(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)


def _unpooled_over_time(x: Tensor) -> Tensor:
    return F.max_unpool3d(x, torch.zeros_like(x, dtype=torch.int64), (1, 2, 2))


def _unpooled(x: Tensor) -> Tensor:
    largest, places = F.max_pool2d(_frames(x), (2, 5), return_indices=True)
    return F.max_unpool2d(largest, places, (2, 5))

"""Normalisation: with fixed statistics, or with statistics that do not reach over time."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Operation, Refused, Sample

STATISTICS = Refused(
    "its statistics reach over the whole clip",
    "a batch norm in eval mode, or a norm over channels and space alone, streams exactly",
)


class BatchNorm(Operation):
    targets = ("aten.batch_norm.default",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["input"].layout
        if call["training"] or call.arguments.get("running_mean") is None:
            raise STATISTICS
        if Mark.TIME in layout.dims[1]:
            raise Refused("time is folded into the channels, each with its own norm", "keep time as an axis of its own")
        return alone(layout)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("fixed statistics", nn.BatchNorm3d(2)),
            Sample("no affine part", nn.BatchNorm3d(2, affine=False)),
            Sample("frames in the batch", nn.Sequential(nn.Flatten(0, 1), nn.BatchNorm2d(8)), refusal="time is folded"),
        )


class LayerNorm(Operation):
    targets = ("aten.layer_norm.default", "aten.rms_norm.default")

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["input"].layout
        normed = layout.dims[layout.rank - len(call["normalized_shape"]) :]
        if any(Mark.TIME in dim for dim in normed):
            raise STATISTICS
        return alone(layout)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("over space", nn.LayerNorm((4, 5))),
            Sample("over channels", lambda x: F.layer_norm(x.movedim(1, -1), (2,))),
        )


class GroupNorm(Operation):
    """Statistics over everything but the first dimension, group by group."""

    targets = ("aten.group_norm.default", "aten.instance_norm.default")

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["input"].layout
        fixed = call.target.startswith("aten.instance_norm") and not call["use_input_stats"]
        if not fixed and any(Mark.TIME in dim for dim in layout.dims[1:]):
            raise STATISTICS
        return alone(layout)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("frames in the batch", lambda x: F.group_norm(x.transpose(1, 2).flatten(0, 1), 2)),
            Sample("instances of frames", lambda x: F.instance_norm(x.transpose(1, 2).flatten(0, 1))),
            Sample("instances, fixed", nn.InstanceNorm3d(2, track_running_stats=True)),
        )

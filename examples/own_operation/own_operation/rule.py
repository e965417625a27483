"""The rule: how the operator treats time."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch

from co3d_compile.ops.flow import Flow, windowed
from co3d_compile.ops.operation import Block, Call, Operation, Refused, Sample
from own_operation.operator import TemporalFilter, temporal_filter


class TemporalFilterRule(Operation):
    """A window over time, like that of a convolution with as many taps as there are weights."""

    targets = ("own_operation.temporal_filter.default",)

    def flow(self, call: Call) -> Flow:
        video, weights = call["video"], call["weights"]
        if weights.streams:
            raise Refused("the weights are computed from the video", "use weights that are parameters")
        if not video.layout.time_is_plain or video.layout.time_dim != 2:
            raise Refused("time is not the third dimension", "filter a tensor of shape (N, C, T, H, W)")
        return windowed(
            video.layout.with_time(call.shapes[0][2]),
            kernel=weights.layout.shape[0],
            stride=call["stride"],
            dilation=1,
            before=call["padding"],
            after=call["padding"],
            fill=0.0,
        )

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        """A block of elements comes with the padding that it needs."""
        return {**arguments, "padding": 0}

    def macs(self, call: Call, flow: Flow) -> int:
        return prod(flow.layouts[0].with_time(1).shape) * prod(call["weights"].layout.shape)

    def samples(self) -> tuple[Sample, ...]:
        weights = torch.tensor([0.5, -1.0, 2.0])
        return (
            Sample("three taps", TemporalFilter()),
            Sample("every other element", TemporalFilter(size=5, stride=2)),
            Sample("no padding", lambda x: temporal_filter(x, weights)),
            Sample("more padding than taps reach", lambda x: temporal_filter(x, weights, 1, 4)),
            Sample("behind a shortcut", lambda x: x + temporal_filter(x, weights, 1, 1)),
            Sample(
                "weights from the video",
                lambda x: temporal_filter(x, x.mean((0, 1, 3, 4))[:3]),
                refusal="the weights are computed from the video",
            ),
            Sample(
                "over rows",
                lambda x: temporal_filter(x.transpose(2, 3), weights),
                refusal="time is not the third dimension",
            ),
        )

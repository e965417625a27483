"""A norm with the mean and variance of everything since the start of the video."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from co3d_compile.layout import Layout
from co3d_compile.ops.flow import Flow, Way
from co3d_compile.ops.operation import Block, Call, Operation, Sample
from co3d_compile.ops.running import moments_after, wide

MOMENTS = "co3d_compile.running_moments.default"
NORMED = "co3d_compile.normed.default"

_LIBRARY = torch.library.Library("co3d_compile", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("running_moments(Tensor input, int kept, int groups) -> Tensor[]")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "normed(Tensor input, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, int kept, int groups, float eps)"
    " -> Tensor"
)
"""The statistics are over all dimensions behind the first ``kept``, of each of ``groups`` groups of them."""


def grouped(value: Tensor, kept: int, groups: int) -> Tensor:
    """Rows, groups, and what the statistics of each are made of."""
    return value.reshape(prod(value.shape[:kept]), groups, -1)


def _moments(value: Tensor, kept: int, groups: int) -> list[Tensor]:
    rows = wide(grouped(value, kept, groups))
    return list(
        moments_after((None, None, None), rows.mean(-1, keepdim=True), rows.var(-1, correction=0, keepdim=True))
    )


def _normed(
    value: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    kept: int,
    groups: int,
    eps: float,
) -> Tensor:
    rows = (wide(grouped(value, kept, groups)) - mean) * (var + eps).rsqrt()
    made = rows.reshape(value.shape).to(value.dtype)
    shape = (-1, *[1] * (value.dim() - 2))
    made = made if weight is None else made * weight.reshape(shape)
    return made if bias is None else made + bias.reshape(shape)


_LIBRARY.impl("running_moments", _moments, "CompositeImplicitAutograd")  # type: ignore[no-untyped-call]
_LIBRARY.impl("normed", _normed, "CompositeImplicitAutograd")  # type: ignore[no-untyped-call]


class RunningMoments(Operation):
    targets = (MOMENTS,)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["input"].layout
        rows = tuple(factor for dim in layout.dims[: call["kept"]] for factor in dim)
        made = layout.with_dims([rows, (call["groups"],), ()])
        return Flow(Way.RECURRENT, (made,) * 3, carried=(0, 1, 2))

    def run(self, arguments: Mapping[str, Any], block: Block) -> list[Tensor]:
        mean, var, _ = _moments(arguments["input"], arguments["kept"], arguments["groups"])
        return list(moments_after(arguments["carried"], mean, var))

    def samples(self) -> tuple[Sample, ...]:
        return ()


class Normed(Operation):
    """Weights are one per channel."""

    targets = (NORMED,)

    def flow(self, call: Call) -> Flow:
        return Flow(Way.MIXING, (call["input"].layout,))

    def samples(self) -> tuple[Sample, ...]:
        return ()

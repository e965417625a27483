"""Patches of an image laid out as columns, and columns summed up to an image: ``F.unfold`` and ``F.fold``."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor

from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Operation, Refused, Sample, per_spatial


class Columns(Operation):
    """Every image, and every channel of it, is taken for itself."""

    targets = ("aten.im2col.default", "aten.col2im.default")

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        shape, taps = call.shapes[0], prod(per_spatial(call["kernel_size"], 2))
        _require_unmarked(layout.dims[-2:])
        if call.target == "aten.im2col.default":
            return alone(layout.with_dims([*layout.dims[:-3], (*layout.dims[-3], taps), (shape[-1],)]))
        return alone(layout.with_dims([*layout.dims[:-2], *((size,) for size in shape[-3:])]))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("patches", lambda x: F.unfold(_frames(x), 3, padding=1)),
            Sample("patches apart", lambda x: F.unfold(_frames(x), (2, 3), dilation=(2, 1), stride=2)),
            Sample("of channels that hold time", lambda x: F.unfold(x.flatten(1, 2), 2).reshape(len(x), 2, -1, 4, 12)),
            Sample("summed up again", lambda x: F.fold(F.unfold(_frames(x), 2), (4, 5), 2)),
            Sample("of time and space", lambda x: F.unfold(x.flatten(3), 2), refusal="time or the batch lies"),
            Sample(
                "summed up to a clip", lambda x: F.fold(x.flatten(3).mT.flatten(1, 2), (9, 2), 2), refusal="the batch"
            ),
        )


def _require_unmarked(dims: Sequence[Dim]) -> None:
    if any(isinstance(factor, Mark) for dim in dims for factor in dim):
        raise Refused(
            "time or the batch lies among the axes that its patches are cut from",
            "fold time into the batch for patches of frames; x.unfold along time for windows of frames",
        )


def _frames(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)

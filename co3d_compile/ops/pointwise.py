"""Operations that treat every value alone: arithmetic, activations, comparisons, casts."""

from __future__ import annotations

import torch

from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Operation, overload

UNTAGGED = frozenset(
    {
        "aten.prelu.default",
        "aten._prelu_kernel.default",
        "aten.to.dtype",
        "aten.to.device",
        "aten._to_copy.default",
        "aten.zeros_like.default",
        "aten.ones_like.default",
        "aten.full_like.default",
        "aten.empty_like.default",
        "aten.masked_fill.Scalar",
        "aten.masked_fill.Tensor",
        "aten.where.self",
        "aten.where.ScalarSelf",
        "aten.where.ScalarOther",
        "aten.where.Scalar",
        "aten.lerp.Scalar",
        "aten.clamp.default",
        "aten.addcmul.default",
        "aten.addcdiv.default",
        "aten.copy.default",
        "aten.fill.Scalar",
        "aten.nan_to_num.default",
        "aten.silu.default",
        "aten.mish.default",
        "aten.rrelu.default",
        "aten.dropout.default",
        "aten.contiguous.default",
    }
)


def is_pointwise(target: str) -> bool:
    return target in UNTAGGED or torch.Tag.pointwise in overload(target).tags


class Pointwise(Operation):
    """Found by torch's own ``pointwise`` tag."""

    broadcasts = True

    def flow(self, call: Call) -> Flow:
        return alone(joined(call.operands, call.sizes))

"""Operations that treat every value alone: arithmetic, activations, comparisons, casts."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Operation, Refused, Sample, overload

UNTAGGED = frozenset(
    {
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
        "aten.hardswish.default",
        "aten.mish.default",
        "aten.rrelu.default",
        "aten.dropout.default",
        "aten.contiguous.default",
        "aten.complex.default",
        "aten.polar.default",
    }
)


def is_pointwise(target: str) -> bool:
    return target in UNTAGGED or torch.Tag.pointwise in overload(target).tags


class Pointwise(Operation):
    """Found by torch's own ``pointwise`` tag."""

    broadcasts = True
    spreads = True

    def flow(self, call: Call) -> Flow:
        return alone(*[joined(call.operands, call.sizes)] * len(call.shapes))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("arithmetic", lambda x: (x * 2 - 1).relu() / (x.abs() + 1)),
            Sample("activations", lambda x: F.hardswish(x) + F.silu(x) + F.gelu(x) + F.elu(x)),
            Sample("in place", lambda x: F.relu(x + 0, inplace=True).mul_(2).add_(x)),
            Sample("branches at other depths", lambda x: x + F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0))),
            Sample("by channel", lambda x: x * torch.tensor([2.0, -1.0]).reshape(2, 1, 1, 1)),
            Sample("chosen", lambda x: torch.where(x > 0, x, x.exp() - 1).clamp(-0.5, 2)),
            Sample("masked", lambda x: x.masked_fill(x < 0, 0.25)),
            Sample("cast", lambda x: x.double() * 2),
            Sample("arithmetic on what is expanded", lambda x: x + torch.arange(5.0).expand(x.shape) / 4),
            Sample(
                "a frame for each", lambda x: x * torch.ones(8, 1, 1).cumsum(0), refusal="an operand of 8 fixed values"
            ),
            Sample(
                "outer product over time",
                lambda x: x[..., :1, :1] + x[..., :1, :1].transpose(2, 3),
                refusal="time lies in",
            ),
        )


class LearnedSlope(Operation):
    """PReLU: its slopes lie along the channels, wherever broadcasting would put them."""

    targets = ("aten.prelu.default",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        if call["weight"].streams:
            raise Refused("its slopes are made from the video", "torch.where(x > 0, x, slopes * x)")
        several = call["weight"].layout.shape not in ((), (1,))
        if several and any(isinstance(factor, Mark) for factor in layout.dims[1]):
            raise Refused("each frame has a slope of its own", "one slope, or channels on dimension 1")
        return alone(layout)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("learned", torch.nn.PReLU(2)),
            Sample("as many channels as pixels", torch.nn.PReLU(5), (1, 5, 8, 4, 5)),
            Sample("of one pixel", torch.nn.PReLU(3), (1, 3, 8, 1, 1)),
            Sample("before time", lambda x: F.prelu(x.movedim(2, -1), torch.tensor([0.5, -2.0]))),
            Sample("one for all", lambda x: F.prelu(x.transpose(1, 2), torch.tensor([0.3]))),
            Sample("by frame", lambda x: F.prelu(x.transpose(1, 2), torch.ones(8)), refusal="each frame has a slope"),
            Sample(
                "by the video", lambda x: F.prelu(x, x.mean((0, 2, 3, 4))), refusal="its slopes are made from the video"
            ),
        )

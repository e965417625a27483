"""Operations along one dimension that keep it: softmax, cumulative sums, sorting, flips and rolls."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Operation, Refused, Sample, canonical_dims


class AlongAxis(Operation):
    targets = (
        "aten.softmax.int",
        "aten.log_softmax.int",
        "aten._softmax.default",
        "aten._log_softmax.default",
        "aten.cumsum.default",
        "aten.cumprod.default",
        "aten.logcumsumexp.default",
        "aten.cummax.default",
        "aten.cummin.default",
        "aten.flip.default",
        "aten.roll.default",
        "aten.sort.default",
        "aten.argsort.default",
        "aten.topk.default",
        "aten.glu.default",
    )

    def flow(self, call: Call) -> Flow:
        facts = call.operands[0]
        dims = canonical_dims(call.arguments.get("dim", call.arguments.get("dims")), facts.layout.rank)
        if any(Mark.TIME in facts.layout.dims[dim] for dim in dims):
            raise _refusal(call)
        return alone(*(_sized(facts.layout, shape, dims) for shape in call.shapes))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("softmax of channels", lambda x: x.softmax(1)),
            Sample("log-softmax of the last axis", lambda x: x.log_softmax(-1)),
            Sample("running sum of rows", lambda x: x.cumsum(3)),
            Sample("running product of rows", lambda x: x.cumprod(3)),
            Sample("flip of space", lambda x: x.flip((3, 4))),
            Sample("roll of channels", lambda x: x.roll(1, 1)),
            Sample("sort of channels", lambda x: x.sort(1).values),
            Sample("order of channels", lambda x: x.argsort(1) * x),
            Sample("the best two", lambda x: x.topk(2, dim=4).values),
            Sample("gated half", lambda x: torch.nn.functional.glu(x, 1)),
            Sample("softmax over time", lambda x: x.softmax(2), refusal="it runs along time"),
            Sample("flip of time", lambda x: x.flip(2), refusal="begins with the last frame of the clip"),
            Sample("roll over time", lambda x: x.roll(1, 2), refusal="brings the last frames of the clip to its start"),
        )


def _refusal(call: Call) -> Refused:
    match call.target:
        case "aten.flip.default":
            return Refused(
                "time runs backwards, so it begins with the last frame of the clip",
                "flip space, or take the frames in the order in which they come",
            )
        case "aten.roll.default":
            return Refused(
                f"rolling by {call['shifts']} brings the last frames of the clip to its start, or the first to its end",
                "set the frames that come around to a constant, or shift with padding",
            )
        case _:
            return Refused(
                "it runs along time, so every frame of the clip meets every other",
                'run it along another dimension, pool over time before it, or give a softmax the policy "frame"',
            )


def _sized(layout: Layout, shape: Sequence[int], along: Sequence[int]) -> Layout:
    """The layout with the sizes along the operation's own dimensions taken from the output's shape."""
    return layout.with_dims([(shape[n],) if n in along else dim for n, dim in enumerate(layout.dims)])

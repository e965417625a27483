"""Matrix products: frames alone where time is a free index; fully connected over the clip where it is summed over."""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import nn

from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone, collapsed
from co3d_compile.ops.operation import Call, Facts, Operation, Refused, Sample

MIXING = Refused(
    "it is a product over time of two things made from the video, so every frame of the clip meets every other",
    'attention over time needs the whole clip; a policy of "frame" or "window" for it, or a pool over time before it',
)


class Linear(Operation):
    targets = ("aten.linear.default",)

    def flow(self, call: Call) -> Flow:
        facts: Facts = call["input"]
        if call["weight"].streams:
            raise MIXING
        layout = facts.layout.with_dims([*facts.layout.dims[:-1], _rows(call["weight"].layout)])
        return _contracted(facts, facts.layout.dims[-1], layout)

    def macs(self, call: Call, flow: Flow) -> int:
        width = flow.taps.count * call["input"].layout.with_time(1).shape[-1]
        return prod(flow.layouts[0].with_time(1).shape) * int(width)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("of the last axis", nn.Linear(5, 3)),
            Sample("no bias", nn.Linear(5, 3, bias=False)),
            Sample("of the flattened clip", nn.Sequential(nn.Flatten(), nn.Linear(320, 3)), collapses=True),
            Sample(
                "over time alone", lambda x: F.linear(x.movedim(2, -1), torch.ones(1, 8)).squeeze(-1), collapses=True
            ),
            Sample("a weight from the video", lambda x: F.linear(x, x[0, 0, 0]), refusal="it is a product"),
        )


class MatrixProduct(Operation):
    """``(..., i, j) x (..., j, k)``; ``addmm`` and ``baddbmm`` add a constant or a stream to it."""

    targets = (
        "aten.mm.default",
        "aten.bmm.default",
        "aten.matmul.default",
        "aten.addmm.default",
        "aten.baddbmm.default",
    )

    def flow(self, call: Call) -> Flow:
        left, right = _factors(call)
        if left.layout.rank < 2 or right.layout.rank < 2:
            raise Refused("a product with a vector", "write it as a matrix product with a dimension of size 1")
        summed = left.layout.dims[-1], right.layout.dims[-2]
        if left.streams and right.streams and any(Mark.TIME in dim for dim in summed):
            raise MIXING
        layout = self._layout(call, left, right)
        streaming, dim = (left, summed[0]) if left.streams else (right, summed[1])
        return _contracted(streaming, dim, layout)

    def _layout(self, call: Call, left: Facts, right: Facts) -> Layout:
        outer = [Facts(_batch_part(f.layout), f.dtype, f.timing) for f in (left, right)]
        batch = joined(outer, call.sizes)
        layout = Layout((*batch.dims, left.layout.dims[-2], right.layout.dims[-1]), *call.sizes)
        if sum(Mark.TIME in dim for dim in layout.dims) > 1:
            raise MIXING
        return layout

    def macs(self, call: Call, flow: Flow) -> int:
        left, _ = _factors(call)
        width = flow.taps.count * left.layout.with_time(1).shape[-1]
        return prod(flow.layouts[0].with_time(1).shape) * int(width)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("by a constant", lambda x: x @ torch.linspace(-1, 1, 10).reshape(5, 2)),
            Sample("from the left", lambda x: torch.linspace(-1, 1, 12).reshape(3, 4) @ x),
            Sample("of two streams", lambda x: x @ (x * 2).transpose(3, 4)),
            Sample("attention in a frame", lambda x: (x @ x.mT).softmax(-1) @ x),
            Sample("einsum", lambda x: torch.einsum("nctij,nctkj->nctik", x, x.relu()), (2, 2, 8, 4, 5)),
            Sample("in a batch of matrices", lambda x: torch.bmm(x.flatten(0, 2), x.flatten(0, 2).mT), (1, 1, 8, 4, 5)),
            Sample("added to", lambda x: torch.addmm(torch.ones(3), x[:, 0].flatten(0, 2), torch.ones(5, 3))),
            Sample(
                "over time", lambda x: x.transpose(2, 4) @ x.transpose(2, 4).mT, refusal="it is a product over time"
            ),
            Sample(
                "frame against frame", lambda x: x.flatten(3) @ x.flatten(3).mT, refusal="it is a product over time"
            ),
        )


def _factors(call: Call) -> tuple[Facts, Facts]:
    names = {"mm": ("self", "mat2"), "bmm": ("self", "mat2"), "matmul": ("self", "other")}
    names |= {"addmm": ("mat1", "mat2"), "baddbmm": ("batch1", "batch2")}
    one, other = names[call.target.split(".")[1]]
    return call[one], call[other]


def _batch_part(layout: Layout) -> Layout:
    return layout.with_dims(layout.dims[:-2])


def _rows(weight: Layout) -> Dim:
    return (weight.shape[0],) if weight.rank == 2 else ()


def _contracted(streaming: Facts, summed: Dim, layout: Layout) -> Flow:
    if Mark.BATCH in summed and streaming.layout.batch > 1:
        raise Refused("the streams of a batch are summed into one", "keep the batch as a dimension of its own")
    if Mark.TIME in summed:
        return collapsed(layout, width=streaming.layout.time)
    return alone(layout)

"""Values read from, or written to, places of one dimension that indices name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from co3d_compile.layout import Dim, Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Block, Call, Facts, Operation, Refused, Sample, canonical_dim

BROADCASTING = "aten.take_along_dim.default"
WITH_PLACES = (
    "aten.gather.default",
    BROADCASTING,
    "aten.scatter.src",
    "aten.scatter.value",
    "aten.scatter.value_reduce",
    "aten.scatter_add.default",
    "aten.scatter_reduce.two",
)
LISTED = (
    "aten.index_fill.int_Scalar",
    "aten.index_fill.int_Tensor",
    "aten.index_add.default",
    "aten.index_copy.default",
)


class Picking(Operation):
    """Indices with a place for each value, as of ``gather``, or a list of them, as of ``index_add``."""

    targets = (*WITH_PLACES, *LISTED)
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        if call["dim"] is None:
            raise Refused("it takes values from all dimensions, laid out in one", "name a dimension other than time")
        shape = call.shapes[0]
        dim = canonical_dim(call["dim"], len(shape))
        along = _alongside(call)
        for facts in along:
            _require_whole(facts.layout.dims[dim])
        _require_all_rows(call, along, dim)
        if call.target in LISTED and call["index"].streams:
            raise Refused("the indices depend on the video", "indices that are constant")
        rest = joined([_without(facts, dim) for facts in along], call.sizes)
        return alone(rest.with_dims([(shape[n],) if n == dim else kept for n, kept in enumerate(rest.dims)]))

    def whole_dims(self, arguments: Mapping[str, Any], rank: int) -> tuple[int, ...]:
        return (canonical_dim(arguments["dim"], rank),)

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        layout = block.layouts[0]
        dim = canonical_dim(arguments["dim"], layout.rank)
        shape = layout.solid().running_shape(block.elements, block.batch)

        def grown(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.dim() < len(shape):
                return value
            return value.expand([value.shape[n] if n == dim else size for n, size in enumerate(shape)])

        return super().run({name: grown(value) for name, value in arguments.items()}, block)

    def samples(self) -> tuple[Sample, ...]:
        listed = torch.tensor([0, 2])
        return (
            Sample("sorted by hand", lambda x: x.gather(3, x.argsort(3)), poison=False),
            Sample("the largest", lambda x: torch.take_along_dim(x, x.argmax(1, keepdim=True), 1)),
            Sample("constant places", lambda x: x.gather(4, torch.tensor([[3, 1]]).expand(*x.shape[:4], 2))),
            Sample("marked", lambda x: x.scatter(3, x.argmax(3, keepdim=True), 1.0)),
            Sample("written", lambda x: torch.zeros_like(x).scatter(4, x.argsort(4), x.relu()), poison=False),
            Sample("added", lambda x: x.scatter_add(4, x.argsort(4), x.relu()), poison=False),
            Sample("doubled", lambda x: x.scatter(3, x.argmax(3, keepdim=True), 2.0, reduce="multiply")),
            Sample("the least", lambda x: x.scatter_reduce(4, x.argsort(4), -x, "amin"), poison=False),
            Sample("rows filled", lambda x: x.index_fill(3, listed, 0.5)),
            Sample("rows filled with a tensor", lambda x: x.index_fill(3, listed, torch.tensor(0.5))),
            Sample("rows added", lambda x: x.index_add(3, listed, x[:, :, :, :2], alpha=2)),
            Sample("rows copied", lambda x: x.index_copy(3, listed, x[:, :, :, 2:])),
            Sample("along time", lambda x: x.gather(2, x.argsort(1)), refusal="time or the batch lies along"),
            Sample(
                "fewer frames", lambda x: x.gather(3, x.argsort(3)[:, :, :4]), refusal="takes frames by their place"
            ),
            Sample(
                "by value", lambda x: x.index_fill(1, x[0, :, 0, 0, 0].argsort(), 0.0), refusal="depend on the video"
            ),
            Sample(
                "of the first channel",
                lambda x: x.scatter(3, x[:, :1].argmax(3, keepdim=True), 0.0),
                refusal="leave some of the rows",
            ),
            Sample("of all", lambda x: torch.take_along_dim(x, x.argmax()), refusal="from all dimensions"),
        )


def _alongside(call: Call) -> list[Facts]:
    """The operands that have the dimensions of the result; a list of indices and a single value have not."""
    return [facts for facts in call.operands if facts.layout.rank == len(call.shapes[0])]


def _without(facts: Facts, dim: int) -> Facts:
    kept: list[Dim] = [() if n == dim else one for n, one in enumerate(facts.layout.dims)]
    return Facts(facts.layout.with_dims(kept), facts.dtype, facts.timing)


def _require_whole(dim: Dim) -> None:
    if any(isinstance(factor, Mark) for factor in dim):
        raise Refused("time or the batch lies along the dimension of its indices", "another dimension than time")


def _require_all_rows(call: Call, along: list[Facts], dim: int) -> None:
    """Beside their dimension, indices of ``gather`` and ``scatter`` with fewer rows leave the others out."""
    shape = call.shapes[0]
    fitting = [{size, 1} if call.target == BROADCASTING else {size} for size in shape]
    if any(size not in fitting[n] for facts in along for n, size in enumerate(facts.layout.shape) if n != dim):
        raise Refused("its indices leave some of the rows beside them out", "indices for every row")

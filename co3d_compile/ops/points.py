"""Points that constant indices pick out of several dimensions at once, none of them time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Facts, Operation, Refused, Sample


class IndexPut(Operation):
    """Values are written to constant places of a frame."""

    targets = ("aten.index_put.default",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        there = picked(layout, call["indices"])
        values: Layout = call["values"].layout
        if values.shape and values.dims != there.dims:
            raise Refused("its values lie otherwise than the places that they are written to", "values for each place")
        if not call["self"].streams:
            raise Refused("frames are written into a constant", "write into a tensor that is made from the video")
        return alone(layout)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("rows set to a number", lambda x: _written(x, [None, None, None, [0, 2]], torch.tensor(0.5))),
            Sample(
                "points set to a number", lambda x: _written(x, [None, None, None, [0, 2], [1, 1]], torch.tensor(0.5))
            ),
            Sample("rows written", lambda x: _written(x, [None, None, None, [0, 2]], x[..., 1:3, :].exp())),
            Sample(
                "points added",
                lambda x: _written(x, [None, None, None, [0, 2], [1, 1]], x[..., 0, :2], accumulate=True),
            ),
            Sample(
                "one row for two", lambda x: _written(x, [None, None, None, [0, 2]], x[..., :1, :]), refusal="otherwise"
            ),
            Sample(
                "frames", lambda x: _written(x, [None, [0, 0], [1, 2]], torch.tensor(0.5)), refusal="several dimensions"
            ),
        )


def picked(layout: Layout, indices: Sequence[Facts | None]) -> Layout:
    """The layout of what indices pick (torch's indexing: their own axes come first if they are apart, else in place).

    Raises:
        Refused: an index follows from the video, or time or the batch is among the dimensions that are indexed.
    """
    used = [dim for dim, index in enumerate(indices) if index is not None]
    given = [index for index in indices if index is not None]
    if any(index.streams for index in given):
        raise Refused("the indices depend on the video", "indices that are constant")
    if any(isinstance(factor, Mark) for dim in used for factor in layout.dims[dim]):
        raise Refused(
            "it picks points out of several dimensions at once, and time or the batch is one of them",
            "index one dimension at a time",
        )
    shapes = (index.layout.shape for index in given)
    axes: list[Dim] = [(size,) for size in torch.broadcast_shapes(*shapes)]  # type: ignore[no-untyped-call]
    kept = [dim for n, dim in enumerate(layout.dims) if n not in used]
    place = used[0] if used[-1] - used[0] == len(used) - 1 else 0
    return layout.with_dims([*kept[:place], *axes, *kept[place:]])


def _written(x: Tensor, indices: Sequence[list[int] | None], values: Tensor, *, accumulate: bool = False) -> Tensor:
    lists = [None if one is None else torch.tensor(one) for one in indices]
    made: Tensor = torch.ops.aten.index_put(x, lists, values, accumulate)
    return made

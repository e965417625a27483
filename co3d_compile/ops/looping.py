"""The operator that stands in a graph for a loop over frames, and how it runs on a whole clip."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from co3d_compile.ops.bodies import Body

NAME = "co3d_compile.recurrence.default"

_LIBRARY = torch.library.Library("co3d_compile", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "recurrence(Tensor[] streams, int[] dims, Tensor[] constants, str body, str first, int states) -> Tensor[]"
)
"""The operator by which a graph says so.

streams: looped over along their ``dims``, all of one length. body: from (carried values, one element of each stream
without that dimension, constants) to (values to carry, values to give out). first: the same for the first element,
where nothing is carried yet; empty: there is nothing to carry. states: how many values are carried.
It returns the carried values and the values given out, each stacked over the elements in a new first dimension.
"""


def run_over_clip(
    streams: Sequence[Tensor], dims: Sequence[int], constants: Sequence[Tensor], body: str, first: str, states: int
) -> list[Tensor]:
    """The operator as a graph runs it, on a whole clip."""
    rows: list[list[Tensor | None]] = []
    for n in range(streams[0].shape[dims[0]]):
        element = [stream.select(dim, n) for stream, dim in zip(streams, dims, strict=True)]
        if n == 0 and first:
            rows.append(Body.from_text(first).run([*element, *constants]))
        else:
            carried = rows[-1][:states] if rows else []
            rows.append(Body.from_text(body).run([*carried, *element, *constants]))
    return [_stacked(list(column)) for column in zip(*rows, strict=True)]


def _stacked(column: Sequence[Tensor | None]) -> Tensor:
    """Values that do not exist are zeros: the graph reads none of them."""
    like = next(one for one in column if one is not None)
    shape = torch.broadcast_shapes(*(one.shape for one in column if one is not None))  # type: ignore[no-untyped-call]
    whole = [like.new_zeros(shape) if one is None else one for one in column]
    return torch.stack([one.expand(shape) for one in whole])


def _fake(
    streams: Sequence[Tensor], dims: Sequence[int], constants: Sequence[Tensor], body: str, first: str, states: int
) -> list[Tensor]:
    """Shapes alone: the second element is as all later ones are."""
    count = streams[0].shape[dims[0]]
    short = [stream.narrow(dim, 0, 2 if count > 1 else 1) for stream, dim in zip(streams, dims, strict=True)]
    made = run_over_clip(short, dims, constants, body, first, states)
    return [one.new_empty((count, *one.shape[1:])) for one in made]


_LIBRARY.impl("recurrence", run_over_clip, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("co3d_compile::recurrence", _fake, lib=_LIBRARY)


def operator_node() -> torch._ops.OpOverload:
    """The operator, for a node of a graph."""
    return torch.ops.co3d_compile.recurrence.default

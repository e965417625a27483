"""Writing a part of a tensor: what slice assignment becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from co3d_compile.clock.periodic import affine
from co3d_compile.clock.timing import IndexMap
from co3d_compile.layout import Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Absent, Flow, Taps, Way, alone
from co3d_compile.ops.operation import Block, Call, Facts, Operation, Refused, Sample, canonical_dim
from co3d_compile.ops.slicing import OPEN_END, require_whole


class Scatter(Operation):
    """A tensor with a part of it replaced. Over time: element n is the source's where that has one, else the base's."""

    targets = ("aten.slice_scatter.default", "aten.select_scatter.default")
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        base: Facts = call["self"]
        dim = canonical_dim(call["dim"], base.layout.rank)
        if base.layout.dims[dim] == (Mark.TIME,):
            return _over_time(call, dim)
        require_whole(base.layout.dims[dim])
        source = _source_dims(call, dim)
        frame = joined([_emptied(base, dim), source], call.sizes)
        return alone(frame.with_dims([(call.shapes[0][dim],) if n == dim else d for n, d in enumerate(frame.dims)]))

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        shape = list(block.layouts[0].running_shape(block.elements, block.batch))
        dim = canonical_dim(arguments["dim"], len(shape))
        base, part = arguments["self"].expand(shape), arguments["src"]
        if block.layouts[0].dims[dim] == (Mark.TIME,):
            return base if part is None else part.to(base.dtype).expand(shape)
        given = block.tensors[-1]
        sizes = list(shape)
        if "select" in block.target:
            del sizes[dim]
        else:
            sizes[dim] = part.shape[dim] if given is None else given.solid().shape[dim]
        return super().run({**arguments, "self": base, "src": part.expand(sizes)}, block)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("a channel written", _write_channel),
            Sample("rows written", _write_rows),
            Sample("columns cleared", _clear_columns),
            Sample("the frame before added", _add_before),
            Sample("some channels shifted in a copy", _shifted_copy),
            Sample("all but the first frame", _smoothed),
            Sample("time is written by place", _write_by_place, refusal="writes frames by their place in the clip"),
            Sample("every other frame", _write_every_other, refusal="writes every 2nd frame"),
        )


def _over_time(call: Call, dim: int) -> Flow:
    base: Facts = call["self"]
    part: Facts = call["src"]
    if call.target == "aten.select_scatter.default":
        raise Refused(
            f"it writes frame {call['index']} of the clip, and the frames of a stream have no place in a clip",
            "write a constant to the first or the last frame, or leave them as they are",
        )
    start, step, end = call["start"] or 0, call["step"], call["end"]
    if step != 1:
        raise Refused(f"it writes every {_ordinal(step)} frame", "write a whole stretch of time, or upsample")
    if start < 0 or (end is not None and 0 <= end < base.layout.time):
        raise Refused(
            f"the assignment to {start}:{_shown(end)} of time writes frames by their place in the clip",
            "count the start of the slice from the front and its end from the back",
        )
    if not part.has_time or not base.has_time:
        raise Refused(
            f"frames {start}:{_shown(end)} are written from what has no time",
            "write what is one value, or has its own frames",
        )
    layout = joined([_emptied(base, dim), _emptied(part, dim)], call.sizes)
    layout = layout.with_dims([(Mark.TIME,) if n == dim else d for n, d in enumerate(layout.dims)])
    left = -end if end is not None and end < 0 else 0
    index = affine(1, -start)
    written = Taps(IndexMap(index, index, affine(1, start + left)), fill=Absent.NOTHING)
    return Flow(Way.REINDEX, (layout.with_time(base.layout.time),), each=(Taps(), written))


def _source_dims(call: Call, dim: int) -> Facts:
    """The source as it lies in the base, without its size along the dimension that is written."""
    part: Facts = call["src"]
    if call.target != "aten.select_scatter.default":
        return _emptied(part, dim)
    dims = list(part.layout.dims)
    return Facts(part.layout.with_dims([*dims[:dim], (), *dims[dim:]]), part.dtype, part.timing)


def _emptied(facts: Facts, dim: int) -> Facts:
    layout = facts.layout.with_dims([() if n == dim else kept for n, kept in enumerate(facts.layout.dims)])
    return Facts(layout, facts.dtype, facts.timing)


def _shown(end: int | None) -> str:
    return "" if end is None or end >= OPEN_END else str(end)


def _ordinal(number: int) -> str:
    return f"{number}{ {2: 'nd', 3: 'rd'}.get(number, 'th') }"


def _write_channel(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, 0] = x[:, 1] * 2
    y[:, 1:] = x[:, :1]
    return y


def _write_rows(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, :, 1:3] = x[:, :, :, :2].relu()
    return y


def _clear_columns(x: Tensor) -> Tensor:
    y = x.clone()
    y[..., 1:4] = torch.zeros_like(x[..., :3])
    y[..., 0].fill_(1)
    return y


def _add_before(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, 1:] += x[:, :, :-1]
    return y


def _shifted_copy(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :1, :-1] = x[:, :1, 1:]
    y[:, 1:, 2:] = x[:, 1:, :-2]
    return y


def _smoothed(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, 1:] = (x[:, :, :-1] + x[:, :, 1:]) / 2
    return y


def _write_by_place(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, :5] = x[:, :, 1:6].relu()
    return y


def _write_every_other(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, ::2] = x[:, :, ::2].relu()
    return y

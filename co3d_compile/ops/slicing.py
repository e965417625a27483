"""Parts of a tensor: slices, splits, selections, and writing a part."""

from __future__ import annotations

from collections.abc import Mapping
from sys import maxsize
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from co3d_compile.clock.periodic import affine, floor_ratio
from co3d_compile.clock.timing import IndexMap
from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone, collapsed, reindexed
from co3d_compile.ops.operation import Block, Call, Facts, Operation, Refused, Sample, canonical_dim

WHOLE = Refused(
    "it cuts through time or the batch where they are folded with another axis", "keep time as an axis of its own"
)


class Slice(Operation):
    """``x[o:e:s]``: over time, element n is ``s*n + o``; an end counted from the back holds elements back."""

    targets = ("aten.slice.Tensor",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        dim = canonical_dim(call["dim"], layout.rank)
        if layout.shape == call.shapes[0] and _is_whole(call):
            return alone(layout)
        if layout.dims[dim] == (Mark.TIME,):
            return _time_slice(call, layout.with_time(call.shapes[0][dim]))
        return alone(_resized(layout, dim, call.shapes[0]))

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        if block.reads.time_dim != canonical_dim(arguments["dim"], block.reads.rank):
            return arguments
        return {**arguments, "start": 0, "end": maxsize}

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("from the third frame", lambda x: x[:, :, 2:]),
            Sample("every third frame", lambda x: x[:, :, 1::3]),
            Sample("without the last two", lambda x: x[:, :, :-2]),
            Sample("every other, without the last", lambda x: x[:, :, 1:-1:2]),
            Sample("neighbours apart", lambda x: x[:, :, 1:] - x[:, :, :-1]),
            Sample("chomped", lambda x: F.pad(x, (0, 0, 0, 0, 2, 2))[:, :, :-2]),
            Sample("of channels and space", lambda x: x[:, 1:, :, ::2, :-1]),
            Sample("the first five frames", lambda x: x[:, :, :5], refusal="takes frames by their place in the clip"),
            Sample("the last five frames", lambda x: x[:, :, -5:], refusal="takes frames by their place in the clip"),
        )


class Select(Operation):
    """One index of a dimension; of time: the frame of that number in each window."""

    targets = ("aten.select.int",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        dim = canonical_dim(call["dim"], layout.rank)
        left = layout.with_dims([*layout.dims[:dim], *layout.dims[dim + 1 :]])
        if layout.dims[dim] == (Mark.TIME,):
            return collapsed(left, width=layout.time, still=True)
        _require_whole(layout.dims[dim])
        return alone(left)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("a channel", lambda x: x[:, 1]),
            Sample("the last frame", lambda x: x[:, :, -1], collapses=True),
            Sample("the middle frame", lambda x: x[:, :, 4], collapses=True),
        )


class Split(Operation):
    targets = ("aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default", "aten.unbind.int")

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        dim = canonical_dim(call["dim"], layout.rank)
        if call.target == "aten.unbind.int":
            _require_whole(layout.dims[dim])
            return alone(*(layout.with_dims([*layout.dims[:dim], *layout.dims[dim + 1 :]]) for _ in call.shapes))
        return alone(*(_resized(layout, dim, shape) for shape in call.shapes))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("chunks of channels", lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
            Sample("uneven parts", lambda x: torch.split(x, [1, 3], 3)),
            Sample("equal parts", lambda x: torch.split(x, 2, 4)),
            Sample("channels taken apart", lambda x: x.unbind(1)),
            Sample("of time", lambda x: x.chunk(2, 2), refusal="it cuts through time"),
        )


class IndexSelect(Operation):
    targets = ("aten.index_select.default",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        return alone(_resized(layout, canonical_dim(call["dim"], layout.rank), call.shapes[0]))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("channels", lambda x: x.index_select(1, torch.tensor([1, 0, 1]))),
            Sample("frames", lambda x: x.index_select(2, torch.tensor([1, 0])), refusal="it cuts through time"),
        )


class Scatter(Operation):
    """What slice assignment becomes: a tensor with a part of it replaced."""

    targets = ("aten.slice_scatter.default", "aten.select_scatter.default")
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        base: Facts = call["self"]
        part: Facts = call["src"]
        dim = canonical_dim(call["dim"], base.layout.rank)
        _require_whole(base.layout.dims[dim])
        source = list(part.layout.dims)
        if call.target == "aten.select_scatter.default":
            source.insert(dim, ())
        source[dim] = ()
        frame = joined([_emptied(base, dim), Facts(part.layout.with_dims(source), part.dtype, part.timing)], call.sizes)
        return alone(frame.with_dims([(call.shapes[0][dim],) if n == dim else d for n, d in enumerate(frame.dims)]))

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        shape = list(block.layouts[0].running_shape(block.elements, block.batch))
        dim = canonical_dim(arguments["dim"], len(shape))
        base = arguments["self"].expand(shape)
        part = arguments["src"]
        sizes = shape[:dim] + ([] if "select" in block.target else [part.shape[dim]]) + shape[dim + 1 :]
        return super().run({**arguments, "self": base, "src": part.expand(sizes)}, block)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("a channel written", _write_channel),
            Sample("rows written", _write_rows),
        )


def _is_whole(call: Call) -> bool:
    return (call["start"] or 0) == 0 and call["step"] == 1 and call["end"] in (None, maxsize)


def _time_slice(call: Call, result: Layout) -> Flow:
    start, step, end = call["start"] or 0, call["step"], call["end"]
    if start < 0 or (end is not None and 0 <= end < call["self"].layout.time):
        raise Refused(
            f"the slice {start}:{end}:{step} of time takes frames by their place in the clip",
            "count the start of the slice from the front and its end from the back",
        )
    cut = -end if end is not None and end < 0 else 0
    index = affine(step, start)
    return reindexed(result, IndexMap(index, index, floor_ratio(step - 1 - start - cut, step)), 0.0)


def _require_whole(dim: Dim) -> None:
    if any(isinstance(factor, Mark) for factor in dim):
        raise WHOLE


def _resized(layout: Layout, dim: int, shape: tuple[int, ...]) -> Layout:
    _require_whole(layout.dims[dim])
    return layout.with_dims([(shape[n],) if n == dim else kept for n, kept in enumerate(layout.dims)])


def _emptied(facts: Facts, dim: int) -> Facts:
    layout = facts.layout.with_dims([() if n == dim else kept for n, kept in enumerate(facts.layout.dims)])
    return Facts(layout, facts.dtype, facts.timing)


def _write_channel(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, 0] = x[:, 1] * 2
    y[:, 1:] = x[:, :1]
    return y


def _write_rows(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, :, 1:3] = x[:, :, :, :2].relu()
    return y

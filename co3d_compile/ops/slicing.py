"""Parts of a tensor: slices, splits, selections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from sys import maxsize
from typing import Any

import torch
import torch.nn.functional as F

from co3d_compile.clock.periodic import affine, floor_ratio
from co3d_compile.clock.timing import IndexMap
from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.flow import Flow, alone, collapsed, reindexed
from co3d_compile.ops.operation import Block, Call, Facts, Operation, Refused, Sample, canonical_dim
from co3d_compile.ops.points import picked

OPEN_END = maxsize
"""What torch writes for the end of a slice that has none."""

WHOLE = Refused(
    "it cuts through time or the batch where they are folded with another axis", "keep time as an axis of its own"
)


class FramesByPlace(Refused):
    """Frames that are taken by their places in the clip, not as a slice of it.

    Attributes:
        dim: the dimension of time.
        places: counted from the front.
        even: ``range(o, length, s)``, of which each is less than a step from the place that it stands for; None where
            there is none of as many.
    """

    def __init__(self, dim: int, places: Sequence[int], length: int) -> None:
        self.dim = dim
        self.places = tuple(places)
        self.even = _even_places(places, length)
        super().__init__(*_why_no_slice(places, length, self.even))


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
        return {**arguments, "start": 0, "end": OPEN_END}

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("from the third frame", lambda x: x[:, :, 2:]),
            Sample("every third frame", lambda x: x[:, :, 1::3]),
            Sample("without the last two", lambda x: x[:, :, :-2]),
            Sample("every other, without the last", lambda x: x[:, :, 1:-1:2]),
            Sample("neighbours apart", lambda x: x[:, :, 1:] - x[:, :, :-1]),
            Sample("chomped", lambda x: F.pad(x, (0, 0, 0, 0, 2, 2))[:, :, :-2]),
            Sample("of channels and space", lambda x: x[:, 1:, :, ::2, :-1]),
            Sample("nothing", lambda x: x[:, :, 8:] + 1, refusal="no frame of the clip's 8 is left"),
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
        require_whole(layout.dims[dim])
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
            require_whole(layout.dims[dim])
            return alone(*(layout.with_dims([*layout.dims[:dim], *layout.dims[dim + 1 :]]) for _ in call.shapes))
        return alone(*(_resized(layout, dim, shape) for shape in call.shapes))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("chunks of channels", lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
            Sample("uneven parts", lambda x: torch.split(x, [1, 3], 3)),
            Sample("equal parts", lambda x: torch.split(x, 2, 4)),
            Sample("channels taken apart", lambda x: x.unbind(1)),
            Sample("of time", lambda x: x.chunk(2, 2), refusal="takes frames by their place in the clip"),
            Sample("of frames", lambda x: x.transpose(1, 2).flatten(0, 1).chunk(2), refusal="it cuts through time"),
        )


class IndexSelect(Operation):
    """Constant indices. Of time: what is no slice (assembled before) has no meaning in a stream."""

    targets = ("aten.index_select.default", "aten.index.Tensor")

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        if call.target == "aten.index.Tensor" and not _is_list(call["indices"]):
            return alone(picked(layout, call["indices"]))
        dim, index = _indexed(call)
        if index.streams:
            raise Refused("the indices depend on the video", "indices that are constant")
        if layout.dims[dim] == (Mark.TIME,):
            raise _no_slice(dim, index, layout.time)
        return alone(_resized(layout, dim, call.shapes[0]))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("channels", lambda x: x.index_select(1, torch.tensor([1, 0, 1]))),
            Sample("channels in brackets", lambda x: x[:, [1, 1, 0]]),
            Sample("frames", lambda x: x.index_select(2, torch.tensor([1, 0])), refusal="takes frames 1, 0 of 8"),
            Sample(
                "frames spread over the clip",
                lambda x: x[:, :, torch.linspace(0, 31, 8).long()],
                (1, 2, 32, 4, 5),
                refusal="0, 4, 8, 13, 17, 22, 26, 31 of 32: from 8 to 13 it is 5 frames, from 0 to 4 it is 4",
            ),
            Sample(
                "points of time and space",
                lambda x: x[:, :, [0, 1], [1, 2]],
                refusal="several dimensions at once",
            ),
            Sample("points of space", lambda x: x[..., [0, 1, 3], [1, 2, 0]]),
            Sample("points of space and channels, apart", lambda x: x[:, [0, 1], :, [1, 2]]),
            Sample("patches", lambda x: x[..., torch.tensor([[0, 1], [2, 3]])[:, :, None], [1, 2]]),
            Sample("channels in a table", lambda x: x[:, [[0, 1], [1, 0]]]),
            Sample("by value", lambda x: x[:, x[0, :, 0, 0, 0].argsort()], refusal="the indices depend on the video"),
        )


def _indexed(call: Call) -> tuple[int, Facts]:
    """The dimension that is indexed, and its indices."""
    if call.target == "aten.index_select.default":
        return canonical_dim(call["dim"], call["self"].layout.rank), call["index"]
    return next((dim, index) for dim, index in enumerate(call["indices"]) if index is not None)


def _is_list(indices: Sequence[Facts | None]) -> bool:
    """One dimension is indexed, by a list."""
    used = [index for index in indices if index is not None]
    return len(used) == 1 and used[0].layout.rank == 1


def _no_slice(dim: int, index: Facts, length: int) -> Refused:
    if index.known is None:
        return Refused("it takes frames by indices that are not known", "indices that are constant")
    places = [int(place) % length for place in index.known.tolist()]
    if len(places) == 1:
        return Refused(f"it takes frame {places[0]} of {length}, by its place in the clip", "x.select, of every window")
    return FramesByPlace(dim, places, length)


def _why_no_slice(places: Sequence[int], length: int, even: range | None) -> tuple[str, str]:
    taken = f"it takes frames {', '.join(map(str, places))} of {length}"
    steps = [late - early for early, late in pairwise(places)]
    odd = next((n for n, step in enumerate(steps) if step != steps[0]), None)
    if odd is None:
        return f"{taken}, by their place in the clip", "a slice that goes on to the end of the clip"
    step = even.step if even is not None else max(1, round(length / len(places)))
    return (
        f"{taken}: from {places[odd]} to {places[odd + 1]} it is {steps[odd]} frames, "
        f"from {places[0]} to {places[1]} it is {steps[0]}",
        f"x[:, :, ::{step}], or another uniform step" + ("" if even is None else '; policy "uniform" takes it so'),
    )


def _even_places(places: Sequence[int], length: int) -> range | None:
    """Of all ranges from the first place to the clip's end with as many entries, the one that is nearest."""
    near = [
        even
        for step in range(1, length)
        if len(even := range(places[0], length, step)) == len(places)
        and all(abs(one - other) < step for one, other in zip(even, places, strict=True))
    ]
    return min(near, key=lambda even: sum(abs(a - b) for a, b in zip(even, places, strict=True)), default=None)


def _is_whole(call: Call) -> bool:
    return (call["start"] or 0) == 0 and call["step"] == 1 and call["end"] in (None, OPEN_END)


def _time_slice(call: Call, result: Layout) -> Flow:
    start, step, end = call["start"] or 0, call["step"], call["end"]
    if result.time == 0:
        raise Refused(f"no frame of the clip's {call['self'].layout.time} is left", "a longer clip")
    if start < 0 or (end is not None and 0 <= end < call["self"].layout.time):
        raise Refused(
            f"the slice {start}:{end}:{step} of time takes frames by their place in the clip",
            "count the start of the slice from the front and its end from the back",
        )
    cut = -end if end is not None and end < 0 else 0
    index = affine(step, start)
    return reindexed(result, IndexMap(index, index, floor_ratio(step - 1 - start - cut, step)), 0.0)


def require_whole(dim: Dim) -> None:
    if any(isinstance(factor, Mark) for factor in dim):
        raise WHOLE


def _resized(layout: Layout, dim: int, shape: tuple[int, ...]) -> Layout:
    require_whole(layout.dims[dim])
    return layout.with_dims([(shape[n],) if n == dim else kept for n, kept in enumerate(layout.dims)])

"""Operations that only change the shape: views, permutations, added and dropped dimensions, expansion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from co3d_compile.layout import Dim, Layout, Mark, SplitError, Spread
from co3d_compile.ops.flow import Flow, alone, collapsed, gathered, repeated
from co3d_compile.ops.operation import Block, Call, Operation, Refused, Sample, canonical_dim, canonical_dims


class View(Operation):
    """Row-major regrouping; the layout follows the factors through it."""

    targets = ("aten.reshape.default",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        try:
            return alone(layout.regroup(call.shapes[0]))
        except SplitError as split:
            return self._cut(layout, call.shapes[0], split)

    def _cut(self, layout: Layout, shape: tuple[int, ...], split: SplitError) -> Flow:
        """Time as ``(T/r, r)``: every r elements become one, and r an axis like any other."""
        try:
            if split.pieces == 1:
                raise split
            return gathered(layout.paired(split.pieces).regroup(shape), split.pieces)
        except SplitError as cut:
            raise Refused(str(cut), "keep time as a dimension, or folded whole with the batch") from cut

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        return {**arguments, "shape": list(block.layouts[0].running_shape(block.elements, block.batch))}

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("time in the batch", lambda x: x.transpose(1, 2).reshape(-1, 2, 4, 5).relu()),
            Sample("time with the batch outside", lambda x: x.permute(2, 0, 1, 3, 4).flatten(3)),
            Sample("there and back", _folded_and_back),
            Sample("channel shuffle", _shuffled, clip=(1, 4, 8, 4, 5)),
            Sample("lines of pixels", lambda x: x.permute(0, 3, 4, 1, 2).flatten(0, 2).exp()),
            Sample("space flattened", lambda x: x.view(*x.shape[:3], 20)),
            Sample(
                "channels shuffled",
                lambda x: x.view(1, 2, 2, -1, 4, 5).transpose(1, 2).reshape(1, 4, -1, 4, 5),
                (1, 4, 8, 4, 5),
            ),
            Sample("pairs of frames", lambda x: x.reshape(*x.shape[:2], -1, 2, 4, 5), multiple=2),
            Sample("pairs of frames in channels", _space_of_pairs, multiple=2),
            Sample("pairs of frames, and back", lambda x: _time_of_pairs(_space_of_pairs(x) * 2), multiple=2),
            Sample(
                "pairs of folded frames", lambda x: _pairs(x.transpose(1, 2).flatten(0, 1), len(x)).exp(), multiple=2
            ),
            Sample(
                "fifths of time", lambda x: x.reshape(1, 2, 5, -1), refusal="time of size 8 is cut into pieces of 5"
            ),
        )


class BurstView(Operation):
    """A dimension of time with something folded into it, ``T * r``, taken for time at ``r`` times the rate.

    ``passes/bursts.py`` puts it where an operation works along such a dimension; no model has it.
    """

    targets = ("aten.view_copy.default",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        if layout.burst == 1 or layout.shape != call.shapes[0]:
            raise Refused("it copies a view", "reshape")
        return repeated(layout.unfolded(), layout.burst)

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        return {**arguments, "size": list(block.reads.running_shape(block.width, block.batch))}

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("pooled in fours", lambda x: F.avg_pool3d(_time_of_pairs(x), (4, 1, 1))),
            Sample("beside the frames before", lambda x: _time_of_pairs(_space_of_pairs(x.relu())) + x, multiple=2),
            Sample("lines of pixels", lambda x: F.max_pool1d(x.flatten(2), 3, 2)),
            Sample(
                "beside two for each", lambda x: _time_of_pairs(x.repeat(1, 2, 1, 1, 1)) - x.repeat_interleave(2, 2)
            ),
            Sample("a copy of a view", lambda x: torch.view_copy(x, x.shape), refusal="it copies a view"),
        )


class Permute(Operation):
    targets = ("aten.permute.default",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        return alone(layout.with_dims([layout.dims[dim] for dim in canonical_dims(call["dims"], layout.rank)]))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("time before channels", lambda x: x.permute(0, 2, 1, 3, 4)),
            Sample("channels last", lambda x: x.permute(0, 2, 3, -1, 1).exp()),
        )


class Transpose(Operation):
    targets = ("aten.transpose.int", "aten.t.default", "aten.movedim.int")

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        dims = list(layout.dims)
        if layout.rank < 2:
            return alone(layout)
        one = canonical_dim(call.arguments.get("dim0", call.arguments.get("source", 0)), layout.rank)
        other = canonical_dim(call.arguments.get("dim1", call.arguments.get("destination", 1)), layout.rank)
        if call.target == "aten.movedim.int":
            dims.insert(other, dims.pop(one))
        else:
            dims[one], dims[other] = dims[other], dims[one]
        return alone(layout.with_dims(dims))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("time last", lambda x: x.transpose(2, -1)),
            Sample("moved", lambda x: x.movedim(2, 4)),
        )


class Squeeze(Operation):
    targets = ("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims")

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        dims = canonical_dims(call.arguments.get("dim"), layout.rank)
        dropped = {dim for dim in dims if layout.shape[dim] == 1}
        kept = layout.with_dims([dim for place, dim in enumerate(layout.dims) if place not in dropped])
        if any(Mark.TIME in layout.dims[dim] for dim in dropped):
            return collapsed(kept, width=1, still=True)
        return alone(kept)

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        # by shape: a dimension of size 1 at run time may be time or the batch, which the clip did not drop
        return arguments["self"].reshape(block.layouts[0].running_shape(block.elements, block.batch))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("a channel", lambda x: x.mean(1, keepdim=True).squeeze(1)),
            Sample("several", lambda x: x.mean((3, 4), keepdim=True).squeeze((3, 4))),
            Sample("all of size 1", lambda x: x.mean((1, 3), keepdim=True).squeeze(), (2, 2, 8, 4, 5)),
        )


class Unsqueeze(Operation):
    targets = ("aten.unsqueeze.default",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        place = call["dim"] % (layout.rank + 1)
        return alone(layout.with_dims([*layout.dims[:place], (), *layout.dims[place:]]))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("before time", lambda x: x.unsqueeze(2)),
            Sample("last", lambda x: x.unsqueeze(-1) * 2),
        )


class Expand(Operation):
    """Expanded dimensions stay at size 1 and broadcast, so that a value expanded over the clip fits one frame."""

    targets = ("aten.expand.default",)
    spreads = True

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        shape = call.shapes[0]
        padded: list[Dim] = [()] * (len(shape) - layout.rank) + list(layout.dims)
        have = layout.with_dims(padded).shape
        spread = [dim if have[n] == shape[n] else (Spread(shape[n]),) for n, dim in enumerate(padded)]
        return alone(layout.with_dims(spread))

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        return {**arguments, "size": list(block.layouts[0].running_shape(block.elements, block.batch))}

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("space", lambda x: x.mean((3, 4), keepdim=True).expand(-1, -1, -1, 4, 5) + x),
            Sample("as an output", lambda x: x.mean(3, keepdim=True).expand(-1, -1, -1, 3, -1)),
            Sample("a new axis", lambda x: x.expand(3, *x.shape)[1] + x),
        )


class Repeat(Operation):
    targets = ("aten.repeat.default",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        repeats = call["repeats"]
        padded: list[Dim] = [()] * (len(repeats) - layout.rank) + list(layout.dims)
        marked = [n for n, dim in enumerate(padded) if repeats[n] > 1 and any(isinstance(f, Mark) for f in dim)]
        if marked:
            raise Refused("time or the batch is repeated", "repeat another dimension")
        return alone(layout.with_dims([(count, *dim) for count, dim in zip(repeats, padded, strict=True)]))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("channels", lambda x: x.repeat(1, 3, 1, 1, 1)),
            Sample("over time", lambda x: x.repeat(1, 1, 2, 1, 1), refusal="time or the batch is repeated"),
        )


def _space_of_pairs(x: Tensor) -> Tensor:
    """Two frames become the channels of one."""
    pairs: Tensor = torch.unflatten(x, 2, (-1, 2)).movedim(3, 1).flatten(1, 2)
    return pairs


def _pairs(frames: Tensor, batch: int) -> Tensor:
    return frames.reshape(batch * (len(frames) // batch // 2), 2 * frames.shape[1], *frames.shape[2:])


def _time_of_pairs(x: Tensor) -> Tensor:
    """Half of the channels become a second frame."""
    frames: Tensor = torch.unflatten(x, 1, (2, -1)).movedim(1, 3).flatten(2, 3)
    return frames


def _folded_and_back(x: Tensor) -> Tensor:
    frames = x.transpose(1, 2).flatten(0, 1).exp()
    return frames.reshape(*x.transpose(1, 2).shape).transpose(1, 2)


def _shuffled(x: Tensor) -> Tensor:
    n, c, *rest = x.shape
    return x.view(n, 2, c // 2, *rest).transpose(1, 2).reshape(x.shape)

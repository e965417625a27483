"""Several tensors side by side: cat and stack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from co3d_compile.clock.timing import pad_map
from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.constants import single_value
from co3d_compile.ops.flow import Absent, Flow, Taps, Way, alone
from co3d_compile.ops.operation import Block, Call, Facts, Operation, Refused, Sample, canonical_dim


class Cat(Operation):
    targets = ("aten.cat.default",)
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        operands: list[Facts] = list(call["tensors"])
        dim = canonical_dim(call["dim"], len(call.shapes[0]))
        marks = {factor for facts in operands for factor in facts.layout.dims[dim] if isinstance(factor, Mark)}
        if marks == {Mark.TIME}:
            return _over_time(call, operands, dim)
        if marks:
            raise Refused("tensors are joined along the batch", "join them along channels")
        besides = joined([Facts(_with_dim(f.layout, dim, ()), f.dtype, f.timing) for f in operands], call.sizes)
        return alone(_with_dim(besides, dim, (call.shapes[0][dim],)))

    def whole_dims(self, arguments: Mapping[str, Any], rank: int) -> tuple[int, ...]:
        return (canonical_dim(arguments["dim"], rank),)

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        dim = canonical_dim(arguments["dim"], block.layouts[0].rank)
        shape = block.layouts[0].running_shape(block.elements, block.batch)
        parts = arguments["tensors"]
        if block.layouts[0].dims[dim] == (Mark.TIME,):
            parts = [_stream_or_constant(parts, block.tensors, dim).expand(shape)]
        else:
            parts = [_grown(part, shape, dim) for part in parts]
        return super().run({**arguments, "tensors": parts}, block)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("channels", lambda x: torch.cat([x, x.relu(), x * 2], 1)),
            Sample("at other depths", lambda x: torch.cat([F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0)), x], 1)),
            Sample("with zeros", lambda x: torch.cat([x, torch.zeros_like(x[:, :1])], 1)),
            Sample(
                "between constants",
                lambda x: torch.cat([x.new_zeros(len(x), 3, *x.shape[2:]), x, torch.ones_like(x)], 1),
            ),
            Sample(
                "every frame with every other",
                lambda x: _pairs(x[..., :1, :1]),
                refusal="time lies in different dimensions",
            ),
            Sample("a learned frame before", _framed(1, 0), refusal="of a learned one, or one of several values"),
            Sample("a learned frame after", _framed(0, 1), refusal="of a learned one, or one of several values"),
            Sample("over time", lambda x: torch.cat([x, x], 2), refusal="one stream begins where another ends"),
            Sample("over the batch", lambda x: torch.cat([x, x], 0), refusal="tensors are joined along the batch"),
            Sample(
                "what differs from frame to frame",
                lambda x: torch.cat([x, torch.arange(17.0).reshape(1, 1, -1, 1, 1).expand(x.shape[0], 2, -1, 4, 5)], 2),
                refusal="17 frames of a learned one",
            ),
        )


def _over_time(call: Call, operands: list[Facts], dim: int) -> Flow:
    """A constant for so many frames before the first element, or after the last."""
    places = [place for place, facts in enumerate(operands) if facts.streams]
    if len(places) > 1:
        raise Refused(
            f"{len(places)} tensors are joined along time: one stream begins where another ends, and none ends",
            "join them along channels, or pass the parts of one tensor in order",
        )
    if len(operands) > 2:
        raise Refused(f"{len(operands) - 1} constants are joined to the frames", "join one at a time")
    constant = operands[1 - places[0]]
    count = constant.layout.shape[dim]
    if single_value(constant) is None:
        # a class token, say: were it taken for padding, only the first window would hold it
        raise Refused(
            f"{count} frames of a learned one, or one of several values, are joined to those of each clip",
            "pad with one number, or join them behind what is to be streamed",
        )
    layout = joined([Facts(_with_dim(f.layout, dim, ()), f.dtype, f.timing) for f in operands], call.sizes)
    layout = _with_dim(layout, dim, (Mark.TIME,)).with_time(call.shapes[0][dim])
    index = pad_map(count, 0) if places[0] else pad_map(0, count)
    return Flow(Way.REINDEX, (layout,), Taps(index, fill=Absent.NOTHING))


def _stream_or_constant(parts: Sequence[Tensor | None], layouts: Sequence[Layout | None], dim: int) -> Tensor:
    """The stream's element, or where it has none, the constant's."""
    place = next(n for n, layout in enumerate(layouts) if layout is not None and layout.time_dim is not None)
    stream, constant = parts[place], parts[1 - place]
    if stream is not None:
        return stream
    assert constant is not None
    return constant.narrow(dim, 0, 1)


class Stack(Operation):
    targets = ("aten.stack.default",)
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        rank = len(call.shapes[0])
        dim = canonical_dim(call["dim"], rank)
        layout = joined(list(call["tensors"]), call.sizes)
        return alone(layout.with_dims([*layout.dims[:dim], (call.shapes[0][dim],), *layout.dims[dim:]]))

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        dim = canonical_dim(arguments["dim"], block.layouts[0].rank)
        shape = block.layouts[0].running_shape(block.elements, block.batch)
        part = shape[:dim] + shape[dim + 1 :]
        return super().run({**arguments, "tensors": [tensor.expand(part) for tensor in arguments["tensors"]]}, block)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("a new axis", lambda x: torch.stack([x, x.relu()], 1)),
            Sample("last, at other depths", lambda x: torch.stack([x, F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0))], -1)),
        )


def _with_dim(layout: Layout, place: int, dim: Dim) -> Layout:
    return layout.with_dims([dim if n == place else kept for n, kept in enumerate(layout.dims)])


def _grown(part: Tensor, shape: tuple[int, ...], dim: int) -> Tensor:
    sizes = [part.shape[n] if n == dim else size for n, size in enumerate(shape)]
    return part if list(part.shape) == sizes else part.expand(sizes)


def _framed(before: int, after: int) -> Callable[[Tensor], Tensor]:
    frame = nn.Parameter(torch.randn(1, 2, 1, 4, 5))
    return lambda x: torch.cat([_frames(frame, x)] * before + [x] + [_frames(frame, x)] * after, 2)


def _frames(frame: Tensor, x: Tensor) -> Tensor:
    return frame.expand(x.shape[0], -1, -1, -1, -1)


def _pairs(x: Tensor) -> Tensor:
    rows, columns = x.repeat(1, 1, 1, 8, 1), x.transpose(2, 3).expand(-1, -1, 8, -1, -1)
    return torch.cat([rows, columns], 1)

"""Padding: by a constant along any axis, by copies of the content along axes other than time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import nn

from co3d_compile.clock.timing import pad_map
from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.flow import Flow, alone, reindexed
from co3d_compile.ops.operation import Block, Call, Operation, Refused, Sample


class Pad(Operation):
    """Over time: new elements before and after; negative padding cuts elements off."""

    targets = ("aten.constant_pad_nd.default",)

    def flow(self, call: Call) -> Flow:
        layout, pads = padded_layout(call)
        before, after = _time_pads(call["self"].layout, pads)
        if (before, after) == (0, 0):
            return alone(layout)
        return reindexed(layout, pad_map(before, after), float(call["value"]))

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        dim = block.reads.time_dim
        if dim is None:
            return arguments
        pad = list(arguments["pad"])
        place = 2 * (block.reads.rank - 1 - dim)
        pad[place : place + 2] = [0] * len(pad[place : place + 2])
        return {**arguments, "pad": pad}

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("both ends", lambda x: F.pad(x, (0, 0, 0, 0, 2, 1))),
            Sample("a value", lambda x: F.pad(x, (1, 0, 0, 0, 1, 0), value=-2.0)),
            Sample("cut at the start", lambda x: F.pad(x, (0, 0, 0, 0, -2, 0))),
            Sample("cut at the end", lambda x: F.pad(x, (0, 0, 0, 0, 1, -2))),
            Sample("shifted", lambda x: F.pad(x, (0, 0, 0, 0, 1, -1)) + F.pad(x, (0, 0, 0, 0, -1, 1))),
            Sample("a module", nn.ConstantPad3d((1, 1, 0, 0, 1, 2), 0.5)),
            Sample("channels", lambda x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))),
            Sample(
                "time in the batch",
                lambda x: F.pad(x.flatten(0, 2), (0, 0, 0, 0, 1, 1)),
                refusal="it pads an axis into which",
            ),
        )


class PadByContent(Operation):
    """Reflection, replication and circular padding."""

    targets = (
        "aten.pad.default",
        *(f"aten.{kind}_pad{n}d.default" for kind in ("reflection", "replication") for n in (1, 2, 3)),
    )

    def flow(self, call: Call) -> Flow:
        layout, pads = padded_layout(call)
        if _time_pads(call["self"].layout, pads) != (0, 0):
            raise Refused(
                "time is padded with copies of the clip's own frames",
                "pad time with a constant, or leave it unpadded",
            )
        return alone(layout)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("space reflected", lambda x: F.pad(x.flatten(0, 1), (1, 1, 1, 1), mode="reflect")),
            Sample("space repeated", nn.ReplicationPad3d((1, 1, 1, 1, 0, 0))),
            Sample("time repeated", nn.ReplicationPad3d((0, 0, 0, 0, 1, 1)), refusal="time is padded with copies"),
        )


def padded_layout(call: Call) -> tuple[Layout, list[tuple[int, int]]]:
    """The layout of the output, and (before, after) for each dimension."""
    layout: Layout = call["self"].layout
    given: Sequence[int] = call.arguments.get("pad", call.arguments.get("padding", ()))
    pairs = [(given[n], given[n + 1]) for n in range(0, len(given), 2)]
    pads = [(0, 0)] * (layout.rank - len(pairs)) + pairs[::-1]
    time = layout.time
    dims: list[Dim] = []
    for dim, pad, size in zip(layout.dims, pads, call.shapes[0], strict=True):
        if pad == (0, 0):
            dims.append(dim)
        elif dim == (Mark.TIME,):
            time = size
            dims.append(dim)
        elif any(isinstance(factor, Mark) for factor in dim):
            raise Refused("it pads an axis into which time or the batch is folded", "keep time as an axis of its own")
        else:
            dims.append((size,))
    return Layout(tuple(dims), time, layout.batch), pads


def _time_pads(layout: Layout, pads: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return (0, 0) if layout.time_dim is None else pads[layout.time_dim]

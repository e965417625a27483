"""Padding: by a constant, or by copies of the content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import nn

from co3d_compile.clock.timing import pad_map
from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.flow import Absent, Flow, Taps, Way, alone, reindexed
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
        return {**arguments, "pad": _without_time(arguments["pad"], block)}

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
    """Reflection and replication; over time the nearest element, or its mirror image, stands for a missing one.

    Circular padding would begin with the end of the video.
    """

    targets = (
        "aten.pad.default",
        *(f"aten.{kind}_pad{n}d.default" for kind in ("reflection", "replication") for n in (1, 2, 3)),
    )

    def flow(self, call: Call) -> Flow:
        layout, pads = padded_layout(call)
        before, after = _time_pads(call["self"].layout, pads)
        if (before, after) == (0, 0):
            return alone(layout)
        beyond = max(0, after)
        match _mode(call):
            case "replicate":
                taps = Taps(pad_map(before, after), fill=Absent.EDGE, awaits=0, reach=beyond)
            case "reflect":
                taps = Taps(pad_map(before, after), fill=Absent.REFLECTION, awaits=max(0, before), reach=2 * beyond)
            case mode:
                raise Refused(
                    f"{mode} padding of time begins with the last frames of the clip, which a stream has not seen yet",
                    "pad time with a constant, or with copies of the first and last frame (replicate)",
                )
        return Flow(Way.REINDEX, (layout,), taps)

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        name = "pad" if "pad" in arguments else "padding"
        return {**arguments, name: _without_time(arguments[name], block)}

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("space reflected", lambda x: F.pad(x.flatten(0, 1), (1, 1, 1, 1), mode="reflect")),
            Sample("space repeated", nn.ReplicationPad3d((1, 1, 1, 1, 0, 0))),
            Sample("time repeated", nn.ReplicationPad3d((0, 0, 0, 0, 2, 1))),
            Sample("time repeated before", lambda x: F.pad(x, (0, 0, 0, 0, 2, 0), mode="replicate")),
            Sample("time repeated after", lambda x: F.pad(x, (0, 0, 0, 0, 0, 3), mode="replicate")),
            Sample("shifted behind a repeated frame", lambda x: F.pad(x, (0, 0, 0, 0, 1, -1), mode="replicate")),
            Sample("shifted before a repeated frame", lambda x: F.pad(x, (0, 0, 0, 0, -2, 1), mode="replicate")),
            Sample("lines of pixels repeated", lambda x: F.pad(x.flatten(3), (0, 0, 1, 2), mode="replicate")),
            Sample("time reflected", lambda x: F.pad(x, (0, 0, 0, 0, 2, 1), mode="reflect")),
            Sample("time reflected after", nn.ReflectionPad3d((1, 1, 0, 0, 0, 2))),
            Sample(
                "a convolution that repeats",
                nn.Conv3d(2, 3, 3, padding=(2, 1, 1), stride=(2, 1, 1), padding_mode="replicate"),
            ),
            Sample("a convolution that reflects", nn.Conv3d(2, 3, 3, padding=1, padding_mode="reflect")),
            Sample(
                "a convolution around the clip",
                nn.Conv3d(2, 3, 3, padding=1, padding_mode="circular"),
                refusal="circular padding of time begins with the last frames of the clip",
            ),
        )


def _mode(call: Call) -> str:
    if call.target == "aten.pad.default":
        return str(call["mode"])
    return "replicate" if "replication" in call.target else "reflect"


def _without_time(pad: Sequence[int], block: Block) -> list[int]:
    """The padding of the other axes: that of time has been done by reading other elements."""
    dim, left = block.reads.time_dim, list(pad)
    if dim is not None:
        place = 2 * (block.reads.rank - 1 - dim)
        left[place : place + 2] = [0] * len(left[place : place + 2])
    return left


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

"""Interpolation: of space, and of time by whole factors; shuffles of space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from co3d_compile.clock.periodic import affine, floor_ratio
from co3d_compile.clock.timing import IndexMap, linear_map
from co3d_compile.layout import Dim, Layout, Mark, Spread
from co3d_compile.ops.flow import Absent, Flow, Taps, Way, alone, reindexed, repeated
from co3d_compile.ops.operation import Block, Call, Operation, Refused, Sample, canonical_dim
from co3d_compile.ops.spatial import spatial_layout, time_axis

NEAREST = tuple(f"{kind}{n}d" for kind in ("upsample_nearest", "_upsample_nearest_exact") for n in (1, 2, 3))
LINEAR = ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
CUBIC = ("upsample_bicubic2d",)


class Upsample(Operation):
    """Interpolation. What has size 1, and so is the same everywhere, stays at size 1 and broadcasts."""

    targets = tuple(f"aten.{kind}.{variant}" for kind in (*NEAREST, *LINEAR, *CUBIC) for variant in ("default", "vec"))

    def flow(self, call: Call) -> Flow:
        layout: Layout = call[_operand(call.arguments)].layout
        count = _rank(call.target)
        axis = time_axis(layout, count)
        result = spatial_layout(layout, count, call.shapes[0])
        result = _spread(layout, result)
        change = None if axis is None else _change(call, layout, result.time)
        return alone(result) if change is None else change.flow(result)

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        """Time is resampled up by the operator, and down before it."""
        up, down = 1, 1
        if time_axis(block.reads, _rank(block.target)) is not None:
            up, down = _factors(block.target, arguments, block.reads, block.layouts[0].time)
        if down > 1:
            name = _operand(arguments)
            arguments = {**arguments, name: _thinned(arguments[name], block, down)}
        return super().run(_sized(arguments, block, up, down), block)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("nearest", nn.Upsample(scale_factor=(1, 2, 2))),
            Sample("linear", nn.Upsample(scale_factor=(1, 2, 3), mode="trilinear")),
            Sample("frames in the batch", lambda x: F.interpolate(x.flatten(0, 1), scale_factor=2.0), (1, 1, 8, 4, 5)),
            Sample("bilinear", lambda x: F.interpolate(x[:, 0], size=(8, 9), mode="bilinear"), (1, 2, 8, 4, 5)),
            Sample("corners of space", nn.Upsample(scale_factor=(1, 2, 2), mode="trilinear", align_corners=True)),
            Sample("time doubled", nn.Upsample(scale_factor=2)),
            Sample("time tripled, exactly nearest", nn.Upsample(scale_factor=(3, 1, 1.5), mode="nearest-exact")),
            Sample("time doubled to a size", lambda x: F.interpolate(x, (2 * x.shape[2], 4, 5))),
            Sample("time doubled, linear", nn.Upsample(scale_factor=2, mode="trilinear"), poison=False),
            Sample("time tripled, linear", nn.Upsample(scale_factor=(3, 1, 2), mode="trilinear"), poison=False),
            Sample(
                "time quadrupled to a size, linear",
                lambda x: F.interpolate(x, (4 * x.shape[2], 4, 3), mode="trilinear"),
                poison=False,
            ),
            Sample("lines of pixels, linear", nn.Upsample(scale_factor=2, mode="linear"), (3, 2, 8), poison=False),
            Sample("lines of pixels", nn.Upsample(scale_factor=2), (3, 2, 8)),
            Sample(
                "a plane of time and pixels",
                nn.Upsample(scale_factor=(2, 1), mode="bilinear"),
                (1, 2, 8, 6),
                poison=False,
            ),
            Sample("time halved", nn.Upsample(scale_factor=(0.5, 2, 2))),
            Sample("every third, exactly nearest", nn.Upsample(scale_factor=(1 / 3, 1, 1), mode="nearest-exact")),
            Sample("time halved, linear", nn.Upsample(scale_factor=(0.5, 1, 1), mode="trilinear")),
            Sample("a third, linear", nn.Upsample(scale_factor=(1 / 3, 1, 1), mode="trilinear")),
            Sample("a quarter, linear", nn.Upsample(scale_factor=(1 / 4, 1, 1), mode="trilinear")),
            Sample("of the mean over space", lambda x: F.interpolate(x.mean((3, 4), True), (x.shape[2], 4, 5)) + x),
            Sample(
                "corners of time",
                nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True),
                refusal="align_corners puts its 16 elements 0.467 of the clip's 8 apart",
            ),
            Sample("by one and a half", nn.Upsample(scale_factor=1.5), refusal="it resamples time from 8 to 12"),
            Sample("by no whole factor", nn.Upsample(scale_factor=(2.1, 1, 1)), refusal="by a factor of 2.1"),
            Sample("by almost one", nn.Upsample(scale_factor=(1.1, 1, 1)), refusal="by a factor of 1.1"),
            Sample(
                "cubic",
                nn.Upsample(scale_factor=(2, 1), mode="bicubic"),
                (1, 2, 8, 6),
                refusal="a cubic reaches over four elements",
            ),
        )


class RepeatInterleave(Operation):
    """Every entry of a dimension several times in a row."""

    targets = ("aten.repeat_interleave.self_int",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        if call["dim"] is None:
            raise Refused("it repeats the entries of the flattened clip", "give it a dimension")
        dim = canonical_dim(call["dim"], layout.rank)
        if layout.dims[dim] == (Mark.TIME,):
            return repeated(layout.with_time(call.shapes[0][dim]), call["repeats"])
        dims = [(*kept, call["repeats"]) if n == dim else kept for n, kept in enumerate(layout.dims)]
        return alone(layout.with_dims(dims))

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        return {**arguments, "output_size": None}

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("of time", lambda x: x.repeat_interleave(3, 2)),
            Sample("of time, of a told size", lambda x: x.repeat_interleave(2, dim=2, output_size=2 * x.shape[2])),
            Sample("of channels", lambda x: x.repeat_interleave(2, 1)),
            Sample("of frames in the batch", lambda x: x.transpose(1, 2).flatten(0, 1).repeat_interleave(2, 0)),
            Sample("of all", lambda x: x.repeat_interleave(2), refusal="entries of the flattened clip"),
        )


class PixelShuffle(Operation):
    targets = ("aten.pixel_shuffle.default", "aten.pixel_unshuffle.default", "aten.channel_shuffle.default")

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        first = layout.rank - 2 if call.target == "aten.channel_shuffle.default" else layout.rank - 3
        if any(isinstance(factor, Mark) for dim in layout.dims[max(first, 1) :] for factor in dim):
            raise Refused("it moves values between channels and an axis that holds time", "fold time into the batch")
        return alone(
            layout.with_dims([d if n < layout.rank - 3 else (call.shapes[0][n],) for n, d in enumerate(layout.dims)])
        )

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("frames in the batch", lambda x: F.pixel_shuffle(x.transpose(1, 2), 2), (1, 4, 8, 4, 5)),
            Sample("back", lambda x: F.pixel_unshuffle(x.transpose(1, 2), 2), (1, 2, 8, 4, 6)),
        )


@dataclass(frozen=True)
class Change:
    """Time made longer, or shorter, by a whole factor.

    Attributes:
        linear: every element is made of two; else it is one of them.
        read: of every ``down`` elements those that are read, the first and the last.
    """

    up: int
    down: int
    linear: bool
    read: tuple[int, int]

    def flow(self, result: Layout) -> Flow:
        if self.up > 1:
            # beyond the ends the nearest element is taken (torch's align_corners=False)
            taps = Taps(linear_map(self.up), 2, fill=Absent.EDGE, produces=affine(self.up, 0))
            return Flow(Way.WINDOW, (result,), taps) if self.linear else repeated(result, self.up)
        first, last = (affine(self.down, place) for place in self.read)
        index = IndexMap(first, last, floor_ratio(0, self.down))
        if first == last:
            return reindexed(result, index, None)
        return Flow(Way.WINDOW, (result,), Taps(index, 2))


def _change(call: Call, layout: Layout, after: int) -> Change | None:
    """What happens to time; None: nothing.

    Raises:
        Refused: what an element reads depends on its place in the clip.
    """
    before, given = layout.time, _scale(call.target, call.arguments, layout)
    if before == after and given in (None, 1.0):
        return None
    if call.arguments.get("align_corners"):
        apart = (before - 1) / max(1, after - 1)
        raise Refused(
            f"align_corners puts its {after} elements {apart:.3g} of the clip's {before} apart: a longer video's "
            "would stand elsewhere",
            "align_corners=False",
        )
    if call.target.split(".")[1] in CUBIC:
        raise Refused("a cubic reaches over four elements of time", "interpolate time linearly, or space alone")
    up, down = _factors(call.target, call.arguments, layout, after)
    if up == down == 1:
        by = "" if given is None else f", by a factor of {given:g}"
        raise Refused(
            f"it resamples time from {before} to {after} elements{by}: no whole number of one for each of the other",
            "resample time by a whole factor",
        )
    return Change(up, down, call.target.split(".")[1] in LINEAR, _middle(call.target, down))


def _factors(target: str, arguments: Mapping[str, Any], layout: Layout, after: int) -> tuple[int, int]:
    """Elements for each that there was, and elements that become one; both 1 where neither is whole."""
    before, given = layout.time, _scale(target, arguments, layout)
    if given is None:
        whole = after % before == 0 or before % after == 0
        return (max(1, after // before), max(1, before // after)) if whole else (1, 1)
    up, down = max(1, round(given)), max(1, round(1 / given))
    return (up, down) if isclose(given, up / down) else (1, 1)


def _sized(arguments: Mapping[str, Any], block: Block, up: int, down: int) -> Mapping[str, Any]:
    """The sizes and factors for a block, where those of the call are the clip's."""
    sizes, scales = (list(arguments.get(name) or ()) for name in ("output_size", "scale_factors"))
    count = _rank(block.target)
    for axis, dim in enumerate(block.layouts[0].dims[-count:]):
        if dim == (Mark.TIME,):
            size, scale = block.elements if down > 1 else block.width * up, float(up)
        elif any(isinstance(factor, Spread) for factor in dim):
            size, scale = 1, 1.0
        else:
            continue
        sizes[axis : axis + 1] = [size] if sizes else []
        scales[axis : axis + 1] = [scale] if scales else []
    both = {"output_size": sizes or None, "scale_factors": scales or None}
    return {**arguments, **{name: value for name, value in both.items() if name in arguments}}


def _middle(target: str, count: int) -> tuple[int, int]:
    """Of so many elements, the first and the last of those that one is made of."""
    if "nearest" in target and "exact" not in target:
        return 0, 0
    return (count // 2 if "exact" in target else (count - 1) // 2), count // 2


def _scale(target: str, arguments: Mapping[str, Any], layout: Layout) -> float | None:
    """The factor of time as the call has it; None: sizes alone are given."""
    count = _rank(target)
    axis = time_axis(layout, count)
    assert axis is not None
    if arguments.get("scale_factors") is not None:
        return float(arguments["scale_factors"][axis])
    names = ("scales",) if count == 1 else ("scales_d", "scales_h", "scales_w")[-count:]
    found = arguments.get(names[axis])
    return None if found is None else float(found)


def _thinned(x: Tensor, block: Block, down: int) -> Tensor:
    """Of a block that begins with the first element read: the elements that are read, or the means of two."""
    dim = block.reads.time_dim
    assert dim is not None
    places = [slice(None)] * dim
    read = x[(*places, slice(0, None, down))]
    name = block.target.split(".")[1]
    first, last = _middle(block.target, down)
    if name not in LINEAR or first == last:
        return read
    return (read + x[(*places, slice(last - first, None, down))]) / 2


def _spread(layout: Layout, result: Layout) -> Layout:
    """What has size 1 is the same wherever it is resampled to."""
    dims: list[Dim] = [
        (Spread(size),) if had == () and size > 1 else dim
        for had, dim, size in zip(layout.dims, result.dims, result.shape, strict=True)
    ]
    return result.with_dims(dims)


def _operand(arguments: Mapping[str, Any]) -> str:
    return "self" if "self" in arguments else "input"


def _rank(target: str) -> int:
    return int(target.split("d.", maxsplit=1)[0][-1])

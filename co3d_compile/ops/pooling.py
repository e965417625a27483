"""Max and average pools over one, two or three axes, with all their options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.flow import Divisor, Flow, alone, collapsed, windowed
from co3d_compile.ops.operation import Block, Call, Operation, per_spatial
from co3d_compile.ops.spatial import spatial_layout, time_axis


class Pool(Operation):
    """What max and average pools share. A pool that spans the whole clip is a collapse (design.md, section 6)."""

    fill = 0.0

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        count = pool_rank(call.target)
        axis = time_axis(layout, count)
        result = spatial_layout(layout, count, call.shapes[0])
        kernel, stride, padding, dilation = (_per_axis(call.arguments, name, count) for name in GEOMETRY)
        if axis is None or (kernel[axis], stride[axis], padding[axis]) == (1, 1, 0):
            return alone(result)
        if kernel[axis] == layout.time == stride[axis] > 1 and padding[axis] == 0:
            resizable = spans_clip(call.arguments, layout, axis, count)
            return collapsed(result.without(Mark.TIME), width=layout.time, still=True, resizable=resizable)
        flow = windowed(
            result,
            kernel=kernel[axis],
            stride=stride[axis],
            dilation=dilation[axis],
            before=padding[axis],
            after=padding[axis],
            fill=self.fill,
            ceil_mode=call["ceil_mode"],
            divisor=self.divisor(call.arguments),
        )
        return replace(flow, resizable=spans_clip(call.arguments, layout, axis, count))

    def divisor(self, arguments: Mapping[str, Any]) -> Divisor:
        return Divisor.KERNEL

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        count = pool_rank(block.target)
        axis = time_axis(block.reads, count)
        if axis is None:
            return arguments
        padding = _per_axis(arguments, "padding", count)
        stripped = [0 if place == axis else pad for place, pad in enumerate(padding)]
        kernel = list(_per_axis(arguments, "kernel_size", count))
        if spans_clip(arguments, block.reads, axis, count):
            kernel[axis] = block.width - block.elements + 1
        return {**arguments, "kernel_size": kernel, "padding": stripped}


class MaxPool(Pool):
    targets = tuple(f"aten.max_pool{n}d.default" for n in (1, 2, 3))
    # -inf, not 0: a max pool's padding must never win (torch.nn.MaxPool3d)
    fill = -inf


class AveragePool(Pool):
    targets = tuple(f"aten.avg_pool{n}d.default" for n in (1, 2, 3))

    def divisor(self, arguments: Mapping[str, Any]) -> Divisor:
        if arguments.get("divisor_override") is not None:
            return Divisor.KERNEL
        if not arguments["count_include_pad"]:
            return Divisor.VALID
        return Divisor.PADDED if arguments["ceil_mode"] else Divisor.KERNEL


def spans_clip(arguments: Mapping[str, Any], layout: Layout, axis: int, count: int) -> bool:
    """The pool takes all elements of the clip together, so that it takes a window of another width as well."""
    kernel, stride, padding, dilation = (_per_axis(arguments, name, count)[axis] for name in GEOMETRY)
    scaled = arguments.get("divisor_override") is not None
    return kernel == layout.time > 1 and stride in (1, kernel) and (padding, dilation, scaled) == (0, 1, False)


GEOMETRY = ("kernel_size", "stride", "padding", "dilation")


def pool_rank(target: str) -> int:
    """The number of axes in a target's name: ``aten.avg_pool3d.default`` has three."""
    return int(target.split("pool")[1][0])


def _per_axis(arguments: Mapping[str, Any], name: str, count: int) -> tuple[int, ...]:
    given = arguments.get(name, 1)
    return per_spatial(arguments["kernel_size"] if name == "stride" and not given else given, count)

"""Windows laid out side by side: ``x.unfold``, over time or another dimension."""

from __future__ import annotations

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.flow import Flow, alone, windowed
from co3d_compile.ops.operation import Call, Operation, Refused, Sample, canonical_dim


class Unfold(Operation):
    """A window of ``size`` elements becomes a last dimension; over time, one window for each output element."""

    targets = ("aten.unfold.default",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        dim = canonical_dim(call["dimension"], layout.rank)
        size, step, count = call["size"], call["step"], call.shapes[0][dim]
        if layout.dims[dim] == (Mark.TIME,):
            windows = layout.with_time(count).with_dims([*layout.dims, (size,)])
            return windowed(windows, kernel=size, stride=step, dilation=1, before=0, after=0, fill=0.0)
        if any(isinstance(factor, Mark) for factor in layout.dims[dim]):
            raise Refused("time or the batch is folded into what it unfolds", "keep time as an axis of its own")
        return alone(layout.with_dims([*layout.dims[:dim], (count,), *layout.dims[dim + 1 :], (size,)]))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("windows of time", lambda x: x.unfold(2, 5, 2)),
            Sample("medians of windows", lambda x: x.unfold(2, 3, 1).median(-1).values),
            Sample("columns", lambda x: x.unfold(4, 2, 1)),
            Sample(
                "time in the batch", lambda x: x.flatten(0, 2).unfold(0, 2, 2), refusal="time or the batch is folded"
            ),
        )

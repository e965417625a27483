"""What convolutions, pools and resampling share: a batch, channels, and one to three axes they slide over."""

from __future__ import annotations

from collections.abc import Sequence

from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.operation import Refused


def time_axis(layout: Layout, count: int) -> int | None:
    """Which of the last ``count`` axes is time; None if time lies before them.

    Raises:
        Refused: time shares one of those axes with something else.
    """
    dim = layout.time_dim
    if dim is None or dim < layout.rank - count:
        return None
    if layout.dims[dim] != (Mark.TIME,):
        raise Refused(
            "time is folded with space into one axis that this operation slides over",
            "keep time as an axis of its own",
        )
    return dim - (layout.rank - count)


def spatial_layout(layout: Layout, count: int, shape: Sequence[int], *, channels: Dim | None = None) -> Layout:
    """The layout after sliding over the last ``count`` axes: time and what lies before the axes is kept."""
    first = layout.rank - count
    dims: list[Dim] = list(layout.dims[:first])
    if channels is not None:
        dims[-1] = channels
    time = layout.time
    for place in range(first, layout.rank):
        if layout.dims[place] == (Mark.TIME,):
            time = shape[place]
            dims.append((Mark.TIME,))
        elif Mark.BATCH in layout.dims[place]:
            raise Refused("the batch lies in an axis that this operation slides over", "move the batch to the front")
        else:
            dims.append((shape[place],))
    return Layout(tuple(dims), time, layout.batch)

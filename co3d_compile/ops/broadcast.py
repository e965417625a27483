"""How the layouts of operands that broadcast against each other join."""

from __future__ import annotations

from collections.abc import Sequence

from co3d_compile.layout import Dim, Layout, Mark, Spread
from co3d_compile.ops.operation import Facts, Refused


def joined(operands: Sequence[Facts], sizes: tuple[int, int]) -> Layout:
    """The layout of an element-wise result.

    Raises:
        Refused: an operand has its own value at each position of the clip, or time lies differently in two operands.
    """
    rank = max(facts.layout.rank for facts in operands)
    dims = [_joined_dim([_dim(facts, place - rank) for facts in operands]) for place in range(rank)]
    layout = Layout(tuple(dims), *sizes)
    if sum(Mark.TIME in dim for dim in layout.dims) > 1:
        raise _outer()
    return layout


def _outer() -> Refused:
    return Refused(
        "time lies in different dimensions of the operands, so every frame meets every other",
        "an outer product over time needs the whole clip; pool over time before it",
    )


def _dim(facts: Facts, place: int) -> tuple[Dim, int, bool]:
    """Of an operand: what lies there, of which size, and whether the operand has time."""
    layout = facts.layout
    if -place > layout.rank:
        return (), 1, facts.has_time
    return layout.dims[place], layout.shape[place], facts.has_time


def _joined_dim(operands: Sequence[tuple[Dim, int, bool]]) -> Dim:
    dims = [(dim, size) for dim, size, _ in operands]
    marked = [(dim, size) for dim, size in dims if any(isinstance(factor, Mark) for factor in dim)]
    sized = [(dim, size) for dim, size in dims if size > 1 and not _is_spread(dim)]
    if len({_inside_time(dim) for dim, _ in marked if Mark.TIME in dim and not _is_spread(dim)}) > 1:
        raise Refused(
            "time is folded with another axis in one operand and not in the other",
            "keep time as an axis of its own",
        )
    for dim, size, has_time in operands:
        if (dim, size) not in sized:
            continue
        if marked and (dim, size) not in marked and not _same_marks(dim, marked[0][0]):
            if has_time and any(Mark.TIME in one for one, _ in marked):
                raise _outer()
            raise Refused(
                f"an operand of {size} fixed values lies along time or the batch",
                "values that depend on the position in the clip cannot be streamed; use one value for all frames",
            )
    chosen = [dim for dim, _ in marked] or [dim for dim, _ in sized]
    return chosen[0] if chosen else next((dim for dim, _ in dims if dim), ())


def _inside_time(dim: Dim) -> Dim:
    return dim[dim.index(Mark.TIME) + 1 :]


def _is_spread(dim: Dim) -> bool:
    return any(isinstance(factor, Spread) for factor in dim)


def _same_marks(one: Dim, other: Dim) -> bool:
    return [f for f in one if isinstance(f, Mark)] == [f for f in other if isinstance(f, Mark)]

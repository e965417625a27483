"""Where a gate lies: one value per frame along time where that can be followed to the join, else one by one."""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.flow import Flow
from co3d_compile.ops.pointwise import is_pointwise
from co3d_compile.ops.running import TARGETS
from co3d_compile.program.program import call_of, is_getitem, item_of, shapes_of, target_name

IN_PLACE = ("aten.conv", "aten.batch_norm", "aten.linear")


def gate_layouts(node: fx.Node, flow: Flow) -> tuple[Layout, ...]:
    """The layouts of a gate's outputs.

    The clip has size 1 where time was. If every call from here to the join leaves that dimension where it is, each
    element stands there beside the others; a call that drops or moves it works on one element at a time.
    """
    source = next(f for f in call_of(node).streaming if f.has_time).layout
    dim = source.time_dim
    assert dim is not None
    kept = source.time_is_plain and all(
        layout.rank == source.rank and layout.dims[dim] == () for layout in flow.layouts
    )
    if not kept or not all(_leaves(call, dim, source.rank) for call in _calls_to_the_join(node, dim)):
        return flow.layouts
    return tuple(
        Layout((*layout.dims[:dim], (Mark.TIME,), *layout.dims[dim + 1 :]), source.time, source.batch)
        for layout in flow.layouts
    )


def _calls_to_the_join(gate: fx.Node, dim: int) -> Iterator[fx.Node]:
    """What is computed from the gate alone, before it meets a tensor that has time."""
    seen: set[fx.Node] = set()
    pending = list(gate.users)
    while pending:
        call = pending.pop()
        if call in seen or call.op != "call_function" or _is_join(call, dim):
            continue
        seen.add(call)
        yield call
        pending.extend(call.users)


def _is_join(call: fx.Node, dim: int) -> bool:
    (shape, *_) = shapes_of(call)
    return not is_getitem(call) and is_pointwise(target_name(call)) and len(shape) > dim and shape[dim] > 1


def _leaves(call: fx.Node, dim: int, rank: int) -> bool:
    """The call leaves the dimension of size 1 where it is."""
    (shape, *_) = shapes_of(call)
    name = target_name(item_of(call)[0] if is_getitem(call) else call)
    same = len(shape) == rank and shape[dim] == 1
    moved = name.startswith("aten.linear") and dim == rank - 1
    return same and not moved and (name.startswith(IN_PLACE) or name in TARGETS or is_pointwise(name))

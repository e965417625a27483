"""Pool over space before pooling over time: what is kept between ticks is then the small, pooled tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from co3d_compile.ops.flow import Way
from co3d_compile.ops.operation import canonical_dims, per_spatial
from co3d_compile.ops.pooling import pool_rank
from co3d_compile.ops.spatial import time_axis
from co3d_compile.program.program import Program, bound_arguments, facts_of, flow_of, target_name

REDUCTIONS = ("aten.mean.dim", "aten.sum.dim_IntList", "aten.amax.default", "aten.amin.default")


def separate_pools(program: Program) -> Program:
    """Split pools and reductions over time and space into one over space and one over time.

    Law: values change by rounding alone: sums and maxima over a box are those of sums and maxima over its sides,
    and an average's divisor is a product over the axes.
    """
    for node in list(program.calls):
        if flow_of(node).way not in (Way.WINDOW, Way.COLLAPSE):
            continue
        name = target_name(node)
        if program.operations.is_own(name):
            continue
        if name.startswith(("aten.max_pool", "aten.avg_pool")):
            _separate_pool(program.graph, node)
        elif name.startswith(("aten.adaptive_avg_pool", "aten._adaptive_avg_pool")):
            _separate_adaptive(program.graph, node)
        elif name in REDUCTIONS:
            _separate_reduction(program.graph, node)
    return program


def _separate_pool(graph: fx.Graph, node: fx.Node) -> None:
    given = bound_arguments(node)
    count = pool_rank(target_name(node))
    axis = time_axis(facts_of(given["self"]).layout, count)
    kernel = per_spatial(given["kernel_size"], count)
    if axis is None or all(size == 1 for place, size in enumerate(kernel) if place != axis):
        return
    stride = per_spatial(given["stride"], count) if given["stride"] else kernel
    geometry = {"kernel_size": kernel, "stride": stride} | {
        name: per_spatial(given[name], count) for name in ("padding", "dilation") if name in given
    }
    over_space = given | {name: _split(values, axis, name, time=False) for name, values in geometry.items()}
    over_time = given | {name: _split(values, axis, name, time=True) for name, values in geometry.items()}
    if given.get("divisor_override") is not None:
        over_space["divisor_override"] = 1
    over_time["self"] = _inserted(graph, node, over_space)
    _reargued(node, over_time)


def _split(values: tuple[int, ...], axis: int, name: str, *, time: bool) -> list[int]:
    neutral = 0 if name == "padding" else 1
    return [value if (place == axis) is time else neutral for place, value in enumerate(values)]


def _separate_adaptive(graph: fx.Graph, node: fx.Node) -> None:
    given = bound_arguments(node)
    layout = facts_of(given["self"]).layout
    axis = time_axis(layout, pool_rank(target_name(node)))
    sizes = list(given["output_size"])
    first = layout.rank - len(sizes)
    if axis is None or list(layout.shape[first:]) == [layout.time if n == axis else s for n, s in enumerate(sizes)]:
        return
    sizes[axis] = layout.time
    _reargued(node, given | {"self": _inserted(graph, node, given | {"output_size": sizes})})


def _separate_reduction(graph: fx.Graph, node: fx.Node) -> None:
    given = bound_arguments(node)
    layout = facts_of(given["self"]).layout
    besides = [dim for dim in canonical_dims(given["dim"], layout.rank) if dim != layout.time_dim]
    if all(layout.shape[dim] == 1 for dim in besides):
        return
    _reargued(node, given | {"self": _inserted(graph, node, given | {"dim": besides, "keepdim": True})})


def _inserted(graph: fx.Graph, node: fx.Node, arguments: dict[str, Any]) -> fx.Node:
    with graph.inserting_before(node):
        made = graph.call_function(node.target, (), arguments)  # type: ignore[arg-type]
    made.meta = {"path": node.meta["path"], "val": _shape_of_call(node, arguments)}
    return made


def _shape_of_call(node: fx.Node, arguments: dict[str, Any]) -> torch.Tensor:
    values = {name: value.meta["val"] if isinstance(value, fx.Node) else value for name, value in arguments.items()}
    result: torch.Tensor = node.target(**values)  # type: ignore[operator]
    return result


def _reargued(node: fx.Node, arguments: dict[str, Any]) -> None:
    node.args = ()
    node.kwargs = arguments

"""Under the policy ``cumulative``: gates and norms made from all elements since the start of the video."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import fx

from co3d_compile.ops.operation import Refused, canonical_dims, overload
from co3d_compile.passes.loops.frames import described
from co3d_compile.passes.propagation import Gate, raise_refused
from co3d_compile.passes.whole_clips.regions import Region
from co3d_compile.program.program import (
    Program,
    bound_arguments,
    dtypes_of,
    facts_of,
    flow_of,
    is_getitem,
    item_of,
    path_of,
    shapes_of,
    target_name,
)

aten = torch.ops.aten

STATISTICS: Mapping[str, str] = {
    "mean": "mean",
    "sum": "mean",
    "amax": "amax",
    "amin": "amin",
    "max": "amax",
    "min": "amin",
    "logsumexp": "logmeanexp",
    "var": "var",
    "std": "std",
    **{f"{prefix}avg_pool{n}d": "mean" for n in (1, 2, 3) for prefix in ("", "adaptive_", "_adaptive_")},
    **{f"{prefix}max_pool{n}d": "amax" for n in (1, 2, 3) for prefix in ("", "adaptive_")},
}
"""What joins the statistics of frames to that of all of them, by operator."""

ORDERED = ("amax", "amin")
HINT = 'policy "frame", "window" or "exact"'


def carry_gates(program: Program, gates: Mapping[str, Gate]) -> Program:
    """Behind every cumulative gate, join what it gives for each frame to what it gave for all before; facts are known.

    Law: no value changes, on the clip.

    Raises:
        UnsupportedError: gates that cannot be carried on.
    """
    chosen = [node for node in program.calls if node.name in gates and gates[node.name].policy == "cumulative"]
    refused: dict[fx.Node, Refused] = {}
    for node in chosen:
        try:
            _carry(program.graph, node)
        except Refused as one:
            refused[node] = one
    if refused:
        raise_refused(refused)
    program.graph.lint()
    return program


def _carry(graph: fx.Graph, node: fx.Node) -> None:
    name = target_name(node).split(".")[1]
    statistic = STATISTICS.get(name)
    if statistic is None or not flow_of(node).resizable:
        raise Refused(f"it cannot be carried on: {name} of a video does not follow from that of its frames", HINT)
    value = _value_of(node)
    dtype = dtypes_of(value)[0]
    if statistic not in ORDERED and not dtype.is_floating_point:
        raise Refused(f"it cannot be carried on: a mean over the video of {dtype} is rounded", HINT)
    operation = overload(f"co3d_compile.{statistic}_so_far.default")
    with graph.inserting_before(value.next):
        more: tuple[Any, ...] = ()
        if statistic in ("var", "std"):
            more = (_frame_means(graph, node), variance_factor(node, values_per_result(node)))
        running = described(graph.call_function(operation, (value, *more)), path_of(node))
        made = described(graph.call_function(operator.getitem, (running, 0)), path_of(node))
    value.replace_all_uses_with(made, delete_user_cb=lambda user: user is not running)
    node.meta["cumulative"] = True


def _value_of(node: fx.Node) -> fx.Node:
    """The node that is the statistic: of several results, the first."""
    items = [user for user in node.users if is_getitem(user)]
    if not items:
        return node
    if any(item_of(item)[1] for item in items if item.users):
        raise Refused("it cannot be carried on: the places of the extrema are those in a clip", HINT)
    return next(item for item in items if item_of(item)[1] == 0)


def _frame_means(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """The mean of each frame, over the dimensions besides time over which the variance is taken."""
    given = bound_arguments(node)
    source: fx.Node = given["self"]
    layout = facts_of(source).layout
    if not layout.time_is_plain:
        raise Refused("it cannot be carried on: time is folded with other axes", "keep time as an axis of its own")
    besides = [dim for dim in canonical_dims(given.get("dim"), layout.rank) if dim != layout.time_dim]
    if not besides:
        return source
    means = graph.call_function(aten.mean.dim, (source, besides, bool(given.get("keepdim"))))
    return described(means, path_of(node))


def values_per_result(node: fx.Node) -> float:
    """How many values of a clip a reduction makes one of."""
    return prod(shapes_of(bound_arguments(node)["self"])[0]) / prod(shapes_of(node)[0])


def variance_factor(node: fx.Node, count: float) -> float:
    """From the mean square deviation of so many values to what the call takes for their variance."""
    given = bound_arguments(node)
    taken = given["correction"] if "correction" in given else int(given["unbiased"])
    correction = 1.0 if taken is None else float(taken)
    return count / (count - correction) if count > correction else float("inf")


def carry_region(program: Program, region: Region) -> None:
    """Replace a norm by one with the statistics of all elements since the start, under its name.

    Law: on the clip no value changes.

    Raises:
        UnsupportedError: it is no such norm.
    """
    end = region.exits[0]
    try:
        made = _norm(program.graph, end, region)
    except Refused as refused:
        raise_refused({end: refused})
    made.meta = {"path": path_of(end), "val": end.meta["val"], "place": region.place, "cumulative": True}
    end.replace_all_uses_with(made)
    name = end.name
    end.name = f"{name}_on_the_clip"
    made.name = name
    program.graph.eliminate_dead_code()
    program.graph.lint()


def _norm(graph: fx.Graph, end: fx.Node, region: Region) -> fx.Node:
    if not region.is_norm or len(region.exits) > 1:
        raise Refused("it cannot be carried on: every element meets all those before it, without end", HINT)
    given = bound_arguments(end)
    source, weight, bias, kept, groups = _parts(target_name(end).split(".")[1], given)
    path, eps = path_of(end), given["eps"]
    with graph.inserting_before(end):
        moments = described(
            graph.call_function(torch.ops.co3d_compile.running_moments.default, (source, kept, groups)), path
        )
        mean, var = (described(graph.call_function(operator.getitem, (moments, place)), path) for place in range(2))
        arguments = (source, mean, var, weight, bias, kept, groups, eps)
        return graph.call_function(torch.ops.co3d_compile.normed.default, arguments)


def _parts(name: str, given: Mapping[str, Any]) -> Sequence[Any]:
    """What is normed, weight, bias, dimensions that are rows, and groups in each row."""
    source: fx.Node = given["input"]
    shape = shapes_of(source)[0]
    weight, bias = given.get("weight"), given.get("bias")
    match name:
        case "group_norm":
            return source, weight, bias, 1, given["num_groups"]
        case "instance_norm":
            return source, weight, bias, 1, shape[1]
        case "batch_norm":
            if facts_of(source).layout.batch > 1:
                raise Refused(
                    "it cannot be carried on: its statistics are of all streams together", "a clip of batch 1"
                )
            return source, weight, bias, 1, shape[1]
        case "layer_norm":
            if weight is not None or bias is not None:
                raise Refused("it cannot be carried on: it has weights of their own for every frame of a clip", HINT)
            return source, None, None, len(shape) - len(given["normalized_shape"]), 1
        case _:
            raise Refused(f"it cannot be carried on: there is no cumulative {name}", HINT)

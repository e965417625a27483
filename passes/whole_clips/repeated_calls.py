"""Layers that every window calls on several of its frames: a loop over frames that no rule could make a stream.

The single calls are refused by no one, so that they are in no window of last resort; they cost as much.
"""

from __future__ import annotations

from collections import defaultdict

from torch import fx

from co3d_compile.ops.flow import Way
from co3d_compile.ops.operation import Refused
from co3d_compile.passes.propagation import refusal_of
from co3d_compile.program.program import (
    Program,
    bound_arguments,
    facts_of,
    flow_of,
    is_getitem,
    target_name,
)

Layer = tuple[str, tuple[str, ...]]
"""An operator and its weights."""


def name_repeated_calls(program: Program) -> Program:
    """Say of the first of them that it runs on whole windows, and why.

    Law: no value changes.
    """
    places = _places(program)
    layers: dict[Layer, list[fx.Node]] = defaultdict(list)
    for node in program.calls:
        if places[node] and program.macs(node):
            weights = tuple(str(read.target) for read in node.all_input_nodes if read.op == "get_attr")
            layers[target_name(node), weights].append(node)
    repeated = [calls for (_, weights), calls in layers.items() if weights and len({places[one] for one in calls}) > 1]
    if repeated:
        first = repeated[0][0]
        frames = frozenset[object]().union(*(places[one] for calls in repeated for one in calls))
        why = Refused(
            f"{_layers(len(repeated))} called on {len(frames)} frames of each window, by their places in it",
            "a loop over all frames, or over every so many, whose iterations are alike; or cut the clip before it",
        )
        first.meta["refusals"] = (refusal_of(first, why),)
    return program


def _layers(count: int) -> str:
    return "it is" if count == 1 else f"{count} layers are"


def _places(program: Program) -> dict[fx.Node, frozenset[object]]:
    """Which single frames of a window go into what has no time."""
    found: dict[fx.Node, frozenset[object]] = {}
    for node in program.graph.nodes:
        found[node] = frozenset()
        if node.op != "call_function" or not facts_of(node).streams or facts_of(node).has_time:
            continue
        if not is_getitem(node) and flow_of(node).way is Way.COLLAPSE:
            if target_name(node) == "aten.select.int":
                given = bound_arguments(node)
                found[node] = frozenset([(given["self"], given["index"])])
            continue
        found[node] = frozenset[object]().union(*(found[read] for read in node.all_input_nodes))
    return found

"""Windows that no one asks for are not computed."""

from __future__ import annotations

from collections import defaultdict

from torch import fx

from co3d_compile.ops.flow import Way
from co3d_compile.program.program import Program, call_of, facts_of, flow_of, is_getitem


def thinned_windows(program: Program) -> dict[str, int]:
    """By name of a collapse, that only every so many of its windows are read.

    Law: no output changes: all readers of a thinned window, to the join that asks for every so many, are alone.
    """
    wanted: dict[fx.Node, set[int]] = defaultdict(set)
    for node in program.output_nodes:
        wanted[node].add(1)
    thinned: dict[str, int] = {}
    for node in reversed(list(program.graph.nodes)):
        if node.op != "call_function" or not facts_of(node).streams:
            continue
        every = min(wanted[node], default=1) if len(wanted[node]) <= 1 else 1
        if is_getitem(node):
            wanted[node.args[0]].add(every)
            continue
        if flow_of(node).way is Way.COLLAPSE and every > 1:
            thinned[node.name] = every
        _ask(node, every, wanted)
    return thinned


def _ask(node: fx.Node, every: int, wanted: dict[fx.Node, set[int]]) -> None:
    flow = flow_of(node)
    operands = [operand for operand in node.all_input_nodes if operand.op != "get_attr" and facts_of(operand).streams]
    passes_on = flow.way is Way.ALONE and len(operands) == len(call_of(node).streaming)
    for place, operand in enumerate(operands):
        wanted[operand].add(every * flow.taps_of(place).stride if passes_on else 1)

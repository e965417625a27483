"""Find the gates: collapses over time whose result is broadcast back onto the stream; and choose their policy."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import fx

from co3d_compile.ops.flow import Way
from co3d_compile.passes.propagation import Choices, Gate, annotate_time
from co3d_compile.passes.whole_clips.policies import OF_TIME, STATISTIC, Places, place_of
from co3d_compile.passes.whole_clips.standing_still import is_lost_in_a_frame
from co3d_compile.program.program import Program, call_of, facts_of, flow_of, is_getitem


def resolve_gates(program: Program, places: Places) -> dict[str, Gate]:
    """Every gate, by the name of its collapse.

    Law: a collapse is a gate exactly if its result meets, element by element, a tensor that still has time.

    Args:
        places: what the user chose for them; where that is nothing, ``frame``, or ``window`` where one frame has
            no such statistic.

    Raises:
        InputError: a policy's name is unknown.
    """
    gates: dict[str, Gate] = {}
    annotate_time(program, Choices())
    while joins := gated_joins(program):
        for node in frozenset().union(*joins.values()):
            gates[node.name] = _gate(node, [join for join, found in joins.items() if node in found], places)
        annotate_time(program, Choices(gates))
    return gates


def _gate(node: fx.Node, joins: Collection[fx.Node], places: Places) -> Gate:
    fitting = OF_TIME if is_lost_in_a_frame(node, joins) else STATISTIC
    return Gate(places.chosen(place_of(node), fitting) or fitting[0], flow_of(node).taps.count)


def gated_joins(program: Program, besides: Collection[fx.Node] = ()) -> dict[fx.Node, frozenset[fx.Node]]:
    """The nodes at which the result of collapses meets a tensor that still has time, and these collapses.

    Args:
        besides: nodes that are not looked at.
    """
    origins: dict[fx.Node, frozenset[fx.Node]] = {}
    joins: dict[fx.Node, frozenset[fx.Node]] = {}
    for node in program.graph.nodes:
        if node.op != "call_function" or node in besides:
            continue
        inherited = frozenset(origin for operand in node.all_input_nodes for origin in origins.get(operand, ()))
        if is_getitem(node):
            origins[node] = inherited
            continue
        collapses = flow_of(node).way is Way.COLLAPSE
        # a window of several tensors takes of each what belongs to its own number
        if inherited and not (collapses and flow_of(node).each) and any(f.has_time for f in call_of(node).streaming):
            joins[node] = inherited
        origins[node] = frozenset({node}) if collapses else frozenset() if facts_of(node).has_time else inherited
    return joins


def gate_nodes(program: Program) -> Iterator[fx.Node]:
    """The collapses that are gates, in order."""
    return (node for node in program.calls if flow_of(node).way is Way.GATE)

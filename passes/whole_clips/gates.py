"""Find the gates: collapses over time whose result is broadcast back onto the stream; and choose their policy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Literal

from torch import fx

from co3d_compile.errors import InputError
from co3d_compile.ops.flow import Way
from co3d_compile.passes.propagation import Choices, Gate, annotate_time
from co3d_compile.program.program import Program, call_of, facts_of, flow_of, is_getitem, path_of

GatePolicy = Literal["frame", "window", "cumulative", "exact"]
POLICIES: tuple[str, ...] = ("frame", "window", "cumulative", "exact")


def resolve_gates(program: Program, policy: Mapping[str, GatePolicy]) -> dict[str, Gate]:
    """Every gate, by the name of its collapse.

    Law: a collapse is a gate exactly if its result meets, element by element, a tensor that still has time.

    Args:
        policy: by pattern of module path (``blocks.*.se``, a path below it matches too); ``frame`` where none matches.

    Raises:
        InputError: a policy's name is unknown.
    """
    gates: dict[str, Gate] = {}
    annotate_time(program, Choices())
    while joins := gated_joins(program):
        gates |= {node.name: _gate(node, policy) for found in joins.values() for node in found}
        annotate_time(program, Choices(gates))
    return gates


def _gate(node: fx.Node, policy: Mapping[str, GatePolicy]) -> Gate:
    return Gate(chosen_policy(policy, _place(node)) or "frame", flow_of(node).taps.count)


def chosen_policy(policy: Mapping[str, GatePolicy], place: str) -> str | None:
    """What the user chose for a module path; None: nothing.

    Raises:
        InputError: the policy's name is unknown.
    """
    chosen = next((name for pattern, name in policy.items() if _matches(pattern, place)), None)
    if chosen is not None and chosen not in POLICIES:
        raise InputError(f"{place}: no policy is called {chosen!r}\n  try: one of {', '.join(POLICIES)}")
    return chosen


def _place(node: fx.Node) -> str:
    """The module path; at the top level, which has none, the node's own name."""
    return path_of(node) or node.name


def _matches(pattern: str, path: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")


def gate_places(program: Program, gates: Mapping[str, Gate]) -> list[str]:
    """The module paths of gates."""
    return [_place(node) for node in program.calls if node.name in gates]


def require_all_used(policy: Mapping[str, GatePolicy], paths: Collection[str]) -> None:
    """Refuse a policy that nothing is made under.

    Args:
        paths: of all that a policy can be chosen for.

    Raises:
        InputError: a pattern matches none of them.
    """
    for pattern in policy:
        if not any(_matches(pattern, path) for path in paths):
            listed = ", ".join(sorted(set(paths))) or "none"
            raise InputError(
                f"policy {pattern!r} matches nothing that takes a whole clip\n  try: a pattern for one of: {listed}"
            )


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

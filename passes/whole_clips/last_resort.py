"""What cannot be streamed, and all that follows it, becomes one operation on whole windows."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import fx

from co3d_compile.ops.bodies import body_of, target_in_body
from co3d_compile.ops.operation import Refused
from co3d_compile.passes.loops.positions import misplaced
from co3d_compile.passes.propagation import Choices, Gate, annotate_time, raise_refused, refusal_of
from co3d_compile.passes.whole_clips.cumulative import carry_gates, carry_region
from co3d_compile.passes.whole_clips.ends import settle_time_ends
from co3d_compile.passes.whole_clips.gates import gated_joins, resolve_gates
from co3d_compile.passes.whole_clips.policies import OF_TIME, STATISTIC, GatePolicy, Places
from co3d_compile.passes.whole_clips.regions import (
    boundaries_and_constants,
    is_spread,
    put_in_region,
    region_from,
    with_operands,
)
from co3d_compile.passes.whole_clips.sampling import samples_evenly
from co3d_compile.passes.whole_clips.standing_still import norms_time_alone
from co3d_compile.plan.operators import may_be_in_body
from co3d_compile.program.program import (
    Program,
    facts_of,
    is_getitem,
    output_node,
    path_of,
    target_name,
)

ASSERTIONS = ("aten._assert_scalar", "aten._assert_async", "aten.sym_constrain_range", "aten._functional_assert")

NOTHING_LEFT = (
    "nothing that multiplies comes before them, so no part of the model is left to stream\n"
    "  try: what the hints say, or run the model clip by clip"
)


def without_assertions(program: Program) -> Program:
    """Drop what only checks sizes that depend on values.

    Law: no value changes.
    """
    for node in reversed(list(program.calls)):
        if target_name(node).startswith(ASSERTIONS):
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    return program


def window_tails(program: Program, refused: Mapping[fx.Node, Refused]) -> Program:
    """Put each connected part of what follows the refused nodes, and of these themselves, into a window.

    Law: no value of the clip changes; nothing that comes before a refused node is in a window, but for the whole-clip
    statistics that it shares with a gate.

    Raises:
        UnsupportedError: nothing worth streaming is left, an output's shape depends on the video's values, or positions
            in the clip meet what is carried since the start of the video.
        RateError: nothing worth streaming is left, and branches never meet.
    """
    behind = _tail(program, refused)
    tail = _with_joins(program, behind)
    if not _multiplies((node for node in program.calls if node not in tail), program):
        raise_refused(refused, NOTHING_LEFT)
    _require_fixed_outputs(program, tail, refused)
    _require_pure(program, tail, refused)
    met = misplaced(program, tail, refused)
    if met:
        raise_refused(met)
    gates = set().union(*gated_joins(program, tail).values())
    for part in _connected(tail):
        roots = {node: one for node, one in refused.items() if node in part and _is_first(node, behind)}
        _put_in_window(program, part, gates, roots)
    program.graph.eliminate_dead_code()
    program.graph.lint()
    return program


def settle_time(program: Program, policy: Mapping[str, GatePolicy]) -> dict[str, Gate]:
    """Put windows in place of what cannot be streamed; find the gates of what is left.

    Law: as of ``window_tails`` and ``resolve_gates``.

    Raises:
        InputError: a policy's name is unknown, or its pattern matches nothing.
        UnsupportedError: what is to be cumulative cannot be carried on.
    """
    places = Places(policy)
    settle_time_ends(program)
    while True:
        while refused := annotate_time(program, Choices()):
            if not (samples_evenly(program, refused, places) or _puts_region(program, refused, places)):
                window_tails(program, refused)
        gates = resolve_gates(program, places)
        refused = annotate_time(program, Choices(gates)) | _exact_joins(program, gates)
        if not refused:
            places.require_all_used()
            annotate_time(carry_gates(program, gates), Choices(gates))
            return gates
        # whether a tensor has time is asked of the clip, in which a gate has none
        annotate_time(program, Choices())
        window_tails(program, refused)


def _puts_region(program: Program, refused: Mapping[fx.Node, Refused], places: Places) -> bool:
    """Whether something that mixes frames has been put under its policy."""
    for node in refused:
        region = region_from(program, node, refused.keys() - {node})
        if region is not None:
            fitting = OF_TIME if norms_time_alone(region) else STATISTIC
            chosen = places.chosen(region.place, fitting) or (fitting[0] if region.is_norm else "exact")
            if chosen == "cumulative":
                carry_region(program, region)
                return True
            if chosen != "exact":
                put_in_region(program, region, trailing=chosen == "window")
                return True
    return False


def _exact_joins(program: Program, gates: Mapping[str, Gate]) -> dict[fx.Node, Refused]:
    """The nodes that gates join which are to be exact."""
    exact = {name for name, gate in gates.items() if gate.policy == "exact"}
    if not exact:
        return {}
    annotate_time(program, Choices())
    return {
        join: Refused(
            "it needs a statistic of the whole clip, and is to be exact", 'policy "frame", "window" or "cumulative"'
        )
        for join, found in gated_joins(program).items()
        if any(node.name in exact for node in found)
    }


def _tail(program: Program, refused: Collection[fx.Node]) -> dict[fx.Node, None]:
    """The refused nodes and all that depends on them, in order."""
    tail: dict[fx.Node, None] = {}
    for node in program.graph.nodes:
        if node.op == "call_function" and (node in refused or any(read in tail for read in node.all_input_nodes)):
            tail[node] = None
    return tail


def _with_joins(program: Program, tail: dict[fx.Node, None]) -> dict[fx.Node, None]:
    """Gates too, where nothing that multiplies lies between them and the tail: there they are exact for nothing."""
    inside = set(tail)
    for join in gated_joins(program, tail):
        after = _tail(program, {join}).keys() - inside
        if not after.intersection(program.output_nodes) and not _multiplies(after, program):
            inside |= after
    return {node: None for node in program.graph.nodes if node in inside}


def _is_first(node: fx.Node, behind: Collection[fx.Node]) -> bool:
    """No other refused node comes before this one."""
    return not any(read in behind for read in node.all_input_nodes)


def _multiplies(nodes: Iterable[fx.Node], program: Program) -> bool:
    return any(program.macs(node) for node in nodes if facts_of(node).streams)


def _require_fixed_outputs(program: Program, tail: Collection[fx.Node], refused: Mapping[fx.Node, Refused]) -> None:
    for node in program.output_nodes:
        if node in tail and not all(type(size) is int for size in node.meta["val"].shape):
            raise_refused(
                refused,
                f"output {node.name} has a shape that depends on the values in the video\n"
                "  try: a model whose output has one shape for all clips",
            )


def _require_pure(program: Program, tail: Collection[fx.Node], refused: Mapping[fx.Node, Refused]) -> None:
    for node in tail:
        if not is_getitem(node) and not may_be_in_body(target_in_body(node), program.operations):
            raise_refused(
                refused,
                f"{target_name(node)} is none of torch's pure operators, so that it cannot run on whole windows either",
            )


def _connected(tail: Collection[fx.Node]) -> list[list[fx.Node]]:
    """The parts of the tail between which nothing passes, each in order."""
    part_of: dict[fx.Node, list[fx.Node]] = {}
    for node in tail:
        own = [node]
        for read in node.all_input_nodes:
            other = part_of.get(read, own)
            if other is not own:
                own = other + own
                part_of |= dict.fromkeys(own, own)
        part_of[node] = own
        part_of |= dict.fromkeys(own, own)
    order = {node: place for place, node in enumerate(tail)}
    unique = {id(part): part for part in part_of.values()}
    return [sorted(part, key=order.__getitem__) for part in unique.values()]


def _put_in_window(
    program: Program, part: Sequence[fx.Node], gates: Collection[fx.Node], roots: Mapping[fx.Node, Refused]
) -> None:
    inside = _with_inlined(program, part, gates)
    boundaries, constants = boundaries_and_constants(inside)
    outputs = list(dict.fromkeys(node for node in program.output_nodes if node in part))
    body = body_of(inside, [*boundaries, *constants], outputs)
    graph = program.graph
    with graph.inserting_before(output_node(graph)):
        window = graph.call_function(torch.ops.co3d_compile.window.default, (boundaries, constants, body.to_text()))
        path = path_of(next(iter(roots)))
        refusals = tuple(refusal_of(node, one) for node, one in roots.items())
        window.meta = {"path": path, "val": [node.meta["val"] for node in outputs], "refusals": refusals}
        for place, node in enumerate(outputs):
            item = graph.call_function(operator.getitem, (window, place))
            item.meta = {"path": path_of(node), "val": node.meta["val"]}
            output_node(graph).replace_input_with(node, item)
    for node in reversed(part):
        graph.erase_node(node)


def _with_inlined(program: Program, part: Sequence[fx.Node], gates: Collection[fx.Node]) -> list[fx.Node]:
    """The part, with what the window computes for itself, in the graph's order.

    These are tensors of one value, which the stream keeps at size 1; the whole-clip statistics that a gate makes
    otherwise for the stream; and those of all streams of the batch together, which a window has one by one.
    """
    batched = any(
        facts_of(node).layout.batch_dim is not None for node in program.graph.nodes if node.op == "placeholder"
    )
    # an item of several results needs the call that makes them
    own = {node.args[0] for node in program.graph.nodes if is_getitem(node)} | _behind_gates(program, gates)
    return with_operands(
        program, part, lambda read: read in own or (batched and _joins_streams(read)) or is_spread(read)
    )


def _joins_streams(node: fx.Node) -> bool:
    facts = facts_of(node)
    return node.op == "call_function" and facts.streams and facts.layout.batch_dim is None


def _behind_gates(program: Program, gates: Collection[fx.Node]) -> set[fx.Node]:
    """What is made of gates' statistics, before it meets a tensor that has time."""
    behind = set(gates)
    for node in program.graph.nodes:
        if node.op != "call_function" or not node.meta.get("facts") or behind.isdisjoint(node.all_input_nodes):
            continue
        if facts_of(node).streams and not facts_of(node).has_time:
            behind.add(node)
    return behind

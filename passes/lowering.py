"""From the annotated graph to the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from torch import fx

from co3d_compile.errors import InputError
from co3d_compile.layout import Mark
from co3d_compile.ops.bodies import Body
from co3d_compile.ops.flow import Flow, Taps, Way, read_back
from co3d_compile.ops.operation import Facts
from co3d_compile.ops.table import OperationTable
from co3d_compile.passes.loops.carrying import is_carried_on
from co3d_compile.passes.scheduling import common_period, schedule_firings
from co3d_compile.passes.state.aims import Aims
from co3d_compile.passes.state.narrowing import with_state_dtype
from co3d_compile.passes.state.retiming import Wiring, smallest_state
from co3d_compile.plan.operators import bodies_in
from co3d_compile.plan.plan import (
    Approximation,
    LastResort,
    Plan,
    PlanInput,
    PlanNode,
    PlanOutput,
    Value,
    ValueRef,
    WeightRef,
    timing_of,
)
from co3d_compile.program.program import (
    Program,
    bound_arguments,
    call_of,
    facts_of,
    flow_of,
    is_getitem,
    item_of,
    nodes_behind,
    path_of,
    target_name,
    with_nodes_replaced,
)
from co3d_compile.structure import structure_of


def lower(program: Program, *, start: str, dense: bool, aims: Aims) -> Plan:
    """The plan of an annotated program: aligned, with histories and schedule.

    Raises:
        InputError: what is carried on from the start of the video does not allow this ``start``.
    """
    values = {value.name: value for node in program.graph.nodes for value in _values(node)}
    statics = tuple(_plan_node(node, program.operations) for node in program.calls if not facts_of(node).streams)
    nodes = tuple(_plan_node(node, program.operations) for node in program.calls if facts_of(node).streams)
    values = with_state_dtype(values, nodes, program.dtype, aims.state_dtype)
    period = common_period(values)
    outputs = _outputs(program)
    wiring = Wiring(values, nodes, {output.value for output in outputs}, period)
    chosen, choice = smallest_state(wiring, aims)
    values, nodes = dict(chosen.values), tuple(chosen.nodes)
    _require_start(outputs, values, start)
    return Plan(
        period=period,
        inputs=tuple(
            PlanInput(given.name, given.shape, given.dtype, given.time_axis, *_pace(given.rate, dense))
            for given in program.inputs
        ),
        values=values,
        statics=statics,
        nodes=nodes,
        schedule=schedule_firings(values, nodes, period),
        outputs=outputs,
        in_structure=structure_of(program.in_spec),
        structure=program.structure.with_fixed(_fixed_names(program)),
        weights=tuple(node.target for node in program.graph.nodes if node.op == "get_attr"),
        state=choice,
        start=start,
        dense=dense,
        fixed_batch=_fixed_batch(program),
        passes=program.passes,
        own_rules=program.operations.origins(_targets(program)),
        last_resorts=_last_resorts(program),
    )


def _last_resorts(program: Program) -> tuple[LastResort, ...]:
    """What runs on whole windows: those first that something in them is refused for."""
    parts = [node for node in program.calls if "refusals" in node.meta]
    parts.sort(key=lambda node: flow_of(node).way is not Way.COLLAPSE)
    return tuple(LastResort(node.name, node.meta["refusals"]) for node in parts)


def _targets(program: Program) -> Iterator[str]:
    """All that is called, in windows too."""
    for node in program.calls:
        yield target_name(node)
        for text in bodies_in(target_name(node), bound_arguments(node)):
            yield from (call.target for call in Body.from_text(text).calls)


def _pace(rate: int, dense: bool) -> tuple[int, int]:
    """Ticks from frame to frame, and frames from one that a clip takes to the next."""
    return (1, rate) if dense else (rate, 1)


def _require_start(outputs: tuple[PlanOutput, ...], values: Mapping[str, Value], start: str) -> None:
    for output in outputs:
        if not output.carried or start == "zeros":
            continue
        if start == "valid" and not timing_of(values[output.value]).padding:
            continue
        never = "no video is ever past its start" if start == "valid" else "a still video never comes to rest in it"
        raise InputError(
            f"{', '.join(output.carried)}: start is {start!r}, and what is carried on from the start stays: {never}\n"
            "  try: start='zeros'"
        )


def value_name(node: fx.Node) -> str:
    """The plan's name of a node's tensor; an item of several is ``node.0``, ``node.1``."""
    if not is_getitem(node):
        return node.name
    source, place = item_of(node)
    return f"{source.name}.{place}"


def _values(node: fx.Node) -> list[Value]:
    if node.op in ("output", "get_attr") or is_getitem(node):
        return []
    facts: tuple[Facts, ...] = node.meta["facts"]
    names = _output_names(node)
    return [
        Value(name, path_of(node), one.layout, one.dtype, one.timing) for name, one in zip(names, facts, strict=True)
    ]


def _output_names(node: fx.Node) -> tuple[str, ...]:
    if not isinstance(node.meta["val"], (tuple, list)):
        return (node.name,)
    return tuple(f"{node.name}.{place}" for place in range(len(node.meta["facts"])))


def _plan_node(node: fx.Node, operations: OperationTable) -> PlanNode:
    flow, call, rule = flow_of(node), call_of(node), operations.rule_for(target_name(node))
    read = _read_values(node, flow)
    carried = [_output_names(node)[place] for place in flow.carried]
    macs = rule.macs(call, flow) if rule is not None and call.streaming else 0
    batch = flow.layouts[0].batch
    once = flow.layouts[0].time_dim is None or _is_gated(node) or flow.way is Way.MIXING
    elements = 1 if once else flow.layouts[0].time
    return PlanNode(
        name=node.name,
        path=path_of(node),
        target=target_name(node),
        arguments={name: with_nodes_replaced(value, _reference) for name, value in bound_arguments(node).items()},
        reads=(*read, *carried),
        taps=(*read.values(), *[read_back(flow.taps.grid)] * len(carried)),
        way=flow.way,
        outputs=_output_names(node),
        macs=macs // batch,
        clip_macs=macs // batch * elements,
        resizable=flow.resizable and flow.way is not Way.GATE,
        accumulates=flow.accumulates,
    )


def _is_gated(node: fx.Node) -> bool:
    """The node belongs to a gate: the clip model computes it once per clip, the stream at every frame."""
    return (
        prod(node.meta["val"].shape) < prod(facts_of(node).layout.shape)
        if hasattr(node.meta["val"], "shape")
        else False
    )


def _reference(node: fx.Node) -> ValueRef | WeightRef:
    return WeightRef(str(node.target)) if node.op == "get_attr" else ValueRef(value_name(node))


def _read_values(node: fx.Node, flow: Flow) -> dict[str, Taps]:
    """The streaming values among the arguments, and how each is read."""
    operands: list[fx.Node] = []
    for value in bound_arguments(node).values():
        with_nodes_replaced(value, operands.append)
    streaming = [value_name(operand) for operand in operands if facts_of(operand).streams]
    return {name: flow.taps_of(place) for place, name in enumerate(streaming)}


def _outputs(program: Program) -> tuple[PlanOutput, ...]:
    return tuple(
        PlanOutput(str(place), value_name(node), _approximations(node), _carried(node))
        for place, node in enumerate(program.output_nodes)
    )


def _fixed_names(program: Program) -> list[str | None]:
    """Of all that the model returns, the weights and what follows from them alone."""
    moving = set(program.output_nodes)
    return [None if node in moving else _constant_name(node) for node in program.returned]


def _constant_name(node: fx.Node) -> str:
    return str(node.target) if node.op == "get_attr" else value_name(node)


def _approximations(output: fx.Node) -> tuple[Approximation, ...]:
    """What an output depends on that is not as in the original: gates, mixtures, choices of frames."""
    return tuple(
        Approximation(node.meta.get("place") or path_of(node) or node.name, reason)
        for node in _behind(output)
        if (reason := _approximation(node))
    )


def _carried(output: fx.Node) -> tuple[str, ...]:
    """The modules of the recurrences that an output depends on."""
    carrying = (node for node in _behind(output) if is_carried_on(node) and flow_of(node).carried)
    return tuple(dict.fromkeys(path_of(node) or node.name for node in carrying))


def _behind(output: fx.Node) -> list[fx.Node]:
    """All that goes into a node, in order, and the node itself."""
    inside = set(nodes_behind(output))
    return [node for node in output.graph.nodes if node in inside]


def _is_way(node: fx.Node, *ways: Way) -> bool:
    return node.op == "call_function" and not is_getitem(node) and flow_of(node).way in ways


def _approximation(node: fx.Node) -> str:
    """What a node makes otherwise than the original; empty where that is nothing."""
    if not _is_way(node, Way.GATE, Way.MIXING):
        return str(node.meta.get("approximation", ""))
    taps = flow_of(node).taps
    made = f"the last {taps.count} elements" if taps.count > 1 else "each frame"
    made = "all elements since the start" if node.meta.get("cumulative") else made
    what = "a mixture of the whole clip's frames" if "place" in node.meta else "a gate on the whole clip"
    return f"{what}, made from {made} instead"


def _fixed_batch(program: Program) -> str:
    for node in program.graph.nodes:
        if node.op != "call_function" or is_getitem(node) or not facts_of(node).streams:
            continue
        lost = facts_of(node).layout.dim_of(Mark.BATCH) is None
        had = any(facts.layout.dim_of(Mark.BATCH) is not None for facts in call_of(node).streaming)
        if lost and had:
            return f"{path_of(node) or node.name} drops the batch dimension"
        if flow_of(node).fixed_batch:
            return f"{path_of(node) or node.name}: {flow_of(node).fixed_batch}"
    return ""

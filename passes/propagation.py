"""Give every node its facts: layout, clock, span, length, and the way it treats time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import fx

from co3d_compile.clock.periodic import Periodic
from co3d_compile.clock.timing import Reading, Timing, input_timing, sliding_map, timing_after
from co3d_compile.errors import RateError, Refusal, UnsupportedError
from co3d_compile.layout import Dim, Layout, Mark, constant_layout
from co3d_compile.ops.flow import Flow, Way, frame_gate, window_gate
from co3d_compile.ops.operation import Call, Facts, Operation, Refused
from co3d_compile.ops.table import OperationTable
from co3d_compile.program.program import (
    ClipInput,
    Program,
    bound_arguments,
    call_of,
    dtypes_of,
    facts_of,
    is_getitem,
    item_of,
    path_of,
    shapes_of,
    target_name,
    with_nodes_replaced,
)


@dataclass(frozen=True)
class Gate:
    """How a collapse that is broadcast back onto the stream is made: ``frame`` or ``window``, of ``width`` elements."""

    policy: str
    width: int


def propagate_time(program: Program, gates: Mapping[str, Gate], *, window: int | None = None) -> Program:
    """Annotate every node with ``facts`` and ``flow``.

    Law: no value changes; equal programs get equal facts.

    Raises:
        UnsupportedError: every node that has no rule, or whose rule refuses it.
        RateError: the elements of two branches never meet.
    """
    inputs = {given.name: given for given in program.inputs}
    refusals: list[Refusal] = []
    for node in program.graph.nodes:
        match node.op:
            case "placeholder":
                node.meta["facts"] = (_input_facts(inputs[node.name]),)
            case "get_attr":
                node.meta["facts"] = (Facts(constant_layout(shapes_of(node)[0]), dtypes_of(node)[0]),)
            case "call_function":
                _annotate(node, program.operations, gates, window, refusals)
    if refusals:
        raise UnsupportedError(refusals)
    return program


def _meet(call: Call, flow: Flow) -> bool:
    """All operands' elements are read at one rate."""
    read = [(facts.timing, flow.taps_of(place).index.last) for place, facts in enumerate(call.streaming)]
    return len({timing.clock.rate * last.rate for timing, last in read if timing is not None}) <= 1


def _input_facts(given: ClipInput) -> Facts:
    marks: list[Dim] = [(size,) for size in given.shape]
    marks[given.time_axis] = (Mark.TIME,)
    batch = None if len(given.shape) < 3 else (1 if given.time_axis == 0 else 0)
    if given.time_axis == 0 and len(given.shape) == 4:
        batch = None
    if batch is not None:
        marks[batch] = (Mark.BATCH,)
    layout = Layout(tuple(marks), given.shape[given.time_axis], 1 if batch is None else given.shape[batch])
    return Facts(layout, given.dtype, input_timing(given.rate))


def _annotate(
    node: fx.Node,
    operations: OperationTable,
    gates: Mapping[str, Gate],
    window: int | None,
    refusals: list[Refusal],
) -> None:
    try:
        if is_getitem(node):
            source, place = item_of(node)
            node.meta["facts"] = (source.meta["facts"][place],)
        else:
            _annotate_call(node, operations, gates, window)
    except Refused as refused:
        refusals.append(Refusal(path_of(node), _plain_name(node), refused.reason, refused.hint))
        node.meta["facts"] = _stand_in(node)
        node.meta["flow"] = Flow(Way.ALONE, tuple(facts.layout for facts in node.meta["facts"]))


def _annotate_call(node: fx.Node, operations: OperationTable, gates: Mapping[str, Gate], window: int | None) -> None:
    rule = operations.rule_for(target_name(node))
    call = call_of(node)
    if not call.streaming and (rule is None or call.operands):
        layouts = tuple(constant_layout(shape) for shape in shapes_of(node))
        node.meta["flow"] = Flow(Way.ALONE, layouts)
        node.meta["facts"] = tuple(Facts(layout, dtype) for layout, dtype in zip(layouts, dtypes_of(node), strict=True))
        return
    if rule is None:
        raise Refused("no rule for this operation", "write one (docs/adding-an-operation.md), or avoid it")
    flow = _with_policy(node, rule.flow(_solid(call, rule)), gates, window)
    if not _meet(call, flow):
        _raise_rates(node)
    timing = _output_timing(call, flow)
    node.meta["flow"] = flow
    node.meta["facts"] = tuple(
        Facts(layout, dtype, timing) for layout, dtype in zip(flow.layouts, dtypes_of(node), strict=True)
    )


def _solid(call: Call, rule: Operation) -> Call:
    if rule.broadcasts:
        return call
    return replace(call, arguments={name: _written_out(value) for name, value in call.arguments.items()})


def _written_out(value: object) -> object:
    if isinstance(value, Facts):
        return replace(value, layout=value.layout.solid())
    if isinstance(value, list):
        return [_written_out(entry) for entry in value]
    return value


def _with_policy(node: fx.Node, flow: Flow, gates: Mapping[str, Gate], window: int | None) -> Flow:
    gate = gates.get(node.name)
    if gate is not None:
        layouts = _gate_layouts(node, flow)
        make = frame_gate if gate.policy == "frame" else window_gate
        return make(flow, layouts, gate.width)
    if flow.taps.count == 1:
        return replace(flow, resizable=False)
    if window is not None and flow.resizable:
        return replace(flow, taps=replace(flow.taps, index=sliding_map(window), count=window))
    return flow


def _gate_layouts(node: fx.Node, flow: Flow) -> tuple[Layout, ...]:
    """A gate that keeps the dimension of time keeps time in it: one value per frame."""
    source = next(f for f in call_of(node).streaming if f.has_time).layout
    dim = source.time_dim
    assert dim is not None
    kept = source.time_is_plain and all(
        layout.rank == source.rank and layout.dims[dim] == () for layout in flow.layouts
    )
    if not kept:
        return flow.layouts
    return tuple(
        Layout((*layout.dims[:dim], (Mark.TIME,), *layout.dims[dim + 1 :]), source.time, source.batch)
        for layout in flow.layouts
    )


def _output_timing(call: Call, flow: Flow) -> Timing | None:
    read = [(facts.timing, flow.taps_of(place)) for place, facts in enumerate(call.streaming)]
    readings = [Reading(timing, taps.index, taps.awaits) for timing, taps in read if timing is not None]
    return timing_after(readings) if readings else None


def _raise_rates(node: fx.Node) -> None:
    branches: dict[Periodic, tuple[str, str]] = {}
    for value in bound_arguments(node).values():
        with_nodes_replaced(value, lambda operand: _note_branch(operand, branches))
    rates = sorted({clock.rate: names for clock, names in branches.items()}.items())
    (one, first), (other, second) = rates[0], rates[-1]
    raise RateError(
        f"{path_of(node) or node.name}: the branches run at strides {one} and {other}, so their elements never meet\n"
        f"  {first[0]} (stride {one}) and {second[0]} (stride {other})\n"
        f"  try: check the temporal stride of {second[1]}"
    )


def _note_branch(operand: fx.Node, branches: dict[Periodic, tuple[str, str]]) -> None:
    timing = facts_of(operand).timing
    if timing is not None:
        name = path_of(operand) or operand.name
        branches[timing.clock] = (name, name)


def _plain_name(node: fx.Node) -> str:
    return target_name(node).removeprefix("aten.").rsplit(".", 1)[0]


def _stand_in(node: fx.Node) -> tuple[Facts, ...]:
    """Facts that let the analysis go on behind a refusal, so that one run finds them all."""
    call = call_of(node)
    like = next((facts for facts in call.streaming if facts.has_time), call.streaming[0])
    return tuple(
        Facts(_aligned_layout(shape, like.layout), dtype, like.timing)
        for shape, dtype in zip(shapes_of(node), dtypes_of(node), strict=True)
    )


def _aligned_layout(shape: tuple[int, ...], like: Layout) -> Layout:
    marks = {place: dim for place, dim in enumerate(like.dims) if dim in ((Mark.TIME,), (Mark.BATCH,))}
    dims = [marks.get(place, (size,)) if size == _size_at(like, place) else (size,) for place, size in enumerate(shape)]
    return like.with_dims(dims)


def _size_at(layout: Layout, place: int) -> int | None:
    return layout.shape[place] if place < layout.rank else None

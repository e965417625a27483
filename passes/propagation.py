"""Give every node its facts: layout, clock, span, length, and the way it treats time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

from torch import Tensor, fx

from co3d_compile.clock.periodic import Periodic
from co3d_compile.clock.timing import Reading, Timing, input_timing, sliding_map, timing_after
from co3d_compile.errors import RateError, Refusal, UnsupportedError
from co3d_compile.layout import Dim, Layout, Mark, constant_layout
from co3d_compile.ops.flow import Flow, Way, frame_gate, window_gate
from co3d_compile.ops.operation import Call, Facts, Operation, Refused
from co3d_compile.ops.table import OperationTable
from co3d_compile.passes.bursts import has_unfolded_bursts
from co3d_compile.passes.knowledge import known_result, known_tensor
from co3d_compile.passes.rates import aligned_windows, dense_flow, meet
from co3d_compile.passes.whole_clips.gate_layouts import gate_layouts
from co3d_compile.program.program import (
    ClipInput,
    Program,
    bound_arguments,
    call_of,
    dtypes_of,
    facts_of,
    flow_of,
    is_getitem,
    item_of,
    path_of,
    shapes_of,
    target_name,
    with_nodes_replaced,
)


@dataclass(frozen=True)
class Gate:
    """How a collapse that is broadcast back onto the stream is made, and how many elements a clip gives it.

    A ``cumulative`` one is made from each frame, and carried on behind it (``passes/whole_clips/cumulative.py``).
    """

    policy: str
    width: int


@dataclass(frozen=True)
class Choices:
    """What the user or an earlier analysis decided.

    Attributes:
        gates: by name of their collapse.
        window: width of the smallest of the resizable windows over time; None takes the clip's.
        smallest: width of the smallest of them in the clip; the others keep their ratio to it.
        dense: a window of the strided network at every frame.
        every: by name of a collapse, that its windows start at every so many elements; 1 where it is missing.
    """

    gates: Mapping[str, Gate] = field(default_factory=dict)
    window: int | None = None
    smallest: int = 1
    dense: bool = False
    every: Mapping[str, int] = field(default_factory=dict)


class Unmet(Refused):
    """The elements of two branches never meet."""

    def __init__(self, strides: tuple[object, object], names: tuple[str, str]) -> None:
        (one, other), (first, second) = strides, names
        super().__init__(
            f"the branches run at strides {one} and {other}, so their elements never meet",
            f"check the temporal stride of {second}",
        )
        self.branches = f"{first} (stride {one}) and {second} (stride {other})"


def propagate_time(program: Program, choices: Choices) -> Program:
    """Annotate every node with ``facts`` and ``flow``.

    Law: no value changes; equal programs get equal facts.

    Raises:
        UnsupportedError: every node that has no rule, or whose rule refuses it.
        RateError: the elements of two branches never meet.
    """
    refused = annotate_time(program, choices)
    if refused:
        raise_refused(refused)
    return program


def annotate_time(program: Program, choices: Choices) -> dict[fx.Node, Refused]:
    """As ``propagate_time``, but the nodes that cannot be streamed are returned, with the reasons.

    What follows them has facts that let the analysis go on; none where a size depends on the video's values.
    """
    refused: dict[fx.Node, Refused] = {}
    for node in program.graph.nodes:
        refusal = annotate(program, node, choices)
        if refusal is not None:
            refused[node] = refusal
    return refused


def raise_refused(refused: Mapping[fx.Node, Refused], remark: str = "") -> NoReturn:
    """All that cannot be streamed, in one error.

    Args:
        remark: what else there is to say of them together.
    """
    node, first = next(iter(refused.items()))
    if isinstance(first, Unmet):
        raise RateError(f"{path_of(node) or node.name}: {first.reason}\n  {first.branches}\n  try: {first.hint}")
    # the rates behind a refusal are not known
    known = [refusal_of(node, one) for node, one in refused.items() if not isinstance(one, Unmet)]
    raise UnsupportedError(known, remark)


def refusal_of(node: fx.Node, refused: Refused) -> Refusal:
    return Refusal(path_of(node), _plain_name(node), refused.reason, refused.hint)


def annotate(program: Program, node: fx.Node, choices: Choices) -> Refused | None:
    """Annotate one node whose operands are; the reason if it cannot be streamed, and facts that let the rest go on."""
    match node.op:
        case "placeholder":
            given = next(one for one in program.inputs if one.name == node.name)
            node.meta["facts"] = (_input_facts(given, choices.dense),)
        case "get_attr":
            layout, dtype = constant_layout(shapes_of(node)[0]), dtypes_of(node)[0]
            node.meta["facts"] = (Facts(layout, dtype, known=known_tensor(program, str(node.target))),)
        case "call_function":
            return _annotate(node, program.operations, choices)
    return None


def smallest_window(program: Program) -> int:
    """Width of the smallest window whose width a user may set; 1 if there is none."""
    flows = [flow_of(node) for node in program.calls]
    return min((flow.taps.count for flow in flows if flow.resizable and flow.way is not Way.GATE), default=1)


def _input_facts(given: ClipInput, dense: bool) -> Facts:
    marks: list[Dim] = [(size,) for size in given.shape]
    marks[given.time_axis] = (Mark.TIME,)
    batch = None if len(given.shape) < 3 else (1 if given.time_axis == 0 else 0)
    if given.time_axis == 0 and len(given.shape) == 4:
        batch = None
    if batch is not None:
        marks[batch] = (Mark.BATCH,)
    layout = Layout(tuple(marks), given.shape[given.time_axis], 1 if batch is None else given.shape[batch])
    timing = input_timing(1, given.rate) if dense else input_timing(given.rate)
    return Facts(layout, given.dtype, timing)


def _annotate(node: fx.Node, operations: OperationTable, choices: Choices) -> Refused | None:
    if any(not operand.meta["facts"] for operand in node.all_input_nodes):
        node.meta["facts"] = ()
        return None
    try:
        if "refused" in node.meta:
            raise node.meta["refused"]
        if is_getitem(node):
            source, place = item_of(node)
            node.meta["facts"] = (source.meta["facts"][place],)
        else:
            _annotate_operator(node, operations, choices)
    except Refused as refused:
        node.meta["facts"] = () if _has_open_sizes(node) else _stand_in(node)
        node.meta["flow"] = Flow(Way.ALONE, tuple(facts.layout for facts in node.meta["facts"]))
        return refused
    return None


def _annotate_operator(node: fx.Node, operations: OperationTable, choices: Choices) -> None:
    def annotate(one: fx.Node) -> None:
        _annotate_call(one, operations, choices)

    try:
        annotate(node)
    except Refused as refused:
        if not has_unfolded_bursts(node, annotate):
            raise refused from None


def _has_open_sizes(node: fx.Node) -> bool:
    """What it gives is no tensor, or one whose shape depends on values."""
    value = node.meta["val"]
    made = value if isinstance(value, (tuple, list)) else (value,)
    return not all(isinstance(one, Tensor) and all(type(size) is int for size in one.shape) for one in made)


def _annotate_call(node: fx.Node, operations: OperationTable, choices: Choices) -> None:
    if _has_open_sizes(node):
        raise Refused(
            "the size of what it gives depends on the values in the video",
            "keep all elements and weight them, in place of choosing some",
        )
    rule = operations.rule_for(target_name(node))
    call = call_of(node)
    if not call.streaming and not (rule is not None and rule.spreads):
        layouts = tuple(constant_layout(shape) for shape in shapes_of(node))
        node.meta["flow"] = Flow(Way.ALONE, layouts)
        known = known_result(node)
        node.meta["facts"] = tuple(
            Facts(layout, dtype, known=known) for layout, dtype in zip(layouts, dtypes_of(node), strict=True)
        )
        return
    if rule is None:
        raise Refused("no rule for this operation", "write one (docs/adding-an-operation.md), or avoid it")
    flow = _with_choices(node, rule.flow(_solid(call, rule)), choices)
    flow = aligned_windows(call, flow)
    if not meet(call, flow):
        raise _unmet(node)
    grid = 1
    if choices.dense:
        flow, grid = dense_flow(call, flow)
    timing = _output_timing(call, flow, grid)
    node.meta["flow"] = flow
    known = None if call.streaming else known_result(node)
    node.meta["facts"] = tuple(
        Facts(layout, dtype, timing, known) for layout, dtype in zip(flow.layouts, dtypes_of(node), strict=True)
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


def _with_choices(node: fx.Node, flow: Flow, choices: Choices) -> Flow:
    gate = choices.gates.get(node.name)
    if gate is not None:
        layouts = gate_layouts(node, flow)
        make = window_gate if gate.policy == "window" else frame_gate
        return make(flow, layouts, gate.width)
    if flow.taps.count == 1:
        return replace(flow, resizable=False)
    if flow.each or not (flow.way is Way.COLLAPSE or flow.resizable):
        return flow
    width = _resized(flow.taps.count, choices) if flow.resizable else flow.taps.count
    every = choices.every.get(node.name, 1) * (_burst(node) if flow.way is Way.COLLAPSE else 1)
    return replace(flow, taps=replace(flow.taps, index=sliding_map(width, every), count=width))


def _burst(node: fx.Node) -> int:
    """Elements after which the clock repeats: a clip of the video begins with the first of them."""
    clocks = [facts.timing.clock for facts in call_of(node).streaming if facts.timing is not None]
    return max(len(clock.offsets) for clock in clocks)


def _resized(width: int, choices: Choices) -> int:
    """The window's width: pathways at several rates keep looking at the same frames."""
    if choices.window is None:
        return width
    if (width * choices.window) % choices.smallest:
        raise Refused(
            f"windows of {width} and {choices.smallest} elements cannot keep their ratio at one of {choices.window}",
            f"a window that is a multiple of {choices.smallest}",
        )
    return width * choices.window // choices.smallest


def _output_timing(call: Call, flow: Flow, grid: int) -> Timing | None:
    read = [(facts.timing, flow.taps_of(place)) for place, facts in enumerate(call.streaming)]
    readings = [Reading(timing, taps.index, taps.awaits) for timing, taps in read if timing is not None]
    return timing_after(readings, grid) if readings else None


def _unmet(node: fx.Node) -> Unmet:
    branches: dict[Periodic, str] = {}
    for value in bound_arguments(node).values():
        with_nodes_replaced(value, lambda operand: _note_branch(operand, branches))
    rates = sorted({clock.rate: name for clock, name in branches.items()}.items())
    (one, first), (other, second) = rates[0], rates[-1]
    return Unmet((one, other), (first, second))


def _note_branch(operand: fx.Node, branches: dict[Periodic, str]) -> None:
    timing = facts_of(operand).timing
    if timing is not None:
        branches[timing.clock] = _module_before(operand)


def _module_before(node: fx.Node) -> str:
    """The path of the module that made it, or of the last one before it."""
    while not path_of(node) and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return path_of(node) or node.name


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
    """Time and the batch where they were, also if time has another size now."""
    marks = {place: dim for place, dim in enumerate(like.dims) if dim in ((Mark.TIME,), (Mark.BATCH,))}
    dims = [marks.get(place, (size,)) if size == _size_at(like, place) else (size,) for place, size in enumerate(shape)]
    time = like.time_dim
    if time in marks and len(shape) == like.rank:
        dims[time] = (Mark.TIME,)
        return like.with_dims(dims).with_time(shape[time])
    return like.with_dims(dims)


def _size_at(layout: Layout, place: int) -> int | None:
    return layout.shape[place] if place < layout.rank else None

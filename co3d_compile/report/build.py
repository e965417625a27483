"""From a plan to its report: facts to numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from torch import Tensor

from co3d_compile.clock.timing import Timing
from co3d_compile.ops.arguments import dtype_name
from co3d_compile.ops.flow import Way
from co3d_compile.passes.state.narrowing import approximations_of
from co3d_compile.plan.plan import (
    Approximation,
    Feeding,
    Firing,
    Form,
    LastResort,
    Leeway,
    Plan,
    PlanInput,
    PlanNode,
    PlanOutput,
    Value,
    WeightRef,
)
from co3d_compile.report.data import (
    FiringReport,
    FrameReport,
    InputReport,
    LastResortReport,
    Law,
    LayerReport,
    LeewayReport,
    OutputReport,
    ReadReport,
    Report,
    Totals,
)
from co3d_compile.report.delays import Delays, operation_of
from co3d_compile.report.frame_sizes import FrameSizes, frame_of
from co3d_compile.report.modules import roll_up
from co3d_compile.report.places import laws, neediest_readers, padded_share
from co3d_compile.report.symbolic import AS_COMPILED, Formulas


def build_report(plan: Plan, weights: Iterable[Tensor] = (), sizes: FrameSizes = AS_COMPILED) -> Report:
    """Everything that is known of a plan.

    Args:
        weights: the tensors that the network uses, for their size.
        sizes: how those of its tensors follow from the frame's.
    """
    formulas = Formulas(plan, sizes)
    delays = Delays(plan)
    totals = _totals(plan, tuple(weights), formulas)
    layers = _layers(plan, totals)
    return Report(
        start=plan.start,
        rate="dense" if plan.dense else "native",
        inputs=tuple(_input(given) for given in plan.inputs),
        outputs=tuple(
            _output(plan, out, name, reasons, formulas, delays)
            for out, name, reasons in zip(plan.outputs, plan.output_names, approximations_of(plan), strict=True)
        ),
        totals=totals,
        layers=layers,
        modules=roll_up(layers),
        frame=_frame(plan, sizes),
        schedule=tuple(_phase(plan, firings) for firings in plan.schedule),
        last_resorts=tuple(_last_resort(plan, part) for part in plan.last_resorts),
    )


def _frame(plan: Plan, sizes: FrameSizes) -> FrameReport:
    if sizes.fixed is not None:
        return FrameReport(frame_of(plan), None, fixed_by=sizes.fixed.path, reason=sizes.fixed.reason)
    return FrameReport(frame_of(plan), sizes.least, sizes.step, sizes.checked)


def _phase(plan: Plan, firings: Iterable[Firing | Feeding]) -> tuple[FiringReport, ...]:
    """Each layer once, however many elements it makes or takes."""
    found: dict[str, FiringReport] = {}
    for firing in firings:
        node = plan.nodes[firing.node]
        before = found.get(node.name, FiringReport(node.name, 0, 0))
        made = firing.count if isinstance(firing, Firing) else int(firing.done is not None)
        found[node.name] = FiringReport(node.name, before.elements + made, before.macs + firing.macs(node))
    return tuple(found.values())


def _last_resort(plan: Plan, part: LastResort) -> LastResortReport:
    node = next(node for node in plan.nodes if node.name == part.node)
    return LastResortReport(node.path, sum(one.macs for one in _windowed(plan, node)), part.refusals)


def _input(given: PlanInput) -> InputReport:
    return InputReport(given.value, given.shape, dtype_name(given.dtype), given.rate, given.time_axis)


def _output(
    plan: Plan, output: PlanOutput, name: str, reasons: tuple[Approximation, ...], formulas: Formulas, delays: Delays
) -> OutputReport:
    value, timing = plan.values[output.value], plan.timing(output.value)
    return OutputReport(
        name=name,
        path=value.path,
        shape=value.layout.shape,
        approximations=reasons,
        stride=timing.stride,
        elements=_elements(timing),
        delay=timing.delay,
        receptive_field=timing.receptive_field,
        steady_tick=timing.steady_tick,
        padding=timing.padding,
        formulas=formulas.of_output(output.value),
        critical_path=delays.critical_path(output.value),
        carried=output.carried,
        late=plan.lateness(output.value),
    )


def _totals(plan: Plan, weights: tuple[Tensor, ...], formulas: Formulas) -> Totals:
    by_phase = tuple(sum(firing.macs(plan.nodes[firing.node]) for firing in firings) for firings in plan.schedule)
    clip_macs = sum(node.clip_macs for node in plan.nodes)
    return Totals(
        period=plan.period,
        clip_macs=clip_macs,
        macs_per_frame=sum(by_phase) / plan.period,
        macs_by_phase=by_phase,
        recomputed_macs=(sum(by_phase) - sum(node.macs * plan.rate(node.outputs[0]) for node in plan.nodes))
        / plan.period,
        saving=clip_macs * plan.period / sum(by_phase) if any(by_phase) else 1.0,
        share_streamed=1.0 - _share(_windowed_macs(plan), clip_macs),
        state_elements=sum(_state_numbers(value) for value in plan.values.values()),
        state_bytes=sum(_state_bytes(value) for value in plan.values.values()),
        state_dtype=_state_dtype(plan),
        full_state_bytes=sum(_state_numbers(value) * value.dtype.itemsize for value in plan.values.values()),
        prefer=plan.state.prefer,
        earliest_state_bytes=sum(numbers.bytes for numbers in plan.state.earliest),
        smallest_state_bytes=sum(numbers.bytes for numbers in plan.state.smallest),
        parameters=sum(weight.numel() for weight in weights),
        weight_bytes=sum(weight.numel() * weight.element_size() for weight in weights),
        gates=sum(node.way in (Way.GATE, Way.MIXING) for node in plan.nodes),
        formulas=formulas.of_totals(),
        leeway=None if plan.state.leeway is None else _leeway(plan.state.leeway),
    )


def _macs(plan: Plan) -> dict[str, int]:
    """Per node, in a period."""
    found = dict.fromkeys((node.name for node in plan.nodes), 0)
    for run in (run for phase in plan.schedule for run in phase):
        node = plan.nodes[run.node]
        found[node.name] += run.macs(node)
    return found


def _leeway(leeway: Leeway) -> LeewayReport:
    held = sum(numbers.bytes for numbers in leeway.held)
    return LeewayReport(leeway.balance, leeway.extra_delay, leeway.heaviest_tick, held)


def _windowed_macs(plan: Plan) -> int:
    parts = {part.node for part in plan.last_resorts}
    windowed = {one.name: one.clip_macs for node in plan.nodes if node.name in parts for one in _windowed(plan, node)}
    return sum(windowed.values())


def _windowed(plan: Plan, node: PlanNode) -> list[PlanNode]:
    """What runs on whole windows because of a node: itself, or all layers that are called several times a window."""
    if node.way is Way.COLLAPSE:
        return [node]
    calls = [one for one in plan.nodes if one.macs and not plan.values[one.outputs[0]].has_time]
    layers = Counter((one.target, _weights(one)) for one in calls)
    return [one for one in calls if layers[one.target, _weights(one)] > 1]


def _weights(node: PlanNode) -> tuple[str, ...]:
    return tuple(value.name for value in node.arguments.values() if isinstance(value, WeightRef))


@dataclass(frozen=True)
class _Whole:
    """What a layer's numbers are seen against."""

    plan: Plan
    totals: Totals
    readers: Mapping[str, PlanNode]
    makers: Mapping[str, str]
    laws: Mapping[str, Law]
    macs: Mapping[str, int]


def _layers(plan: Plan, totals: Totals) -> tuple[LayerReport, ...]:
    makers = {value: node.name for node in plan.nodes for value in node.outputs}
    whole = _Whole(plan, totals, neediest_readers(plan), makers, laws(plan), _macs(plan))
    inputs = (_input_layer(whole, given) for given in plan.inputs)
    return (*inputs, *(_layer(whole, node) for node in plan.nodes))


def _input_layer(whole: _Whole, given: PlanInput) -> LayerReport:
    return _row(whole, (given.value,), name=given.value, path="", operation="input")


def _layer(whole: _Whole, node: PlanNode) -> LayerReport:
    plan = whole.plan
    return _row(
        whole,
        node.outputs,
        reads=_reads(plan, node, whole.makers),
        name=node.name,
        path=node.path,
        operation=operation_of(node),
        kernel=node.reading.count,
        padding=_padding(plan, node),
        macs_per_frame=whole.macs[node.name] / plan.period,
        clip_macs=node.clip_macs,
        form=node.form.value,
        held=node.held,
        again=max(plan.values[name].again for name in node.outputs),
    )


def _row(
    whole: _Whole,
    made: tuple[str, ...],
    *,
    name: str,
    path: str,
    operation: str,
    reads: tuple[ReadReport, ...] = (),
    kernel: int = 1,
    padding: int = 0,
    macs_per_frame: float = 0.0,
    clip_macs: int = 0,
    form: str = Form.DIRECT.value,
    held: int = 0,
    again: int = 0,
) -> LayerReport:
    plan, totals = whole.plan, whole.totals
    timing = plan.timing(made[0])
    values = [plan.values[value] for value in made]
    deepest = max(values, key=lambda value: value.keep)
    state_bytes = sum(_state_bytes(value) for value in values)
    return LayerReport(
        name=name,
        path=path,
        operation=operation,
        shape=values[0].layout.running_shape(1, 1),
        stride=timing.stride,
        elements=_elements(timing),
        delay=timing.delay,
        span=(timing.lo(0), timing.hi(0)),
        reads=reads,
        kernel=kernel,
        padding=padding,
        shift=timing.padding,
        padded_share=padded_share(plan, made[0]),
        law=whole.laws[made[0]],
        macs_per_frame=macs_per_frame,
        macs_share=_share(macs_per_frame, totals.macs_per_frame),
        clip_macs=clip_macs,
        form=form,
        held=held,
        history=deepest.keep,
        needed_by=whole.readers[deepest.name].name if deepest.keep else "",
        sums=max(value.sums for value in values),
        again=again,
        state_bytes=state_bytes,
        state_share=_share(state_bytes, totals.state_bytes),
    )


def _reads(plan: Plan, node: PlanNode, makers: Mapping[str, str]) -> tuple[ReadReport, ...]:
    """Each layer that is read once, as its last element is read (what the node carries on itself is no other layer)."""
    delay = plan.timing(node.outputs[0]).delay
    newest: dict[str, int] = {}
    for value, taps in zip(node.reads, node.taps, strict=True):
        if value not in node.carried:
            layer = makers.get(value, value)
            tick = plan.timing(value).clock(taps.index.last(0))
            newest[layer] = max(tick, newest.get(layer, tick))
    return tuple(ReadReport(layer, tick, delay - tick) for layer, tick in newest.items())


def _padding(plan: Plan, node: PlanNode) -> int:
    """Frames before the video that the first element reads as padding."""
    if not node.reads or node.reading.fill is None:
        return 0
    source = plan.timing(node.reads[0])
    return int(max(0, -node.reading.index.first(0)) * source.clock.rate)


def _elements(timing: Timing) -> int:
    return len(timing.clock.offsets)


def _state_dtype(plan: Plan) -> str | None:
    return next((dtype_name(value.held_dtype) for value in plan.rounded_state.values()), None)


def _state_numbers(value: Value) -> int:
    """Of one stream."""
    return (value.keep + value.sums) * prod(value.layout.running_shape(1, 1))


def _state_bytes(value: Value) -> int:
    return _state_numbers(value) * value.held_dtype.itemsize


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

"""The report as tables for a terminal: readable at 80 columns and when piped, no number cut short."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from co3d_compile.report.data import InputReport, LastResortReport, OutputReport, Report, Totals
from co3d_compile.report.layer_tables import critical_paths, largest_states, layer_sections, modules
from co3d_compile.report.tables import add_fact, facts, headed, shape
from co3d_compile.report.wording import allowed, states_otherwise, stride


def render_report(report: Report, depth: int | None = None) -> RenderableType:
    """What a terminal shows: outputs, totals, where they come from, layers.

    Args:
        depth: the modules down to this depth in place of the layers.
    """
    return Group(
        *_inputs(report.inputs),
        *(_output(output) for output in report.outputs),
        *(_last_resort(part) for part in report.last_resorts),
        _totals(report.totals, report.start, report.rate),
        *critical_paths(report.outputs, depth),
        *largest_states(report.layers),
        *(layer_sections(report.layers) if depth is None else [modules(report.modules, depth)]),
    )


def _inputs(inputs: tuple[InputReport, ...]) -> Iterator[RenderableType]:
    """Where time lies, unless it is where one expects it."""
    if all(len(given.shape) == 5 and given.time_axis == 2 for given in inputs):
        return
    table = facts()
    for given in inputs:
        add_fact(table, given.name, f"time is axis {given.time_axis}", f"shape {shape(given.shape)} for the clip")
    yield headed("Input", table)


def _output(output: OutputReport) -> RenderableType:
    title = f"Output {output.name}" if output.name != "output" else "Output"
    return headed(title, Group(_clock(output), *_approximations(output)))


def _clock(output: OutputReport) -> Table:
    table = facts()
    add_fact(table, "made by", output.path or "the top level", f"shape {shape(output.shape)} for the clip")
    add_fact(table, "law", "exact" if output.exact else "approximate", "" if output.exact else "where and why: below")
    if output.carried:
        add_fact(table, "carried on", ", ".join(output.carried), "since the start, or the last reset")
    add_fact(table, "stride", f"{stride(output)} ticks" if output.stride > 1 else "every tick")
    late = f"{output.late} of them added" if output.late else ""
    add_fact(table, "delay", f"{output.delay} ticks", " ".join(filter(None, (_formula(output.formulas.delay), late))))
    frames = f"{output.receptive_field} frames"
    if output.carried:
        add_fact(table, "receptive field", "unbounded", f"{frames} besides what is carried")
    else:
        add_fact(table, "receptive field", frames, _formula(output.formulas.receptive_field))
    add_fact(table, "steady from tick", f"{output.steady_tick}", _formula(output.formulas.steady_tick))
    add_fact(table, "aggregated padding", f"{output.padding} frames", "none in mid-stream")
    return table


def _approximations(output: OutputReport) -> Iterator[RenderableType]:
    """Each reason once, above the modules that it holds for."""
    for reason in dict.fromkeys(entry.reason for entry in output.approximations):
        yield Text(f"approximate: {reason}")
        for entry in output.approximations:
            if entry.reason == reason:
                yield Text(f"  {entry.path}", overflow="fold")
    if output.deviation is not None:
        yield Text(
            f"on a random clip it differs from the original by {output.deviation.largest:.2g} of the original at most, "
            f"by {output.deviation.median:.2g} in the median"
        )
        if output.deviation.rounding is not None:
            yield Text(f"its rounded state alone changes it by {output.deviation.rounding:.2g} at most")


def _last_resort(part: LastResortReport) -> RenderableType:
    """What is recomputed for every window, why, and what could be done."""
    lines = [Text("from there on everything runs on whole windows, exactly as on a clip")]
    for refusal in part.refusals:
        lines.append(Text(f"{refusal.path or '(top level)'}: {refusal.operation}: {refusal.reason}"))
        lines.append(Text(f"  try: {refusal.hint}"))
    return headed(f"Not streamed: {part.path or 'the top level'}", Group(*lines))


def _totals(totals: Totals, start: str, rate: str) -> RenderableType:
    table = facts()
    add_fact(table, "MACs per clip", f"{totals.clip_macs:,}", "the original, once per clip")
    add_fact(table, "MACs per frame", f"{totals.macs_per_frame:,.0f}", "mean of a period")
    add_fact(table, "clip / frame", f"{totals.saving:.2f}")
    add_fact(table, "streamed", f"{totals.share_streamed:.1%}", "of the MACs per clip")
    if totals.period > 1:
        uneven = f"MACs, {totals.unevenness:.2f} times the mean"
        add_fact(table, "heaviest tick", f"{totals.heaviest_tick:,}", f"{uneven} of a period of {totals.period} ticks")
        if totals.leeway is not None:
            without = f"MACs, without {allowed(totals.leeway)}"
            add_fact(table, "  otherwise", f"{totals.leeway.heaviest_tick:,}", without)
        add_fact(table, "lightest tick", f"{totals.lightest_tick:,}", "MACs")
    add_fact(table, "state", f"{totals.state_bytes:,} bytes", f"{totals.state_elements:,} numbers")
    add_fact(table, "", "", _formula(totals.formulas.state_bytes))
    if totals.state_dtype is not None:
        add_fact(table, "  held in", totals.state_dtype, f"{totals.full_state_bytes:,} bytes if nothing were rounded")
    for choice, held, remark in states_otherwise(totals):
        add_fact(table, f"  {choice}", f"{held:,} bytes", remark)
    add_fact(table, "weights", f"{totals.weight_bytes:,} bytes", f"{totals.parameters:,} numbers")
    add_fact(table, "gates", f"{totals.gates}")
    add_fact(table, "start", start)
    add_fact(table, "rate", rate)
    return headed("Totals, for one stream", table)


def _formula(written: str) -> str:
    """Only where there is something to turn."""
    return f"= {written}" if "W" in written else ""

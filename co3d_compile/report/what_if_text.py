"""Scenarios as one table, at 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from co3d_compile.report.what_if import OutputTimes, Scenario
from co3d_compile.report.wording import scaled

HEADINGS = ("rate", "window", "size", "delay", "field", "MACs/clip", "MACs/frame", "state")


def render_scenarios(found: Mapping[str, Sequence[Scenario]]) -> RenderableType:
    """A table for each network, below its name, and why some are not to be had."""
    return Group(*(part for name, rows in found.items() for part in _network(name, rows)))


def _network(name: str, rows: Sequence[Scenario]) -> Iterator[RenderableType]:
    several = any(len(row.outputs) > 1 for row in rows)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading in (*HEADINGS, *(["output"] if several else [])):
        table.add_column(heading, justify="right" if heading not in ("rate", "output") else "left", no_wrap=True)
    for row in rows:
        for cells in _rows(row, several):
            table.add_row(*(Text(cell) for cell in cells))
    yield Text(name, style="bold underline")
    yield table
    yield Text("MACs and bytes of state for one stream; delay and receptive field in frames", style="dim")
    if not all(row.checked for row in rows):
        yield Text(
            "other sizes follow from the file's graph; there is no original at hand to count at them", style="dim"
        )
    for reason in dict.fromkeys(row.refusal for row in rows if row.refusal):
        yield Text(f"-: {reason}", overflow="fold")
    yield Text("")


def _rows(row: Scenario, several: bool) -> Iterator[tuple[str, ...]]:
    """One for each output; what holds for all of them stands in the first."""
    head = (row.rate, str(row.window or "-"), "x".join(map(str, row.size)) if row.size else "-")
    if row.refusal:
        yield (*head, *"-----")
        return
    sums = (row.clip_macs, row.macs_per_frame, row.state_bytes)
    totals = [scaled(number, digits=4) for number in sums]
    for place, output in enumerate(row.outputs):
        cells = (*(("", "", "") if place else head), *_times(output), *(("", "", "") if place else totals))
        yield (*cells, output.name) if several else cells


def _times(output: OutputTimes) -> tuple[str, str]:
    return str(output.delay), str(output.receptive_field)

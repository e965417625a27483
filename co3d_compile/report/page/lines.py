"""The rows in the order in which they stand on the page, with all that is drawn in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from co3d_compile.report.data import Report
from co3d_compile.report.page.axis import Axis
from co3d_compile.report.page.outline import Row, first_opened
from co3d_compile.report.page.places import Mark, marks_of


@dataclass(frozen=True)
class Line:
    """A row in its place.

    Attributes:
        number: from the top, whether it is to be seen or not.
        around: the number of the module's row that it stands in.
        seen: at first.
        opened: its rows are to be seen at first.
        approximate: something in it is made under a policy.
    """

    number: int
    row: Row
    depth: int
    around: int | None
    seen: bool
    opened: bool
    approximate: bool
    marks: tuple[Mark, ...]


def lines_of(report: Report, rows: Sequence[Row], axis: Axis) -> list[Line]:
    """All rows, from top to bottom."""
    opened = first_opened(rows)
    layers = {layer.name: layer for layer in report.layers}
    policies = {entry.path for output in report.outputs for entry in output.approximations}
    found: list[Line] = []
    waiting: list[tuple[Row, int, int | None]] = [(row, 0, None) for row in reversed(rows)]
    while waiting:
        row, depth, around = waiting.pop()
        waiting += [(inner, depth + 1, len(found)) for inner in reversed(row.rows)]
        seen = around is None or (found[around].seen and found[around].opened)
        marks = tuple(marks_of(row, axis, layers))
        approximate = not policies.isdisjoint(layer.path for layer in row.layers)
        found.append(Line(len(found), row, depth, around, seen, row in opened, approximate, marks))
    return found

"""What a command prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any

from rich.console import Console

from co3d_compile.report.data import Report
from co3d_compile.report.paper import PaperAccounting
from co3d_compile.report.paper_text import render_paper
from co3d_compile.report.text import render_report

JSON = "JSON in place of tables (docs/report.md)"


def print_report(report: Report, depth: int | None = None) -> None:
    """As tables, for a person; with a depth, modules in place of layers."""
    Console(file=sys.stdout).print(render_report(report, depth))


def print_paper(paper: PaperAccounting) -> None:
    """The paper's accounting, for a person."""
    Console(file=sys.stdout).print(render_paper(paper))


def print_json(data: Mapping[str, Any]) -> None:
    """For a program: one JSON object and nothing else."""
    print(json.dumps(_finite(data), indent=2, allow_nan=False))


def say(text: str) -> None:
    """A message beside the result."""
    print(text, file=sys.stderr)


@contextmanager
def progress(text: str) -> Iterator[None]:
    """A spinner while something takes long; only for someone who watches a terminal."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become their names."""
    match value:
        case float() if not isfinite(value):
            return str(value)
        case dict():
            return {name: _finite(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_finite(entry) for entry in value]
        case _:
            return value

"""``co3d-inspect a.pt b.pt``"""

from __future__ import annotations

import sys

from rich.console import Console

from co3d_compile.cli.printing import print_json
from co3d_compile.report.comparison import compare
from co3d_compile.report.comparison_text import render_comparison
from co3d_compile.report.data import Report


def print_comparison(reports: tuple[Report, Report], names: tuple[str, str], *, json: bool) -> None:
    """What differs between two networks."""
    comparison = compare(*reports, names)
    if json:
        print_json(comparison.to_dict())
    else:
        Console(file=sys.stdout).print(render_comparison(comparison))

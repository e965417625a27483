"""``--html FILE`` and ``--svg FILE``: the report to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

from co3d_compile.artifact import require_writable
from co3d_compile.cli.printing import say
from co3d_compile.files import write_text
from co3d_compile.report.data import Report
from co3d_compile.report.page.drawing import render_drawing
from co3d_compile.report.page.html import render_page


def add_pages(parser: argparse.ArgumentParser) -> None:
    """The options that name files to draw the report into."""
    parser.add_argument("--html", metavar="FILE", help="also write the report as a page for a browser")
    parser.add_argument("--svg", metavar="FILE", help="also draw the network along time, for a paper")


def require_places(options: argparse.Namespace) -> None:
    """Find out before the long work that a file has no place to go."""
    for path in (options.html, options.svg):
        if path:
            require_writable(path)


def write_pages(report: Report, network: str, options: argparse.Namespace) -> None:
    """Write what was asked for; the network's file gives the title."""
    title = Path(network).name
    if options.html:
        write_text(options.html, render_page(report, title))
        say(f"{options.html}: written")
    if options.svg:
        write_text(options.svg, render_drawing(report, title))
        say(f"{options.svg}: written")

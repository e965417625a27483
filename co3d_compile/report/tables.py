"""What the pages for a terminal are made of: tables that fit 80 columns, and numbers in few digits."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from co3d_compile.report.wording import scaled

PATH_WIDTH = 30
"""For a path beside the most columns that a table has, on a terminal of 80 columns."""


def headed(title: str, body: RenderableType) -> RenderableType:
    return Group(Text(title, style="bold underline"), Padding(body, (0, 0, 1, 2), expand=False))


def facts() -> Table:
    """What it is, its number, a remark."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold", style="dim")
    return table


def add_fact(table: Table, *cells: str) -> None:
    """A row of plain text: what stands in brackets is no markup."""
    if any(cells):
        table.add_row(*(Text(cell) for cell in cells))


def numbers(first: str, *headings: str) -> Table:
    """A wide column of names, which may take two lines, and narrow ones of numbers, which never do."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(first, overflow="fold", ratio=1)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def named(path: str, operation: str, width: int = PATH_WIDTH) -> Text:
    return Text.assemble((broken(path, width), "bold"), f" {operation}")


def broken(path: str, width: int = PATH_WIDTH) -> str:
    """A long path on two lines, broken at a dot."""
    cut = path.rfind(".", 0, width) + 1
    return path if len(path) <= width or not cut else f"{path[:cut]}\n  {path[cut:]}"


def shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in sizes)


def some(number: float) -> str:
    """Empty for nothing, so that the eye finds what there is."""
    return f"{number:g}" if number else ""


def share_of(number: float, share: float) -> tuple[str, str]:
    """Two cells: the number and its share; empty for nothing."""
    return (scaled(number), f"{share:.1%}") if number else ("", "")

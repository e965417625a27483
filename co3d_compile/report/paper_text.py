"""The paper's accounting as a table for a terminal."""

from __future__ import annotations

from rich.console import RenderableType

from co3d_compile.report.paper import PaperAccounting
from co3d_compile.report.tables import add_fact, facts, headed


def render_paper(paper: PaperAccounting) -> RenderableType:
    """Totals, and what each kind of state comes to."""
    table = facts()
    add_fact(table, "FLOPs per clip", f"{paper.clip_flops:,}", "the original, once per clip")
    add_fact(table, "FLOPs per step", f"{paper.step_flops:,}", "the heaviest tick; norms and ReLUs count twice")
    add_fact(table, "state", f"{paper.state_numbers:,} numbers", "partial sums; residuals wait at a block's input")
    for what in dict.fromkeys(part.what for part in paper.state):
        numbers = [part.numbers for part in paper.state if part.what == what]
        add_fact(table, f"  {what}", f"{sum(numbers):,}", f"in {len(numbers)} places")
    add_fact(table, "sliding clips", f"{paper.clip_numbers:,} numbers", "stored frames, and the first layer's maps")
    return headed("The paper's accounting, for one stream", table)

"""Numbers as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from co3d_compile.report.data import DelayPart, LayerReport, LeewayReport, OutputReport, Totals

CAUSES = {"lookahead": "", "cut": "until its elements are sure to stay", "held": "fires later than it could"}


def scaled(number: float, digits: int = 3) -> str:
    """So many digits and a power of a thousand."""
    for unit in ("", "k", "M", "G"):
        if abs(number) < 1000 - 10 ** (3 - digits) / 2:
            return f"{number:.{digits}g}{unit}"
        number /= 1000
    return f"{number:.{digits}g}T"


def in_bytes(number: int) -> str:
    return f"{scaled(number)}B" if number >= 1000 else f"{number} B"


def ticks(number: int) -> str:
    return "1 tick" if number == 1 else f"{number} ticks"


def frames(number: int) -> str:
    return "1 frame" if number == 1 else f"{number} frames"


def clock(clocked: LayerReport | OutputReport) -> str:
    """How often elements come."""
    often = "at every tick" if clocked.stride == 1 else f"every {clocked.stride} ticks"
    return often if clocked.elements == 1 else f"{clocked.elements} elements {often}"


def sizes(shape: Sequence[int]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(str(size) for size in shape)


def stride(clocked: LayerReport | OutputReport) -> str:
    """Ticks from element to element; where several come in a stride, ``ticks/elements``."""
    return str(clocked.stride) if clocked.elements == 1 else f"{clocked.stride}/{clocked.elements}"


def signed(number: int) -> str:
    """With a minus sign that is as wide as a plus."""
    return str(number).replace("-", "\N{MINUS SIGN}")


def span(layer: LayerReport) -> str:
    first, last = layer.span
    return f"{signed(first)} … {signed(last)}"


def phases(numbers: Sequence[int]) -> str:
    """Runs of neighbours as one: ``0-3, 6``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}\N{EN DASH}{run[-1]}" for run in runs)


def cause(part: DelayPart) -> str:
    """What a layer does, and why it waits where that is not its reading ahead."""
    why = CAUSES[part.cause]
    return f"{part.operation}, {why}" if why else part.operation


def allowed(leeway: LeewayReport) -> str:
    extra = f"{ticks(leeway.extra_delay)} of extra delay"
    return " and ".join(["balance"] * leeway.balance + [extra] * (leeway.extra_delay > 0))


def states_otherwise(totals: Totals) -> Iterator[tuple[str, int, str]]:
    """Under other choices: a word for the choice, bytes of state, a remark."""
    if totals.leeway is not None:
        yield "otherwise", totals.leeway.state_bytes, f"without {allowed(totals.leeway)}"
    yield "all direct", totals.earliest_state_bytes, "everything as early as it can fire"
    if totals.recomputed_macs:
        remark = f"without recomputation, which takes {totals.recomputed_macs:,.0f} of the MACs per frame"
        yield "otherwise", totals.smallest_state_bytes, remark
    if totals.prefer == "speed":
        yield "for memory", totals.smallest_state_bytes, "the least there is; speed was preferred"

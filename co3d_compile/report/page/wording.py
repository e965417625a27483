"""Numbers as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence

from co3d_compile.report.data import LayerReport, OutputReport


def scaled(number: float) -> str:
    """Three digits and a power of a thousand."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"


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


def stride(layer: LayerReport) -> str:
    """Ticks from element to element; where several come in a stride, ``ticks/elements``."""
    return str(layer.stride) if layer.elements == 1 else f"{layer.stride}/{layer.elements}"


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

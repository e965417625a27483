"""The axis of time, and where things stand on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

from co3d_compile.report.data import LayerReport

LABELS = 8
"""Numbers that fit on a phone's width."""
MARGIN = 0.035
"""Of the axis: half a number's width on a phone. Nearer to the ends none would fit."""


@dataclass(frozen=True)
class Axis:
    """Ticks ``start`` to ``stop`` (exclusive); tick t covers the room from t to t + 1.

    Attributes:
        step: ticks from one grid line to the next; there is one at tick 0.
    """

    start: int
    stop: int
    step: int

    @property
    def labels(self) -> range:
        """Ticks with a number; grid lines go on to both ends."""
        first, last = (self.start + share * (self.stop - self.start) for share in (MARGIN, 1 - MARGIN))
        return range(ceil(first / self.step) * self.step, floor(last) + 1, self.step)

    def at(self, tick: float) -> float:
        """The place of a tick's beginning, 0 to 1."""
        return (tick - self.start) / (self.stop - self.start)

    def middle(self, tick: int) -> float:
        """The place of a tick's middle."""
        return self.at(tick + 0.5)


def axis_of(layers: Sequence[LayerReport]) -> Axis:
    """All spans and delays, and a tick of room on both sides."""
    first = min(0, *(layer.span[0] for layer in layers), 0)
    last = max(0, *(max(layer.delay, layer.span[1]) for layer in layers), 0)
    return Axis(first - 1, last + 2, _step(last + 3 - first))


def _step(ticks: int) -> int:
    """1, 2 or 5 times a power of ten."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if ticks <= factor * power * LABELS:
                return factor * power
        power *= 10

"""What a verification found, as data and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

WHOLE = "the original on the whole video"
WINDOWS = "the original on every window, its convolutions and pools replaced by their results on the whole video"
PASTS = "the original on all frames up to each window's end, its convolutions and pools replaced as for windows"
MAGNIFIED = 1e-2
"""Of the movement: what a deep network may make of float32's rounding, if float64 shows that it is that."""

FULL = "the same network with its state in full"
STILL = 1e-3
"""Of the largest value: a tensor that moves less than that tells little about time."""

GATED = " (its gates made under the same policy)"
CHOSEN = " (its frames taken under the same policy)"


@dataclass(frozen=True)
class Comparison:
    """One tensor of the network against the original's.

    Attributes:
        against: what it was compared with.
        elements: how many elements were compared; ``expected`` is how many the original has.
        difference: the largest absolute difference; infinite where an element is missing or not a number.
        movement: how far the original's tensor moves from one element to the next, at most.
        largest: its largest value.
        tolerance: what the difference may be: 1e-4 of the movement, and the rounding of the largest value.
    """

    name: str
    path: str
    against: str
    elements: int
    expected: int
    difference: float
    movement: float
    largest: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        return self.elements == self.expected and self.difference <= self.tolerance

    @property
    def says_little(self) -> bool:
        """The tensor hardly moves, as that of an untrained network: a wrong tick would hardly show."""
        return self.elements > 1 and self.movement < STILL * self.largest

    @property
    def may_be_rounding(self) -> bool:
        """No element is missing, and the difference is small beside the movement, if not within the tolerance."""
        return self.elements == self.expected and self.difference <= max(self.tolerance, MAGNIFIED * self.movement)

    def __str__(self) -> str:
        return (
            f"{self.path or '(top level)'} ({self.name}): differs by {self.difference:.3g} where {self.tolerance:.3g} "
            f"is allowed; it moves by {self.movement:.3g}; {self.elements} of {self.expected} elements"
        )


@dataclass(frozen=True)
class Rounding:
    """What a rounded state changes, beside the same network with its state in full.

    Attributes:
        dtype: that state is rounded to.
        outputs: one comparison per output; the tolerance is four times what noise of the size of the rounding does.
        intermediates: every other tensor.
    """

    dtype: str
    outputs: tuple[Comparison, ...]
    intermediates: tuple[Comparison, ...]

    @property
    def all(self) -> tuple[Comparison, ...]:
        return (*self.intermediates, *self.outputs)

    def __str__(self) -> str:
        lines = [f"  with its state in full; rounded to {self.dtype}, it is compared with that"]
        lines += [
            f"  output {one.name}: changed by {one.difference:.2g} at most, where {one.tolerance:.2g} is allowed (four "
            "times what noise of that size does)"
            for one in self.outputs
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Verification:
    """The result of ``Network.verify``.

    Attributes:
        outputs: one comparison per output.
        intermediates: every tensor inside the network that the original computes too, in order.
        notes: what was not compared, and why.
        in_double: the same in float64, where float32 alone could not tell a difference from rounding.
        rounding: of a network whose state is rounded, which has been compared with its state in full.
    """

    frames: int
    outputs: tuple[Comparison, ...]
    intermediates: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    in_double: Verification | None = None
    rounding: Rounding | None = None

    @property
    def passed(self) -> bool:
        """Every output was compared, and every tensor agrees, or differs by what float64 shows to be rounding."""
        if self.rounding is not None and not all(one.agrees for one in self.rounding.all):
            return False
        everything = (*self.outputs, *self.intermediates)
        if self.in_double is not None and self.in_double.passed:
            return all(one.may_be_rounding for one in everything)
        return bool(self.outputs) and all(one.agrees for one in everything)

    @property
    def first_difference(self) -> Comparison | None:
        """The first tensor, in the order of computation, that differs."""
        rounded = () if self.rounding is None else self.rounding.all
        return next((one for one in (*self.intermediates, *self.outputs, *rounded) if not one.agrees), None)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}

    @property
    def _verdict(self) -> str:
        if self.passed:
            but = "" if self.rounding is None else ", but for its rounded state,"
            return f"equal to the original{but}"
        return "NOT COMPARED with the original" if self.first_difference is None else "DIFFERENT from the original"

    def __str__(self) -> str:
        lines = [f"{self._verdict} on a random video of {self.frames} frames, first frame through flush"]
        lines += [f"  output {one.name}: {_figures(one)}\n    compared with {one.against}" for one in self.outputs]
        lines.append(f"  {len(self.intermediates)} intermediate tensors compared element by element")
        if self.in_double is not None and self.passed:
            worst = max(one.difference for one in self.in_double.outputs)
            lines.append(
                f"  float32 rounds by more than the tolerance; in float64 the largest difference is {worst:.2g}"
            )
        elif self.first_difference is not None:
            lines.append(f"  first difference: {self.first_difference}")
        if self.rounding is not None:
            lines.append(str(self.rounding))
        if any(one.says_little for one in self.outputs):
            lines.append("  note: an output hardly moves on random video, so that its agreement says little about time")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def _figures(one: Comparison) -> str:
    return (
        f"{one.elements} elements, largest difference {one.difference:.2g}; "
        f"it moves by {one.movement:.2g} from one element to the next"
    )

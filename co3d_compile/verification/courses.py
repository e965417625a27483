"""Which call of a longer run is which of the run on a clip: a loop over frames makes more of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True)
class Course:
    """Two runs that call the same operators before and behind where they part.

    Attributes:
        before: calls that both begin with.
        behind: calls that both end with.
        clip: calls of the run on the clip.
        longer: calls of the other.
    """

    before: int
    behind: int
    clip: int
    longer: int

    def in_clip(self, number: int) -> int | None:
        """The clip's number of a call of the longer run."""
        if number < self.before:
            return number
        return number - self.longer + self.clip if number >= self.longer - self.behind else None

    def in_longer(self, number: int) -> int | None:
        """The longer run's number of a call of the clip's."""
        if number < self.before:
            return number
        return number + self.longer - self.clip if number >= self.clip - self.behind else None


def course_of(clip: Sequence[str], longer: Sequence[str], *, ended: bool) -> Course:
    """How two runs go together, from their operators.

    Args:
        ended: the longer run came to its end.
    """
    before = _alike(clip, longer)
    left = min(len(clip), len(longer)) - before
    behind = min(left, _alike(clip[::-1], longer[::-1])) if ended else 0
    return Course(before, behind, len(clip), len(longer))


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))

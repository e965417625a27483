"""Which call of a longer run is which of the run on a clip: a loop over frames makes more of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stretch:
    """Calls that both runs make, one after the other.

    Attributes:
        clip: the number of the first one in the run on the clip.
        longer: its number in the other run.
    """

    clip: int
    longer: int
    count: int


@dataclass(frozen=True)
class Course:
    """Two runs that call the same operators in some stretches; between them the longer one goes on with its loops."""

    stretches: tuple[Stretch, ...]

    def in_clip(self, number: int) -> int | None:
        """The clip's number of a call of the longer run."""
        return next((number - s.longer + s.clip for s in self.stretches if 0 <= number - s.longer < s.count), None)

    def in_longer(self, number: int) -> int | None:
        """The longer run's number of a call of the clip's."""
        return next((number - s.clip + s.longer for s in self.stretches if 0 <= number - s.clip < s.count), None)


def course_of(clip: Sequence[str], longer: Sequence[str], *, ended: bool) -> Course:
    """How two runs go together, from their operators.

    Args:
        ended: the longer run came to its end.
    """
    before = _alike(clip, longer)
    left = min(len(clip), len(longer)) - before
    behind = min(left, _alike(clip[::-1], longer[::-1])) if ended else 0
    ends = len(clip) - behind, len(longer) - behind
    between = _between(clip[: ends[0]], longer[: ends[1]], before)
    return Course((Stretch(0, 0, before), *between, Stretch(*ends, behind)))


def _between(clip: Sequence[str], longer: Sequence[str], start: int) -> Iterator[Stretch]:
    """Where they meet again, as between one loop and the next: each time, for as many calls as can be."""
    here, there = start, start
    while here < len(clip):
        meetings = range(there, len(longer) - (len(clip) - here) + 1)
        counts = [_alike(clip, longer, here, meeting) for meeting in meetings]
        if not any(counts):
            return
        found = Stretch(here, meetings[counts.index(max(counts))], max(counts))
        yield found
        here, there = found.clip + found.count, found.longer + found.count


def _alike(one: Sequence[str], other: Sequence[str], start: int = 0, other_start: int = 0) -> int:
    """How many calls are the same from there on."""
    count = 0
    while start + count < len(one) and other_start + count < len(other):
        if one[start + count] != other[other_start + count]:
            break
        count += 1
    return count

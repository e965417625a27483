"""What a read costs: the elements that its value must keep, by how much later the reader fires than its operand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from co3d_compile.clock.timing import Timing
from co3d_compile.ops.flow import Taps
from co3d_compile.passes.state.histories import kept_for
from co3d_compile.plan.plan import Form, PlanNode, Value, timing_of


@dataclass(frozen=True)
class Read:
    """One value read by one node, all firing as early as they can.

    Attributes:
        reader: index of the node.
        maker: index of the node that makes the value; None for an input.
        most: ticks that the reader may be later than its earliest.
    """

    value: str
    reader: int
    maker: int | None
    source: Timing
    taps: Taps
    made: Timing
    period: int
    most: int

    @cached_property
    def slack(self) -> int:
        """Ticks that the last element waits for the reader."""
        ready = self.source.clock.unbounded.after(self.taps.index.last)
        count = 2 * len(self.made.clock.offsets) * len(ready.offsets) + self._burst
        waits = (self.made.clock(n) - self.source.clock(self.taps.index.last(n)) for n in range(count))
        awaited = [] if self.taps.awaits is None else [self.made.clock(0) - self.source.clock(self.taps.awaits)]
        return min((*waits, *awaited))

    @property
    def _burst(self) -> int:
        """Elements that come all at once at the start."""
        return max(0, self.made.clock.count_through(self.made.clock.least or 0))

    def kept(self, later: int, form: Form = Form.DIRECT) -> int:
        """Elements that must be kept where the reader fires so much later than its operand."""
        made = replace(self.made, clock=self.made.clock + later)
        return kept_for(self.source, self.taps, made, self.period, form)

    @cached_property
    def steps(self) -> tuple[tuple[int, int], ...]:
        """The numbers of elements kept, each with the ticks up to which they suffice; the last one for all allowed."""
        found: list[tuple[int, int]] = []
        for later in range(-self.slack, self.most + 1):
            kept = self.kept(later)
            if found and found[-1][0] == kept:
                found.pop()
            found.append((kept, later))
        return tuple(found)


def reads_of(
    values: Mapping[str, Value], nodes: Sequence[PlanNode], outputs: Mapping[str, int], period: int
) -> list[Read]:
    """All reads of other nodes' values, each bounded by the outputs that wait for it.

    Args:
        outputs: value to the ticks that it may be late.
    """
    makers = {name: place for place, node in enumerate(nodes) for name in node.outputs}
    found: list[Read] = []
    most: dict[str, int] = dict(outputs)
    for place, node in reversed(list(enumerate(nodes))):
        allowed = min((most[name] for name in node.outputs if name in most), default=0)
        made = timing_of(values[node.outputs[0]])
        for name, taps in zip(node.reads, node.taps, strict=True):
            if name in node.outputs:
                continue
            read = Read(name, place, makers.get(name), timing_of(values[name]), taps, made, period, allowed)
            most[name] = min(most.get(name, allowed + read.slack), allowed + read.slack)
            found.append(read)
    return found

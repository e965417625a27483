"""State as the paper counts it: partial sums of every convolution, residuals that wait at the block's input.

Its equations 8 to 10 lack channels and dilation; they are here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod

from co3d_compile.ops.flow import Way
from co3d_compile.plan.plan import Plan, PlanNode
from co3d_compile.report.paper_flops import Kind, kind_of

SUMS, POOL, RESIDUAL, OTHER = "partial sums", "pool", "residual", "other"


@dataclass(frozen=True)
class KeptPart:
    """What is kept between ticks for one operation.

    Attributes:
        path: the module of the user's model.
        what: ``partial sums`` of a convolution, a ``pool``'s, a ``residual`` that waits for the other branch, or
            ``other``: the history of what the paper has no form for.
        elements: how many are kept.
        numbers: in all of them, for one stream.
    """

    path: str
    what: str
    elements: int
    numbers: int


def kept_parts(plan: Plan) -> tuple[KeptPart, ...]:
    """All that is kept, in the order of the network."""
    kept = _Kept(plan)
    return tuple(part for node in plan.nodes for part in kept.parts(node) if part.numbers > 0)


def clip_numbers(plan: Plan) -> int:
    """What the original holds on sliding clips: all frames but the newest, and what its first layer makes of the clip.

    The paper calls this the worst case, although a later layer may make more.
    """
    frames = sum(_size(plan, given.value) * (given.shape[given.time_axis] - 1) for given in plan.inputs)
    first = next((node.outputs[0] for node in plan.nodes if kind_of(node) is Kind.PRODUCT), None)
    return frames + (0 if first is None else _size(plan, first) * plan.values[first].layout.time)


class _Kept:
    """What the nodes of one plan keep."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._makers = {name: node for node in plan.nodes for name in node.outputs}
        self._readers = Counter(name for node in plan.nodes for name in node.reads)
        self._readers.update(output.value for output in plan.outputs)

    def parts(self, node: PlanNode) -> Iterator[KeptPart]:
        kind, reach = kind_of(node), node.reading.step * (node.reading.count - 1)
        if node.way is Way.ALONE:
            yield from self._residuals(node)
        elif kind in (Kind.PRODUCT, Kind.POOL) and node.reading.produces is None:
            yield self._part(node, SUMS if kind is Kind.PRODUCT else POOL, reach, node.outputs[0])
        else:
            for name in node.reads:
                yield self._part(node, OTHER, self._history(node, name), name)

    def _residuals(self, join: PlanNode) -> Iterator[KeptPart]:
        """The branches of a join that are there before the latest."""
        if len(join.reads) > 1:
            for branch in join.reads:
                begin, elements = self._waiting(join, branch)
                yield self._part(join, RESIDUAL, elements, begin)

    def _waiting(self, join: PlanNode, branch: str) -> tuple[str, int]:
        """The value where a branch begins, and how many of its elements wait for the join.

        Spans tell it, not clocks: an element can be made when the last frame that it depends on is there.
        """
        place = 0
        while (maker := self._passed_through(branch)) is not None:
            place = maker.reading.index.last(place)
            branch = maker.reads[0]
        begin = self._plan.timing(branch)
        wait = self._plan.timing(join.outputs[0]).hi(0) - begin.hi.unbounded(place)
        return branch, ceil(wait / begin.clock.rate)

    def _passed_through(self, value: str) -> PlanNode | None:
        """What makes a value from one element that nothing else reads: a residual waits before it as well."""
        maker = self._makers.get(value)
        if maker is None or self._readers[value] > 1 or len(maker.reads) != 1 or maker.reading.count > 1:
            return None
        return maker if maker.way in (Way.ALONE, Way.WINDOW) and maker.reading.produces is None else None

    def _history(self, node: PlanNode, read: str) -> int:
        """The most elements, over a period, from the first that is still to be read to the newest."""
        taps = node.taps[node.reads.index(read)]
        made, taken = (self._plan.timing(value).hi.unbounded for value in (read, node.outputs[0]))
        ticks = range(self._plan.period)
        return max(made.count_through(tick) - taps.first(taken.count_through(tick)) for tick in ticks) + taps.reach

    def _part(self, node: PlanNode, what: str, elements: int, value: str) -> KeptPart:
        return KeptPart(node.path, what, elements, elements * _size(self._plan, value))


def _size(plan: Plan, value: str) -> int:
    """Numbers of one element of one stream."""
    return prod(plan.values[value].layout.running_shape(1, 1))

"""Which layers make the delay of an output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from co3d_compile.plan.plan import Plan, PlanNode
from co3d_compile.report.data import Cause, DelayPart


@dataclass(frozen=True)
class _Wait:
    """What the first element of a node waits for longest, if every node fires as early as it can.

    Attributes:
        element: of the value ``source``.
    """

    node: PlanNode
    source: str
    element: int


class Delays:
    """The chain of reads behind each value that determines when its first element comes."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._waits: dict[str, _Wait] = {}
        self._late = {given.value: 0 for given in plan.inputs}
        for node in plan.nodes:
            self._look(node)

    def late(self, value: str) -> int:
        """Ticks that a value comes later than if every node fired as early as it could."""
        return self._late[value]

    def critical_path(self, value: str) -> tuple[DelayPart, ...]:
        """The layers that make a value's delay, from the input on; their ticks sum to the delay."""
        parts: list[DelayPart] = []
        for wait in reversed(list(self._chain(value))):
            for cause, ticks in self._parts(wait):
                sum_so_far = ticks + (parts[-1].sum if parts else 0)
                node = wait.node
                parts.append(DelayPart(node.name, node.path, operation_of(node), cause, ticks, sum_so_far))
        return tuple(parts)

    def _look(self, node: PlanNode) -> None:
        waits = [
            _Wait(node, name, taps.index.last(0) if taps.awaits is None else max(taps.index.last(0), taps.awaits))
            for name, taps in zip(node.reads, node.taps, strict=True)
            if name not in node.outputs
        ]
        wait = max(waits, key=self._earliest)
        earliest = max(self._earliest(wait), self._existence(node))
        for name in node.outputs:
            self._waits[name] = wait
            self._late[name] = self._plan.timing(node.outputs[0]).delay - earliest

    def _earliest(self, wait: _Wait) -> int:
        return self._tick(wait) - self._late[wait.source]

    def _tick(self, wait: _Wait) -> int:
        return self._plan.timing(wait.source).clock(wait.element)

    def _existence(self, node: PlanNode) -> int:
        """The tick from which on every longer video has the first element."""
        return self._plan.timing(node.outputs[0]).length.count_through(0) - 1

    def _chain(self, value: str) -> Iterator[_Wait]:
        while value in self._waits:
            yield self._waits[value]
            value = self._waits[value].source

    def _parts(self, wait: _Wait) -> Iterator[tuple[Cause, int]]:
        """From the first element of what is read to the first element that the node makes."""
        read = self._tick(wait)
        ready = max(read, self._existence(wait.node))
        made = self._plan.timing(wait.node.outputs[0]).delay
        causes: tuple[tuple[Cause, int], ...] = (
            ("lookahead", read - self._plan.timing(wait.source).delay),
            ("cut", ready - read),
            ("held", made - ready),
        )
        return ((cause, ticks) for cause, ticks in causes if ticks)


def operation_of(node: PlanNode) -> str:
    """For instance ``conv3d``."""
    return node.target.removeprefix("aten.").split(".")[0]

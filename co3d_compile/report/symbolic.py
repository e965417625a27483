"""Times, costs and state as sympy expressions in what a user can turn: window, batch, height and width of frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cached_property

import sympy

from co3d_compile.clock.periodic import Periodic
from co3d_compile.clock.timing import Timing
from co3d_compile.ops.flow import Taps
from co3d_compile.passes.state.histories import kept_for, lasting_reads
from co3d_compile.plan.plan import Form, Plan, PlanNode, Value
from co3d_compile.report.data import OutputFormulas, TotalFormulas
from co3d_compile.report.formula import BATCH, WINDOW, Formula
from co3d_compile.report.frame_sizes import FixedFrame, FrameSizes, clip_macs

AS_COMPILED = FrameSizes(fixed=FixedFrame("", "no one asked for other sizes"))


class Formulas:
    """A plan's numbers with W and B left free, and H and X where the sizes of its tensors follow from the frame's.

    Only windows depend on W, and what comes after them. Where such a window stands on a clock that is not affine
    (after an upsampling in time), W stays what it was compiled for.
    """

    def __init__(self, plan: Plan, sizes: FrameSizes = AS_COMPILED) -> None:
        self._plan = plan
        self._sizes = sizes
        self._resized = self._values_after_windows()
        self._delays: dict[str, sympy.Expr] = {}
        self._reaches: dict[str, sympy.Expr] = {}
        for node in plan.nodes:
            for name in node.outputs:
                if name in self._resized:
                    self._delays[name] = self._latest(node, self.delay, lambda timing: timing.clock) + self._held(node)
                    self._reaches[name] = self._latest(node, self._reach, lambda timing: timing.hi)

    @property
    def window(self) -> int | None:
        """W as compiled; None: there is no window that can be set."""
        return self._smallest_window if any(node.resizable for node in self._plan.nodes) else None

    @property
    def held_windows(self) -> tuple[str, ...]:
        """The modules of windows that can be set, and stay as they are in these formulas."""
        nodes = [node for node in self._plan.nodes if node.resizable and node.outputs[0] not in self._resized]
        return tuple(dict.fromkeys(node.path or node.name for node in nodes))

    def delay(self, value: str) -> sympy.Expr:
        """The tick of the value's first element."""
        return self._delays.get(value, sympy.Integer(self._plan.timing(value).delay))

    def receptive_field(self, value: str) -> sympy.Expr:
        """Frames that one element depends on."""
        if value not in self._resized:
            return sympy.Integer(self._plan.timing(value).receptive_field)
        return self._reach(value) - self._plan.timing(value).lo(0) + 1

    def steady_tick(self, value: str) -> sympy.Expr:
        """The tick of the first element that has seen no padding (a window's width moves no lower end)."""
        timing = self._plan.timing(value)
        return self.delay(value) + timing.clock(timing.front) - timing.clock(0)

    @cached_property
    def state_bytes(self) -> sympy.Expr:
        """Of all streams together."""
        return sympy.Add(*(self._history(value) for value in self._plan.values.values() if value.keep + value.sums))

    @cached_property
    def macs_per_frame(self) -> sympy.Expr:
        """Of all streams together, mean over a period."""
        made = dict.fromkeys(range(len(self._plan.nodes)), Fraction(0))
        for run in (run for phase in self._plan.schedule for run in phase):
            made[run.node] += run.elements(self._plan.nodes[run.node])
        costs = (
            self._sizes.cost(self._plan.nodes[place]) * sympy.Rational(*count.as_integer_ratio())
            for place, count in made.items()
        )
        return BATCH * sympy.Add(*costs) / self._plan.period

    @cached_property
    def clip_macs(self) -> sympy.Expr:
        """Of the original for a clip as long as the example, all streams together."""
        return BATCH * clip_macs(self._plan, self._sizes)

    def of_output(self, value: str) -> OutputFormulas:
        """An output's formulas in writing."""
        return OutputFormulas(
            Formula(self.delay(value)), Formula(self.receptive_field(value)), Formula(self.steady_tick(value))
        )

    def of_totals(self) -> TotalFormulas:
        """The totals' formulas in writing."""
        totals = (self.clip_macs, self.macs_per_frame, self.state_bytes)
        return TotalFormulas(*(Formula(sympy.expand(total)) for total in totals))

    def _values_after_windows(self) -> frozenset[str]:
        after: set[str] = set()
        for node in self._plan.nodes:
            resized = node.resizable or not after.isdisjoint(node.reads)
            if resized and all(self._plan.timing(name).clock.is_affine for name in node.reads):
                after.update(node.outputs)
        return frozenset(after)

    def _reach(self, value: str) -> sympy.Expr:
        """The last input frame that the first element depends on."""
        return self._reaches.get(value, sympy.Integer(self._plan.timing(value).hi(0)))

    def _held(self, node: PlanNode) -> int:
        """Ticks that an element waits after all that it reads is there: where the original cuts elements off."""
        last = node.reading.index.last(0)
        there = max(self._plan.timing(name).clock(last) for name in node.reads)
        return self._plan.timing(node.outputs[0]).delay - there

    def _latest(
        self, node: PlanNode, of: Callable[[str], sympy.Expr], sequence: Callable[[Timing], Periodic]
    ) -> sympy.Expr:
        """The largest of a time of the elements that the first output reads last."""
        place = sympy.Integer(node.reading.index.last(0))
        if node.resizable:
            place = (WINDOW * (node.reading.count // self._smallest_window) - 1) * node.reading.grid
        return sympy.Max(*(self._at(name, place, of, sequence(self._plan.timing(name))) for name in node.reads))

    def _at(self, name: str, place: sympy.Expr, of: Callable[[str], sympy.Expr], times: Periodic) -> sympy.Expr:
        """A time of the value's element at a place: of the first elements several may come at once."""
        if name in self._resized:
            return of(name) + times.step * place
        after = times.unbounded(0) + times.step * place
        return after if times.least is None else sympy.Max(times.least, after)

    def _history(self, value: Value) -> sympy.Expr:
        kept = sympy.Max(0, *(self._kept_for(value.name, taps, node) for taps, node in self._readers[value.name]))
        size = self._sizes.element(value) * value.held_dtype.itemsize
        return (kept + value.sums) * size * (1 if value.layout.batch_dim is None else BATCH)

    def _kept_for(self, value: str, taps: Taps, node: PlanNode) -> sympy.Expr:
        """Elements kept for one reader: the most are needed right before it takes an element."""
        made = node.outputs[0]
        source, reader = self._plan.timing(value), self._plan.timing(made)
        if made not in self._resized or node.form is Form.TRANSPOSED:
            return sympy.Integer(kept_for(source, taps, reader, self._plan.period, node.form))
        begun = self.delay(value) if value in self._resized else source.clock.unbounded(0)
        waited = (self.delay(made) - begun) / source.stride
        return sympy.ceiling(waited) - taps.index.first(0)

    @cached_property
    def _smallest_window(self) -> int:
        """Of pathways at several rates, W counts the elements of the slowest; windows of the others are multiples."""
        return min(node.reading.count for node in self._plan.nodes if node.resizable)

    @cached_property
    def _readers(self) -> Mapping[str, list[tuple[Taps, PlanNode]]]:
        readers: dict[str, list[tuple[Taps, PlanNode]]] = {name: [] for name in self._plan.values}
        for name, taps, node in lasting_reads(self._plan.nodes):
            readers[name].append((taps, node))
        return readers

"""Many ticks at once: every node makes all its elements of a chunk in one run, on the weights as they are.

The same numbers as tick by tick, differentiable, and the way to fill a state from a long past.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, groupby

import torch
from torch import Tensor

from co3d_compile.ops.flow import Absent, Taps, Way
from co3d_compile.ops.table import OperationTable
from co3d_compile.plan.plan import Form, Plan, PlanNode, Value, sums_of, timing_of
from co3d_compile.runtime.eager.statics import static_results
from co3d_compile.runtime.eager.stretches import Stretch, stretch_of
from co3d_compile.runtime.elements import filled_elements, joined_elements, part_of_block
from co3d_compile.runtime.runner import Lookup, NodeRunner
from co3d_compile.runtime.state import Element, Emitted, State, cast

ONE_BY_ONE = (Way.COLLAPSE, Way.GATE, Way.MIXING, Way.RECURRENT)


class BlockEngine:
    """Runs a plan in chunks of ticks.

    Args:
        weights: finds a weight by its original name; read at every run.
    """

    def __init__(self, plan: Plan, weights: Lookup, operations: OperationTable) -> None:
        self.plan = plan
        self._weights = weights
        self._operations = operations

    def advance(self, inputs: Sequence[Tensor | None], ticks: int, state: State) -> tuple[list[Emitted], State]:
        """Take several ticks.

        Args:
            inputs: per input the block of its elements in these ticks; None if it has none.

        Returns:
            Per output the elements that come out, and the state after the ticks.
        """
        find = static_results(self.plan, self._weights, self._operations)
        chunk = _Chunk(self.plan, find, self._operations, state, ticks)
        for given, block in zip(self.plan.inputs, inputs, strict=True):
            chunk.take_input(self.plan.values[given.value], block)
        for node in self.plan.nodes:
            chunk.run(node)
        return chunk.emitted(), chunk.next_state()


class _Chunk:
    """One chunk under way."""

    def __init__(self, plan: Plan, find: Lookup, operations: OperationTable, state: State, ticks: int) -> None:
        self.plan = plan
        self.find = find
        self.operations = operations
        self.state = state
        self.stop = state.tick + ticks
        self.stretches: dict[str, Stretch] = {}
        self.sums: dict[str, tuple[Element, ...]] = {}

    def take_input(self, value: Value, block: Tensor | None) -> None:
        due = self._due(value)
        self._store(value, block if due and block is not None else [], due)

    def run(self, node: PlanNode) -> None:
        runner = NodeRunner(self.plan, node, self.find, self.operations)
        values = [self.plan.values[name] for name in node.outputs]
        due = self._due_again(node) if values[0].again else self._due(values[0])
        if node.form is Form.TRANSPOSED:
            results: Sequence[Tensor | list[Tensor]] = self._accumulated(runner, due)
        elif not due:
            results = [[] for _ in values]
        elif runner.reads_whole_elements or node.way in ONE_BY_ONE:
            results = self._one_by_one(runner, values, due)
        else:
            results = self._whole(runner, due)
        for value, result in zip(values, results, strict=True):
            self._store(value, result, due)

    def emitted(self) -> list[Emitted]:
        outputs = [self.plan.values[output.value] for output in self.plan.outputs]
        return [
            [(n, element) for n in self._due(value) if (element := self._element(value, n)) is not None]
            for value in outputs
        ]

    def next_state(self) -> State:
        kept = {name: len(kept) for name, kept in self.state.histories.items() if name not in self.sums}
        histories = {name: self._kept(self.plan.values[name], count) for name, count in kept.items()} | self.sums
        return replace(self.state, tick=self.stop, histories=histories)

    def _kept(self, value: Value, keep: int) -> tuple[Element, ...]:
        after = timing_of(value).clock.count_through(self.stop - 1)
        elements = [self._element(value, n) for n in range(after - keep, after)]
        # a copy: a view would keep the whole chunk alive
        return tuple(None if element is None else element.to(value.held_dtype, copy=True) for element in elements)

    def _due(self, value: Value) -> range:
        """Numbers of the elements that these ticks make."""
        clock = timing_of(value).clock
        first = max(0, clock.count_through(self.state.tick - 1))
        last = clock.count_through(self.stop - 1)
        if self.state.frames is not None:
            last = min(last, self.plan.length(value.name, self.state.frames))
        return range(first, max(first, last))

    def _due_again(self, node: PlanNode) -> range:
        """With the elements from before these ticks that are made again, as far as what they are made from is there."""
        value = self.plan.values[node.outputs[0]]
        due, end = self._due(value), self._end(value.name)
        stop = due.stop if end is None else min(due.stop, end)
        return range(min(stop, max(0, due.start - value.again, self.stretches[node.reads[0]].begin)), stop)

    def _store(self, value: Value, made: Tensor | list[Tensor], due: range) -> None:
        kept = self.state.histories.get(value.name, ())
        if value.is_rounded:
            kept = tuple(cast(element, value.dtype) for element in kept)
        first = timing_of(value).clock.count_through(self.state.tick - 1) - len(kept)
        self.stretches[value.name] = Stretch(first, kept, made, due.start, len(due))

    def _element(self, value: Value, n: int) -> Element:
        return self.stretches[value.name].element(n, value, self.state.batch)

    def _one_by_one(self, runner: NodeRunner, values: Sequence[Value], due: range) -> Sequence[Tensor | list[Tensor]]:
        node = runner.node
        columns: list[list[Tensor]] = [[] for _ in values]
        for n in due:
            for value in values if node.carried else ():
                self._store(value, columns[values.index(value)], range(due.start, n))
            taps = [self._taps(name, read, n) for name, read in zip(node.reads, node.taps, strict=True)]
            made = runner.run_taps(taps, self.state.batch, self._like(runner), n)
            share = node.reading.share(n, self._length(node.reads[0]))
            for column, (element,) in zip(columns, made, strict=True):
                column.append(element if share == 1.0 else element * share)
        return [
            joined_elements(column, value.layout, self.state.batch) if value.has_time else column
            for value, column in zip(values, columns, strict=True)
        ]

    def _accumulated(self, runner: NodeRunner, due: range) -> Sequence[Tensor | list[Tensor]]:
        """A node in transposed form: what the elements taken in these ticks add to the sums from before them."""
        node = runner.node
        clock = self.plan.feeding_clock(node)
        taken = range(clock.count_through(self.state.tick - 1), clock.count_through(self.stop - 1))
        begun = self._sums(node, taken)
        whole = self.stretches[node.reads[0]]
        self.stretches[node.reads[0]] = replace(whole, seen=taken)
        made: list[Tensor | list[Tensor]] = [self._completed(runner, due, begun) if due else []]
        self.sums[sums_of(node.outputs[0])] = self._under_way(runner, taken, begun)
        self.stretches[node.reads[0]] = whole
        return made

    def _sums(self, node: PlanNode, taken: range) -> dict[int, Tensor]:
        """The partial sums from before these ticks, by number of their output."""
        held = self.state.histories[sums_of(node.outputs[0])]
        newest = node.reading.begun(taken.start - 1)
        first, dtype = newest - len(held) + 1, self.plan.values[node.outputs[0]].dtype
        return {first + place: total.to(dtype) for place, total in enumerate(held) if total is not None}

    def _completed(self, runner: NodeRunner, due: range, begun: Mapping[int, Tensor]) -> Tensor:
        """The outputs due: a run on the elements taken now, with the sums from before added to the first of them."""
        (block,) = self._unshared(runner, due)
        first = max((n + 1 for n in begun if n in due), default=due.start) - due.start
        parts = [self._with_sum(runner, block, n - due.start, begun.get(n)) for n in due[:first]]
        if first < len(due):
            parts.append(part_of_block(block, runner.layouts[0], self.state.batch, first, len(due) - first))
        (whole,) = self._shared_out(runner, [joined_elements(parts, runner.layouts[0], self.state.batch)], due)
        return whole

    def _under_way(self, runner: NodeRunner, taken: range, begun: Mapping[int, Tensor]) -> tuple[Element, ...]:
        """The partial sums after these ticks."""
        node, taps = runner.node, runner.node.reading
        numbers = range(taps.completed(taken.stop - 1) + 1, taps.begun(taken.stop - 1) + 1)
        fed = [n for n in numbers if self._is_fed(node, n, taken)]
        sums: dict[int, Element] = {n: begun.get(n) for n in numbers}
        if fed:
            shares = NodeRunner(self.plan, node, self.find, self.operations, shares_alone=True)
            (block,) = self._unshared(shares, range(fed[0], fed[-1] + 1))
            sums |= {n: self._with_sum(runner, block, n - fed[0], begun.get(n)) for n in fed}
        made = self.plan.values[node.outputs[0]]
        places = range(numbers.stop - made.sums, numbers.stop)
        # a copy: a view would keep the whole chunk alive
        return tuple(None if (total := sums.get(n)) is None else total.to(made.held_dtype, copy=True) for n in places)

    def _is_fed(self, node: PlanNode, n: int, taken: range) -> bool:
        """An element that exists and is taken in these ticks adds to output n, which exists."""
        end, ends = self._end(node.reads[0]), self._end(node.outputs[0])
        there = range(max(0, taken.start), taken.stop if end is None else min(taken.stop, end))
        return n >= 0 and (ends is None or n < ends) and any(place in there for place in node.reading.places(n))

    def _with_sum(self, runner: NodeRunner, block: Tensor, place: int, total: Element) -> Tensor:
        part = part_of_block(block, runner.layouts[0], self.state.batch, place, 1)
        assert runner.rule is not None
        return part if total is None else runner.rule.combined(total, part)

    def _taps(self, name: str, taps: Taps, n: int) -> list[Element]:
        value = self.plan.values[name]
        return [self._tap(value, place, taps) for place in taps.places(n)]

    def _whole(self, runner: NodeRunner, due: range) -> Sequence[Tensor]:
        return self._shared_out(runner, self._unshared(runner, due), due)

    def _unshared(self, runner: NodeRunner, due: range) -> Sequence[Tensor]:
        """Outputs whose averages are all divided by the kernel's size."""
        return self._run(runner, due) if runner.node.reading.apart == 1 else self._interleaved(runner, due)

    def _shared_out(self, runner: NodeRunner, results: Sequence[Tensor], due: range) -> Sequence[Tensor]:
        length = self._length(runner.node.reads[0])
        shares = [runner.node.reading.share(n, length) for n in due]
        return results if all(share == 1.0 for share in shares) else [self._shared(runner, results[0], shares)]

    def _interleaved(self, runner: NodeRunner, due: range) -> Sequence[Tensor]:
        """At a dense rate: each phase of the strided network in one run of its own."""
        apart = runner.node.reading.apart
        phases = [due[phase::apart] for phase in range(min(apart, len(due)))]
        runs = [self._run(runner, phase) for phase in phases]
        return [
            joined_elements(
                [
                    part_of_block(runs[place % apart][output], layout, self.state.batch, place // apart, 1)
                    for place in range(len(due))
                ],
                layout,
                self.state.batch,
            )
            for output, layout in enumerate(runner.layouts)
        ]

    def _run(self, runner: NodeRunner, due: range) -> Sequence[Tensor]:
        """Outputs that one run of the operator would make, if no operand were absent from some of them."""
        if all(taps.fill is not Absent.NOTHING for taps in runner.node.taps):
            return self._run_alike(runner, due)
        counts = [len(list(alike)) for _, alike in groupby(due, partial(self._absent, runner.node))]
        parts = [
            due[start : start + count] for start, count in zip(accumulate(counts, initial=0), counts, strict=False)
        ]
        runs = zip(*(self._run_alike(runner, part) for part in parts), strict=True)
        return [
            joined_elements(pieces, layout, self.state.batch)
            for pieces, layout in zip(runs, runner.layouts, strict=True)
        ]

    def _absent(self, node: PlanNode, n: int) -> frozenset[str]:
        """The operands that have no element for output n to read."""
        return frozenset(
            name
            for name, taps in zip(node.reads, node.taps, strict=True)
            if taps.fill is Absent.NOTHING and taps.stand_in(taps.first(n), self._end(name)) is None
        )

    def _run_alike(self, runner: NodeRunner, due: range) -> Sequence[Tensor]:
        """Outputs that lack the same operands, in one run of the operator."""
        node, how, batch = runner.node, runner.node.reading, self.state.batch
        absent = self._absent(node, due[0])
        read = {name: stretch_of(taps, due) for name, taps in zip(node.reads, node.taps, strict=True)}
        operands = {
            name: self._block(name, read[name], runner, taps)
            for name, taps in zip(node.reads, node.taps, strict=True)
            if name not in absent
        }
        results = runner.run(operands, len(due), len(read[node.reads[0]]), batch)
        if how.produces is None:
            return results
        start = how.skipped(due.start)
        layouts = zip(results, runner.layouts, strict=True)
        return [part_of_block(result, layout, batch, start, len(due)) for result, layout in layouts]

    def _shared(self, runner: NodeRunner, result: Tensor, shares: Sequence[float]) -> Tensor:
        """Averages near the ends, each divided by the taps that count there."""
        layout = runner.layouts[0]
        parts = [part_of_block(result, layout, self.state.batch, n, 1) * share for n, share in enumerate(shares)]
        return joined_elements(parts, layout, self.state.batch)

    def _length(self, name: str) -> int:
        end = self._end(name)
        return timing_of(self.plan.values[name]).clock.count_through(self.stop - 1) if end is None else end

    def _end(self, name: str) -> int | None:
        """Elements of the whole video, once its end is known."""
        return None if self.state.frames is None else self.plan.length(name, self.state.frames)

    def _block(self, name: str, read: range, runner: NodeRunner, taps: Taps) -> Tensor:
        """Some elements as one block, with what stands for those that the original does not have."""
        value = self.plan.values[name]
        stretch = self.stretches[name]
        made = stretch.block(read)
        if not made or isinstance(stretch.made, list) or read.step > 1:
            return self._filled(value, [self._tap(value, n, taps) for n in read], runner, taps)
        part = stretch.made
        if len(made) < stretch.made_count:
            part = part_of_block(part, value.layout, self.state.batch, made.start - stretch.made_first, len(made))
        before = [self._tap(value, n, taps) for n in range(read.start, made.start)]
        after = [self._tap(value, n, taps) for n in range(made.stop, read.stop)]
        return self._filled(value, [*before, part, *after], runner, taps)

    def _tap(self, value: Value, place: int, taps: Taps) -> Element:
        """The element that is read for element ``place``."""
        read = taps.stand_in(place, self._end(value.name))
        return None if read is None else self._element(value, read)

    def _filled(self, value: Value, pieces: Sequence[Element], runner: NodeRunner, taps: Taps) -> Tensor:
        like = self._like(runner)
        return joined_elements(
            filled_elements(pieces, value.layout, self.state.batch, taps.constant, like),
            value.layout,
            self.state.batch,
        )

    def _like(self, runner: NodeRunner) -> Tensor:
        value = self.plan.values[runner.node.reads[0]]
        return torch.empty(
            (), dtype=value.dtype, device=self.find(self.plan.weights[0]).device if self.plan.weights else None
        )

"""One tick at a time: what is due fires, in the plan's order, on the elements that the schedule names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from co3d_compile.ops.flow import ONE, Taps
from co3d_compile.ops.table import OperationTable
from co3d_compile.plan.plan import Plan, PlanNode, feeding_of, sums_of
from co3d_compile.runtime.eager.accumulation import AccumulatingKernel
from co3d_compile.runtime.eager.kernels import Kernel, kernels_for
from co3d_compile.runtime.eager.reuse import makes_new
from co3d_compile.runtime.eager.rounding import restoring, roundings
from co3d_compile.runtime.eager.runs import Elements, ready
from co3d_compile.runtime.eager.statics import static_results
from co3d_compile.runtime.runner import Lookup
from co3d_compile.runtime.state import Element, Emitted, State

Watch = Callable[[str, int, Tensor], None]


class EagerEngine:
    """Runs a plan in torch.

    Args:
        weights: finds a weight by its original name.

    Attributes:
        devices: that the weights are on.
    """

    def __init__(self, plan: Plan, weights: Lookup, operations: OperationTable) -> None:
        self.plan = plan
        self._weights = [weights(name) for name in plan.weights]
        self.devices = frozenset(weight.device for weight in self._weights)
        self._version = _writes_to(self._weights)
        self.constants = static_results(plan, weights, operations)
        self._kernels = restoring(plan, kernels_for(plan, self.constants, operations))
        self._schedule = tuple(
            tuple(ready(plan, run, self._kernels[run.node]) for run in phase if run.node in self._kernels)
            for phase in plan.schedule
        )
        self._due_inputs = tuple(
            tuple((place, given.value) for place, given in enumerate(plan.inputs) if phase % given.rate == 0)
            for phase in range(plan.period)
        )

        views = {name for node in plan.nodes if not makes_new(node) for name in node.outputs}
        kept_views = sorted(name for name in views if plan.values[name].keep)
        self._held = tuple((dict.fromkeys(kept_views, _owned) | roundings(plan)).items())
        self._shared_outputs = {out.value for out in plan.outputs if out.value in views or plan.values[out.value].keep}

    @property
    def is_current(self) -> bool:
        """No weight has been written to since the engine took its own copies."""
        return _writes_to(self._weights) == self._version

    def step(self, frames: Sequence[Element], state: State, watch: Watch | None = None) -> tuple[list[Emitted], State]:
        """Take one tick.

        Args:
            frames: per input its element, or None where it has none at this tick or the video is over.
            watch: told of every element as it is made (value, number, element).

        Returns:
            Per output the elements that come out, and the next state.
        """
        phase = state.tick % self.plan.period
        elements: Elements = dict(state.histories)
        for place, name in self._due_inputs[phase]:
            elements[name] = (*elements.get(name, ()), frames[place])
        if watch is None and state.frames is None and state.tick >= self.plan.steady_tick:
            for run in self._schedule[phase]:
                run(elements, state.batch)
        else:
            self._fire_at_ends(elements, state, watch)
        return self._emitted(elements, state.tick), self._advanced(state, elements)

    def _fire_at_ends(self, elements: Elements, state: State, watch: Watch | None) -> None:
        """Near the ends: elements that the original does not have are None, and readers see what stands for them."""
        for place, kernel in self._kernels.items():
            node = self.plan.nodes[place]
            if isinstance(kernel, AccumulatingKernel):
                self._feed_at_ends(place, kernel, elements, state)
            else:
                for n in self._run_for(node, kernel.outputs[0], elements, state.tick):
                    self._run_at_ends(node, kernel, n, elements, state)
            if watch is not None:
                self._show(watch, kernel.outputs, elements, state.tick)

    def _run_at_ends(self, node: PlanNode, kernel: Kernel, n: int, elements: Elements, state: State) -> None:
        results: Sequence[Sequence[Element]] = ((None,),) * len(kernel.outputs)
        if self._exists(kernel.outputs[0], n, state):
            taps = [
                self._taps(name, taps, n, elements, state, own=name in node.outputs)
                for name, taps in zip(node.reads, node.taps, strict=True)
            ]
            results = kernel.run_at_ends(taps, state.batch, n, self._length_seen(node.reads[0], state))
        for name, (result,) in zip(kernel.outputs, results, strict=True):
            elements[name] = (*elements.get(name, ()), result)

    def _feed_at_ends(self, place: int, kernel: AccumulatingKernel, elements: Elements, state: State) -> None:
        """The elements taken at this tick, as far as they exist, for outputs that exist."""
        node = self.plan.nodes[place]
        clock, made = self.plan.feeding_clock(node), kernel.outputs[0]
        for element in range(clock.count_through(state.tick - 1), clock.count_through(state.tick)):
            feeding = feeding_of(place, node.reading, element, 0)
            newest = node.reading.begun(element)
            held = sums_of(node.outputs[0])
            sums = [*elements[held], *(None,) * feeding.begun]
            (read,) = self._taps(node.reads[0], ONE, element, elements, state, own=False)
            for tap, back in feeding.shares:
                if read is not None and self._exists(made, newest - back, state):
                    sums[-1 - back] = kernel.feed(read, tap, sums[-1 - back])
            if feeding.done is not None:
                result = self._finished(node, kernel, newest - feeding.done, sums[-1 - feeding.done], state)
                sums[-1 - feeding.done] = None
                elements[made] = (*elements.get(made, ()), result)
            elements[held] = tuple(sums[-len(elements[held]) :])

    def _finished(self, node: PlanNode, kernel: AccumulatingKernel, n: int, total: Element, state: State) -> Element:
        if not self._exists(node.outputs[0], n, state):
            return None
        return kernel.finish_at_ends(total, state.batch, n, self._length_seen(node.reads[0], state))

    def _show(self, watch: Watch, names: Sequence[str], elements: Elements, tick: int) -> None:
        for name in names:
            due, made = self._due(name, tick), elements.get(name, ())
            for n, element in zip(due, made[len(made) - len(due) :], strict=True):
                if element is not None:
                    watch(name, n, element)

    def _taps(
        self,
        name: str,
        taps: Taps,
        n: int,
        elements: Elements,
        state: State,
        *,
        own: bool,
    ) -> list[Element]:
        """What output n reads of a value, perhaps its own; None where nothing stands for a missing element."""
        there = elements.get(name, ())
        newest = len(there) - 1
        last = (n if own else self._made(name, state.tick)) - 1
        length = None if state.frames is None else self.plan.length(name, state.frames)
        found: list[Element] = []
        for place in taps.places(n):
            read = taps.stand_in(place, length)
            found.append(None if read is None else there[newest - (last - read)])
        return found

    def _due(self, name: str, tick: int) -> range:
        return range(self._made(name, tick - 1), self._made(name, tick))

    def _run_for(self, node: PlanNode, name: str, elements: Elements, tick: int) -> range:
        """The elements that a node makes, with those that it makes again as far as what it makes them from is there."""
        due, again = self._due(name, tick), self.plan.values[name].again
        if not again:
            return due
        (source,) = node.reads
        return range(max(due.start - again, self._made(source, tick) - len(elements.get(source, ()))), due.stop)

    def _made(self, name: str, tick: int) -> int:
        return self.plan.timing(name).clock.count_through(tick)

    def _exists(self, name: str, n: int, state: State) -> bool:
        return n >= 0 and (state.frames is None or n < self.plan.length(name, state.frames))

    def _length_seen(self, name: str, state: State) -> int:
        """Elements of a value; before the end is known, those that exist by now."""
        return self._made(name, state.tick) if state.frames is None else self.plan.length(name, state.frames)

    def _emitted(self, elements: Elements, tick: int) -> list[Emitted]:
        emitted: list[Emitted] = []
        for output in self.plan.outputs:
            due = self._due(output.value, tick)
            made = elements.get(output.value, ())
            fresh = made[len(made) - len(due) :]
            if output.value in self._shared_outputs:
                # the user may write to what comes out; the state must not see it
                fresh = tuple(None if element is None else element.clone() for element in fresh)
            emitted.append([(n, e) for n, e in zip(due, fresh, strict=True) if e is not None])
        return emitted

    def _advanced(self, state: State, elements: Elements) -> State:
        histories = {name: elements[name][-len(kept) :] for name, kept in state.histories.items()}
        for name, held in self._held:
            histories[name] = tuple(map(held, histories[name]))
        return replace(state, tick=state.tick + 1, histories=histories)


def _writes_to(weights: Sequence[Tensor]) -> int:
    # an inference tensor, as a copy of the network under torch.inference_mode holds, does not count
    return sum(weight._version for weight in weights if not weight.is_inference())


def _owned(element: Element) -> Element:
    """The element without the rest of a larger tensor that it is a view of."""
    if element is None or element.untyped_storage().nbytes() <= element.numel() * element.element_size():
        return element
    return element.clone()

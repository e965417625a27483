"""One tick at a time: what is due fires, in the plan's order, on the elements that the schedule names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from co3d_compile.ops.flow import Taps
from co3d_compile.ops.table import OperationTable
from co3d_compile.plan.plan import Firing, Plan
from co3d_compile.runtime.eager.kernels import Kernel, kernels_for
from co3d_compile.runtime.eager.reuse import makes_new
from co3d_compile.runtime.eager.statics import static_results
from co3d_compile.runtime.runner import Lookup
from co3d_compile.runtime.state import Element, Emitted, State

Watch = Callable[[str, int, Tensor], None]


@dataclass(frozen=True)
class Ready:
    """A firing with everything found: where its operands are, what runs, where its results go."""

    kernel: Kernel
    reads: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[str, ...]
    element: int
    count: int


class EagerEngine:
    """Runs a plan in torch.

    Args:
        weights: finds a weight by its original name.
    """

    def __init__(self, plan: Plan, weights: Lookup, operations: OperationTable) -> None:
        self.plan = plan
        self._weights = [weights(name) for name in plan.weights]
        self._version = sum(weight._version for weight in self._weights)
        self.constants = static_results(plan, weights, operations)
        kernels = self._kernels = kernels_for(plan, self.constants, operations)
        self._schedule = tuple(
            tuple(self._ready(f, kernels) for f in phase if f.node in kernels) for phase in plan.schedule
        )
        self._due_inputs = tuple(
            tuple((place, given.value) for place, given in enumerate(plan.inputs) if phase % given.rate == 0)
            for phase in range(plan.period)
        )

        views = {name for node in plan.nodes if not makes_new(node) for name in node.outputs}
        self._kept_views = sorted(name for name in views if plan.values[name].keep)
        self._shared_outputs = {out.value for out in plan.outputs if out.value in views or plan.values[out.value].keep}

    @property
    def is_current(self) -> bool:
        """No weight has been written to since the engine took its own copies."""
        return sum(weight._version for weight in self._weights) == self._version

    def _ready(self, firing: Firing, kernels: dict[int, Kernel]) -> Ready:
        kernel = kernels[firing.node]
        node = self.plan.nodes[firing.node]
        reads = tuple(
            (name, tuple(-1 - back for back in backs)) for name, backs in zip(node.reads, firing.backs, strict=True)
        )
        return Ready(kernel, reads, kernel.outputs, firing.element, firing.count)

    def step(self, frames: Sequence[Element], state: State, watch: Watch | None = None) -> tuple[list[Emitted], State]:
        """Take one tick.

        Args:
            frames: per input its element, or None where it has none at this tick or the video is over.
            watch: told of every element as it is made (value, number, element).

        Returns:
            Per output the elements that come out, and the next state.
        """
        phase = state.tick % self.plan.period
        elements: dict[str, tuple[Element, ...]] = dict(state.histories)
        for place, name in self._due_inputs[phase]:
            elements[name] = (*elements.get(name, ()), frames[place])
        if watch is None and state.frames is None and state.tick >= self.plan.steady_tick:
            self._fire(self._schedule[phase], elements, state.batch)
        else:
            self._fire_at_ends(elements, state, watch)
        return self._emitted(elements, state.tick), self._advanced(state, elements)

    def _fire(self, firings: Sequence[Ready], elements: dict[str, tuple[Element, ...]], batch: int) -> None:
        """In the middle of the video: everything that is read exists."""
        for firing in firings:
            taps = [[elements[name][place] for place in places] for name, places in firing.reads]
            results = firing.kernel.run(taps, batch, firing.element, firing.count)
            for name, result in zip(firing.outputs, results, strict=True):
                elements[name] = (*elements.get(name, ()), *result)

    def _fire_at_ends(self, elements: dict[str, tuple[Element, ...]], state: State, watch: Watch | None) -> None:
        """Near the ends: elements that the original does not have are None, and readers see what stands for them."""
        for place, kernel in self._kernels.items():
            node = self.plan.nodes[place]
            for n in self._due(kernel.outputs[0], state.tick):
                results: Sequence[Sequence[Element]] = ((None,),) * len(kernel.outputs)
                if self._exists(kernel.outputs[0], n, state):
                    taps = [
                        self._taps(name, taps, n, elements, state, own=name in node.outputs)
                        for name, taps in zip(node.reads, node.taps, strict=True)
                    ]
                    results = kernel.run_at_ends(taps, state.batch, n, self._length_seen(node.reads[0], state))
                for name, (result,) in zip(kernel.outputs, results, strict=True):
                    elements[name] = (*elements.get(name, ()), result)
                    if watch is not None and result is not None:
                        watch(name, n, result)

    def _taps(
        self,
        name: str,
        taps: Taps,
        n: int,
        elements: dict[str, tuple[Element, ...]],
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

    def _made(self, name: str, tick: int) -> int:
        return self.plan.timing(name).clock.count_through(tick)

    def _exists(self, name: str, n: int, state: State) -> bool:
        return n >= 0 and (state.frames is None or n < self.plan.length(name, state.frames))

    def _length_seen(self, name: str, state: State) -> int:
        """Elements of a value; before the end is known, those that exist by now."""
        return self._made(name, state.tick) if state.frames is None else self.plan.length(name, state.frames)

    def _emitted(self, elements: dict[str, tuple[Element, ...]], tick: int) -> list[Emitted]:
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

    def _advanced(self, state: State, elements: dict[str, tuple[Element, ...]]) -> State:
        histories = {name: elements[name][-len(kept) :] for name, kept in state.histories.items()}
        for name in self._kept_views:
            histories[name] = tuple(_owned(element) for element in histories[name])
        return replace(state, tick=state.tick + 1, histories=histories)


def _owned(element: Element) -> Element:
    """The element without the rest of a larger tensor that it is a view of."""
    if element is None or element.untyped_storage().nbytes() <= element.numel() * element.element_size():
        return element
    return element.clone()

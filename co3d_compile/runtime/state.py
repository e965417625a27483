"""The state between two ticks: a value with a batch axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from co3d_compile.errors import StateError
from co3d_compile.layout import Layout, Mark
from co3d_compile.plan.plan import Plan, sums_of

Element = Tensor | None
"""One element of a value; None stands for one before the first or after the last."""

Emitted = list[tuple[int, Tensor]]
"""The elements that came out of one output, with their numbers."""


@dataclass(frozen=True)
class State:
    """What a network keeps between two ticks. Steps never change it: they return the next one.

    Attributes:
        network: fingerprint of the plan that it belongs to.
        tick: the next tick.
        batch: streams in lockstep.
        histories: per value with a history, its last elements, oldest first; of one that is under way as partial
            sums these, None for places that wait for an output to begin.
        frames: frames that the video had, once it is over.
    """

    network: str
    tick: int
    batch: int
    histories: Mapping[str, tuple[Element, ...]]
    layouts: Mapping[str, Layout]
    frames: int | None = None

    @property
    def bytes(self) -> int:
        """Memory that the elements really hold."""
        return sum(element.untyped_storage().nbytes() for element in self._elements())

    def rows(self, streams: Sequence[int]) -> State:
        """Some streams of the batch, in the order given.

        Raises:
            StateError: there is no stream of that number.
        """
        wrong = [row for row in streams if not 0 <= row < self.batch]
        if wrong or not streams:
            raise StateError(f"the state holds streams 0 to {self.batch - 1}, not {list(streams)}\n  try: rows it has")
        return replace(
            self, batch=len(streams), histories=self._mapped(lambda x, at: _taken(x, at, streams, self.batch))
        )

    def to(self, device: torch.device | str) -> State:
        """The state on another device."""
        return replace(self, histories=self._mapped(lambda element, _: element.to(device)))

    def detach(self) -> State:
        """The state cut off from the autograd graph of the steps before it."""
        return replace(self, histories=self._mapped(lambda element, _: element.detach()))

    def _elements(self) -> Iterable[Tensor]:
        return (element for kept in self.histories.values() for element in kept if element is not None)

    def _mapped(self, change: Callable[[Tensor, Layout], Tensor]) -> dict[str, tuple[Element, ...]]:
        return {
            name: tuple(None if element is None else change(element, self.layouts[name]) for element in kept)
            for name, kept in self.histories.items()
        }


def cast(element: Element, dtype: torch.dtype) -> Element:
    """An element in another dtype; one that does not exist still does not."""
    return None if element is None else element.to(dtype)


def initial_state(plan: Plan, fingerprint: str, batch: int) -> State:
    """The state before the first frame: no element exists."""
    kept = {name: (value.keep, value.layout) for name, value in plan.values.items() if value.keep}
    sums = {sums_of(name): (value.sums, value.layout) for name, value in plan.values.items() if value.sums}
    return State(
        network=fingerprint,
        tick=plan.first_tick,
        batch=batch,
        histories={name: (None,) * count for name, (count, _) in (kept | sums).items()},
        layouts={name: layout for name, (_, layout) in (kept | sums).items()},
    )


def join_states(states: Sequence[State]) -> State:
    """One state whose batch holds the streams of all, in order.

    Streams that began at other times can share a step once their states hold the same elements: equal ticks, or,
    once they are warm, equal phases (the tick of the first is kept).

    Raises:
        StateError: the states belong to different networks or phases, or hold different elements.
    """
    first = states[0]
    for other in states[1:]:
        if other.network != first.network or other.frames != first.frames:
            raise StateError("states of different networks, or of streams that have ended, cannot be joined")
        if [[e is None for e in kept] for kept in other.histories.values()] != [
            [e is None for e in kept] for kept in first.histories.values()
        ]:
            raise StateError(
                f"the states at ticks {first.tick} and {other.tick} hold different elements\n"
                "  try: join them once both are warm, at ticks a whole number of periods apart"
            )
    histories = {
        name: tuple(_joined([s.histories[name][n] for s in states], first.layouts[name]) for n in range(len(kept)))
        for name, kept in first.histories.items()
    }
    return replace(first, batch=sum(state.batch for state in states), histories=histories)


def _taken(element: Tensor, layout: Layout, streams: Sequence[int], batch: int) -> Tensor:
    index = torch.tensor(list(streams), device=element.device)
    spread, dim = _with_batch_apart(element, layout, batch)
    return spread.index_select(dim, index).reshape(layout.running_shape(1, len(streams)))


def _joined(elements: Sequence[Element], layout: Layout) -> Element:
    if elements[0] is None:
        return None
    dim = layout.batch_dim
    assert dim is not None
    tensors = [element for element in elements if element is not None]
    batch = sum(tensor.shape[dim] for tensor in tensors) if layout.dims[dim] == (Mark.BATCH,) else None
    if batch is not None:
        return torch.cat(tensors, dim)
    return _joined_apart(tensors, layout)


def _joined_apart(tensors: Sequence[Tensor], layout: Layout) -> Tensor:
    dim = layout.batch_dim
    assert dim is not None
    counts = [tensor.shape[dim] // (layout.running_shape(1, 1)[dim]) for tensor in tensors]
    parts = [_with_batch_apart(tensor, layout, count)[0] for tensor, count in zip(tensors, counts, strict=True)]
    return torch.cat(parts, dim + 1).reshape(layout.running_shape(1, sum(counts)))


def _with_batch_apart(element: Tensor, layout: Layout, batch: int) -> tuple[Tensor, int]:
    """The element with the batch as a dimension of its own, and which."""
    dim = layout.batch_dim
    if dim is None:
        raise StateError("this network has no batch of streams\n  try: one state per stream")
    outer, _, inner = layout.around(Mark.BATCH, 1, batch)
    return element.reshape(*element.shape[:dim], outer, batch, inner, *element.shape[dim + 1 :]), dim + 1

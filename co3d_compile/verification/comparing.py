"""The stream's side: every element that it makes; and the measure of how well one tensor agrees."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import inf

import torch
from torch import Tensor

from co3d_compile.plan.plan import Plan, Value, timing_of
from co3d_compile.runtime.eager.engine import Watch
from co3d_compile.runtime.elements import at_full_size
from co3d_compile.runtime.frames import read_frames
from co3d_compile.runtime.module import StreamingModule
from co3d_compile.runtime.state import State
from co3d_compile.verification.result import Comparison

ROUNDING = {torch.float64: 64, torch.float32: 64, torch.bfloat16: 8, torch.float16: 16}
"""Units in the last place of the largest value by which sums taken in another order may differ."""

OF_MOVEMENT = 1e-4
"""Of how far the original's output moves between elements: the law's tolerance."""

OF_MOVEMENT_INSIDE = 1e-3
"""The same for a tensor inside: a saturating gate, for one, magnifies the rounding of what it reads."""

Elements = dict[str, dict[int, Tensor]]
"""Per value its elements by number."""


def stream_elements(network: StreamingModule, video: Sequence[Tensor], frames: int) -> Elements:
    """Push a video frame by frame through flush; keep every element of every value."""
    elements: Elements = defaultdict(dict)

    batch = network.plan.values[network.plan.inputs[0].value].layout.batch

    def watch(name: str, n: int, element: Tensor) -> None:
        elements[name][n] = at_full_size(element, network.plan.values[name].layout, batch).clone()

    watch_stream(network, video, frames, watch)
    return elements


def watch_stream(
    network: StreamingModule,
    video: Sequence[Tensor],
    frames: int,
    watch: Watch,
    change: Callable[[State, State], State] | None = None,
) -> None:
    """Push a video frame by frame through flush; show every element of every value.

    Args:
        change: what becomes of a state: it is given the state before the tick, and the one after it.
    """
    plan = network.plan
    state = network.initial_state(plan.values[plan.inputs[0].value].layout.batch)
    nothing: list[Tensor | None] = [None] * len(plan.inputs)
    while state.tick <= max(frames - 1, _last_tick(plan, frames)):
        if state.tick == frames:
            state = network.end(state)
        due = _frames_at(network, video, state) if 0 <= state.tick < frames else nothing
        before = state
        _, state = network.engine.step(due, before, watch)
        state = state if change is None else change(before, state)


def _last_tick(plan: Plan, frames: int) -> int:
    """The tick of the last element of any value: windows that start at every so many may not need it."""
    timings = [value.timing for value in plan.values.values() if value.timing is not None]
    return max(timing.clock(timing.count(frames) - 1) for timing in timings if timing.count(frames))


def _frames_at(network: StreamingModule, video: Sequence[Tensor], state: State) -> Sequence[Tensor | None]:
    inputs = network.plan.inputs
    frame = [
        tensor.select(one.time_axis, state.tick // one.rate) if state.tick % one.rate == 0 else None
        for one, tensor in zip(inputs, video, strict=True)
    ]
    return read_frames(network.plan, frame, state, network.engine.devices)


def roundings_of(plan: Plan) -> dict[str, float]:
    """Per value what rounding may change of its largest number: that of the coarsest dtype on the way to it."""
    found = {name: ROUNDING.get(value.dtype, 0) * _eps(value.dtype) for name, value in plan.values.items()}
    for node in plan.nodes:
        behind = max(found[name] for name in node.reads)
        found |= {name: max(found[name], behind) for name in node.outputs if plan.values[name].dtype.is_floating_point}
    return found


def _eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps if dtype.is_floating_point else 0.0


class Tally:
    """How well one value agrees with the original, element by element.

    Args:
        rounding: what it may change of the value's largest number.
    """

    def __init__(self, value: Value, against: str, rounding: float) -> None:
        self._value = value
        self._rounding = rounding
        self._grid = timing_of(value).grid
        self._against = against
        self._seen: set[int] = set()
        self._wanted: set[int] = set()
        self._previous: tuple[int, Tensor] | None = None
        self._difference = 0.0
        self._movement = 0.0
        self._largest = 0.0

    @property
    def expected(self) -> int:
        """Elements that the original has; overlapping windows hold some of them more than once."""
        return len(self._wanted)

    def compare(self, n: int, original: Tensor, streamed: Tensor | None) -> None:
        """One element, phase by phase in the order of their numbers."""
        self._wanted.add(n)
        if self._previous is not None and self._previous[0] == n - self._grid:
            self._movement = max(self._movement, distance(original, self._previous[1]))
        self._previous = (n, original)
        finite = original[original.isfinite()]
        self._largest = max(self._largest, finite.abs().max().item() if finite.numel() else 0.0)
        if streamed is not None and streamed.shape == original.shape:
            self._seen.add(n)
            self._difference = max(self._difference, distance(original, streamed))

    def extra(self, numbers: Iterable[int]) -> None:
        """Elements that the original does not have."""
        if list(numbers):
            self._difference = inf

    def comparison(self, name: str, *, inside: bool = False, allowed: float = 0.0) -> Comparison:
        """What was found; ``allowed``: a difference that is expected, beyond the tolerance."""
        of_movement = OF_MOVEMENT_INSIDE if inside else OF_MOVEMENT
        return Comparison(
            name=name,
            path=self._value.path,
            against=self._against,
            elements=len(self._seen),
            expected=self.expected,
            difference=self._difference,
            movement=self._movement,
            largest=self._largest,
            tolerance=max(of_movement * self._movement, self._rounding * self._largest, allowed),
        )


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference; infinite where only one of the two is a number. Equal infinities agree."""
    if one.dtype is torch.bool:
        one, other = one.int(), other.int()
    same = (one == other) | (one.isnan() & other.isnan())
    apart = torch.where(same, torch.zeros_like(one), one - other).abs().double()
    return apart.nan_to_num(nan=inf).max().item() if apart.numel() else 0.0

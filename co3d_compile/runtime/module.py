"""The plan as something to call: one tick, a stream, or a whole video."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from co3d_compile.clock.periodic import Periodic
from co3d_compile.errors import StateError
from co3d_compile.plan.plan import Plan
from co3d_compile.runtime.eager.engine import EagerEngine, Emitted
from co3d_compile.runtime.frames import batch_of, read_frames, read_video
from co3d_compile.runtime.outputs import OutputStructure
from co3d_compile.runtime.state import State, initial_state
from co3d_compile.runtime.stream import Stream
from co3d_compile.runtime.weights import Weights

Frame = Tensor | Sequence[Tensor | None]
"""One frame per stream: a tensor, or one entry per input."""


class StreamingModule(nn.Module):
    """A compiled network that runs.

    Args:
        plan: what to run.
        weights: by their original names.
        fingerprint: tells states of this network from others'.
    """

    def __init__(self, plan: Plan, weights: Weights) -> None:
        super().__init__()
        self.plan = plan
        self.weights = weights
        self.outputs = OutputStructure(plan)
        self.fingerprint = hashlib.sha256(repr(plan).encode()).hexdigest()
        self._engine: EagerEngine | None = None
        self._engine_version = -1

    def initial_state(self, batch: int = 1) -> State:
        """The state before the first frame, for ``batch`` streams in lockstep.

        Raises:
            StateError: the network has no batch dimension to widen.
        """
        if self.plan.fixed_batch and batch != self._clip_batch:
            raise StateError(
                f"{self.plan.fixed_batch}, so the batch stays at {self._clip_batch}, not {batch}\n"
                "  try: compile with a clip of that batch"
            )
        return initial_state(self.plan, self.fingerprint, batch)

    @cached_property
    def _clip_batch(self) -> int:
        return self.plan.values[self.plan.inputs[0].value].layout.batch

    @torch.no_grad()
    def step(self, frame: Frame | None, state: State) -> tuple[Any, State]:
        """Take one tick.

        Args:
            frame: ``(batch, channels, height, width)`` for a network of ``(N, C, T, H, W)`` clips: the input without
                its time axis. Several inputs as the model takes them, None for one that has no frame at this tick, or
                one tensor for all. None once the state is at its end (``end``).
            state: what ``initial_state`` or the previous step returned; never changed.

        Returns:
            What comes out at this tick in the original's structure, or None, and the next state.

        Raises:
            FrameError: the frame's shape or dtype is not the one the network was compiled for.
            StateError: the state belongs to another network, or the frame comes after the end.
        """
        emitted, state = self._tick(frame, state)
        return self.outputs.of_tick(emitted, state.batch), state

    def end(self, state: State) -> State:
        """The state after the last frame: further steps, with None for a frame, bring out what is still due."""
        self._require_own(state)
        return state if state.frames is not None else replace(state, frames=max(0, state.tick))

    def is_finished(self, state: State) -> bool:
        """Nothing more will come out."""
        return state.frames is not None and state.tick > self.last_tick(state.frames)

    def last_tick(self, frames: int) -> int:
        """The tick at which a video of so many frames brings out its last element; below ``frames`` if none is left."""
        lasts = [(self.plan.timing(out.value), self.plan.length(out.value, frames)) for out in self.plan.outputs]
        return max([timing.clock(count - 1) for timing, count in lasts if count], default=-1)

    def stream(self, batch: int = 1) -> Stream:
        """A stream, or a batch of streams in lockstep, with its own state."""
        return Stream(self, batch)

    def forward(self, video: Any, *, chunk: int | None = None) -> Any:
        """A whole video at once: what all steps and ``flush`` would bring out.

        Args:
            video: as the model takes it, of any length.
            chunk: frames taken at once; the numbers do not depend on it.

        Returns:
            The original's structure; elements along the time axis, collapsed outputs stacked on a new axis 1.
        """
        ticks = read_video(self.plan, video)
        state = self.initial_state(batch_of(self.plan, ticks[0]))
        emitted: list[Emitted] = [[] for _ in self.plan.outputs]
        for frames in ticks:
            state = self._collect(emitted, frames, state)
        state = self.end(state)
        while not self.is_finished(state):
            state = self._collect(emitted, None, state)
        return self.outputs.of_video(emitted, state.batch)

    def _collect(self, emitted: list[Emitted], frame: Frame | None, state: State) -> State:
        came, state = self._tick(frame, state)
        for collected, new in zip(emitted, came, strict=True):
            collected.extend(new)
        return state

    def _tick(self, frame: Frame | None, state: State) -> tuple[list[Emitted], State]:
        self._require_own(state)
        if state.frames is not None:
            if frame is not None:
                raise StateError("a frame after the end of the stream\n  try: reset() before the next video")
            emitted, state = self.engine.step([None] * len(self.plan.inputs), state)
            return self._visible(emitted, state), state
        if frame is None:
            raise StateError("no frame, and the stream has not ended\n  try: end(state) after the last frame")
        frames = read_frames(self.plan, frame, state)
        before: list[Emitted] = [[] for _ in self.plan.outputs]
        if state.tick == self.plan.first_tick:
            before, state = self._before_first(frames, state)
        emitted, state = self.engine.step(frames, state)
        return self._visible([old + new for old, new in zip(before, emitted, strict=True)], state), state

    def _before_first(self, frames: Sequence[Tensor | None], state: State) -> tuple[list[Emitted], State]:
        """Ticks before the first frame: for elements that lie wholly in the padding, or of a still video."""
        still = self.plan.start == "replicate"
        emitted: list[Emitted] = [[] for _ in self.plan.outputs]
        while state.tick < (self._still_ticks if still else 0):
            nothing = [None] * len(frames)
            came, state = self.engine.step(frames if still and state.tick >= 0 else nothing, state)
            if not still:
                emitted = [old + new for old, new in zip(emitted, came, strict=True)]
        return emitted, state

    @cached_property
    def _still_ticks(self) -> int:
        """Frames of still video before the first: all outputs are steady, and one comes out at the first frame."""
        timings = [self.plan.timing(output.value) for output in self.plan.outputs]
        tick = max(timing.steady_tick for timing in timings)
        while not all(_fires(timing.clock, tick) for timing in timings) and tick % self.plan.period:
            tick += 1
        return tick

    def _visible(self, emitted: list[Emitted], state: State) -> list[Emitted]:
        """``start="valid"`` holds back what has seen padding."""
        if self.plan.start != "valid":
            return emitted
        frames = state.frames if state.frames is not None else state.tick
        return [
            [(n, element) for n, element in came if timing.lo(n) >= 0 and timing.hi(n) < frames]
            for came, timing in zip(emitted, (self.plan.timing(out.value) for out in self.plan.outputs), strict=True)
        ]

    def _require_own(self, state: State) -> None:
        if state.network != self.fingerprint:
            raise StateError(
                "the state belongs to another network\n  try: initial_state() of this one, or the network it came from"
            )

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The weights under the original's keys."""
        return self.weights.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the weights of the original's ``state_dict``."""
        self._engine = None
        return self.weights.load_state_dict(state_dict, strict=strict, assign=assign)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._engine = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    @property
    def engine(self) -> EagerEngine:
        """Built anew when a weight has changed."""
        version = self.weights.version
        if self._engine is None or self._engine_version != version:
            self._engine = EagerEngine(self.plan, self.weights.find)
            self._engine_version = version
        return self._engine


def _fires(clock: Periodic, tick: int) -> bool:
    return clock.count_through(tick) > clock.count_through(tick - 1)

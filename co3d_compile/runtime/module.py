"""The plan as something to call: one tick, a stream, or a whole video."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from co3d_compile.errors import FrameError, StateError
from co3d_compile.ops.table import BUILT_IN, OperationTable
from co3d_compile.options import require_count
from co3d_compile.plan.plan import Plan
from co3d_compile.plan.recasting import recast
from co3d_compile.runtime.eager.blocks import BlockEngine
from co3d_compile.runtime.eager.engine import EagerEngine
from co3d_compile.runtime.eager.statics import static_results
from co3d_compile.runtime.emissions import Emission, emissions
from co3d_compile.runtime.frames import read_frames
from co3d_compile.runtime.outputs import OutputStructure
from co3d_compile.runtime.playback import play_frames, play_video
from co3d_compile.runtime.start import last_tick, still_ticks, visible
from co3d_compile.runtime.state import Emitted, State, initial_state
from co3d_compile.runtime.stream import Stream
from co3d_compile.runtime.videos import read_video
from co3d_compile.runtime.weights import Weights

Frame = Tensor | Sequence[Tensor | None]
"""One frame per stream: a tensor, or one entry per input."""


class StreamingModule(nn.Module):
    """A compiled network that runs.

    Args:
        plan: what to run.
        weights: by their original names.
        operations: the rules that the plan was compiled with.
    """

    def __init__(self, plan: Plan, weights: Weights, operations: OperationTable = BUILT_IN) -> None:
        super().__init__()
        self.weights = weights
        self.operations = operations.only(plan.own_rules)
        self._take_plan(plan)
        self._engine: EagerEngine | None = None

    def initial_state(self, batch: int = 1) -> State:
        """The state before the first frame, for ``batch`` streams in lockstep.

        Raises:
            StateError: the network has no batch dimension to widen.
            InputError: the batch is no number of streams.
        """
        require_count("batch", batch, "streams", least=0)
        clip_batch = self.plan.values[self.plan.inputs[0].value].layout.batch
        if self.plan.fixed_batch and batch != clip_batch:
            raise StateError(
                f"{self.plan.fixed_batch}, so the batch stays at {clip_batch}, not {batch}\n"
                "  try: compile with a clip of that batch"
            )
        return initial_state(self.plan, self.fingerprint, batch)

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
            FrameError: the frame's shape or dtype is not the one the network was compiled for, or it is elsewhere.
            StateError: the state belongs to another network, or the frame comes after the end.
        """
        self._require_usable(frame, state)
        before: list[Emitted] = [[] for _ in self.plan.outputs]
        elements: Sequence[Tensor | None] = [None] * len(self.plan.inputs)
        if frame is not None:
            elements = read_frames(self.plan, frame, state, self.engine.devices)
        if frame is not None and state.tick == self.plan.first_tick:
            before, state = self._before_first(elements, state)
        emitted, state = self.engine.step(elements, state)
        seen = visible(self.plan, [old + new for old, new in zip(before, emitted, strict=True)], state)
        return self._outputs.of_tick(seen, state.batch, self.engine.constants), state

    def end(self, state: State) -> State:
        """The state after the last frame: further steps, with None for a frame, bring out what is still due."""
        self._require_own(state)
        return state if state.frames is not None else replace(state, frames=max(0, state.tick))

    def is_finished(self, state: State) -> bool:
        """Nothing more will come out."""
        return state.frames is not None and state.tick > last_tick(self.plan, state.frames)

    def emissions(self, state: State, *, ticks: int = 1) -> tuple[Emission, ...]:
        """Which elements the last step brought out, and the frames that each depends on.

        Args:
            state: what that step returned.
            ticks: steps to look back on.
        """
        self._require_own(state)
        return emissions(self.plan, state, ticks)

    def stream(self, batch: int = 1) -> Stream:
        """A stream, or a batch of streams in lockstep, with its own state."""
        return Stream(self, batch)

    def forward(self, video: Any, *, chunk: int = 16) -> Any:
        """A whole video at once: what all steps and ``flush`` would bring out.

        Gradients flow to the weights, so this is also the way to fine-tune.

        Args:
            video: as the model takes it, of any length.
            chunk: frames taken at once; the numbers do not depend on it, memory and speed do.

        Returns:
            The original's structure; elements along the time axis, collapsed outputs stacked on a new axis 1.

        Raises:
            FrameError: the video's shape or dtype is not the one the network was compiled for.
        """
        require_count("chunk", chunk, "frames")
        tensors, batch = read_video(self.plan, video, self.weights.devices)
        engine = BlockEngine(self.plan, self.weights.find, self.operations)
        emitted = play_video(engine, tensors, self.initial_state(batch), chunk)
        return self._outputs.of_video(emitted, batch, self._constant)

    def advance(self, video: Any, state: State, *, chunk: int = 16) -> tuple[Any, State]:
        """Take the next frames of a video at once: what their steps would bring out, and the state after them.

        Fills a state from a long past at the speed of ``forward``; the end of the video is not told.

        Args:
            video: the next frames, as ``forward`` takes a video.
            state: what ``initial_state``, ``step`` or ``advance`` returned; never changed.

        Returns:
            The outputs as ``forward`` gives them, with no elements where none is due, and the next state.

        Raises:
            FrameError: the shape or dtype is not the one the network was compiled for, or the batch not the state's.
            StateError: the state belongs to another network, or its video has ended.
        """
        require_count("chunk", chunk, "frames")
        self._require_usable(video, state)
        tensors, batch = read_video(self.plan, video, self.weights.devices, max(0, state.tick))
        if batch != state.batch:
            raise FrameError(
                f"the video holds {batch} stream(s), the state {state.batch}\n  try: initial_state({batch})"
            )
        emitted, state = play_frames(BlockEngine(self.plan, self.weights.find, self.operations), tensors, state, chunk)
        return self._outputs.of_video(emitted, batch, self._constant), state

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The weights under the original's keys."""
        return self.weights.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the weights of the original's ``state_dict``."""
        self._engine = None
        return self.weights.load_state_dict(state_dict, strict=strict, assign=assign)

    @property
    def engine(self) -> EagerEngine:
        """Built anew when a weight has changed."""
        if self._engine is None or not self._engine.is_current:
            self._engine = EagerEngine(self.plan, self.weights.find, self.operations)
        return self._engine

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._engine = None
        before = self.weights.dtype
        with torch.inference_mode(False):
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._take_plan(recast(self.plan, before, self.weights.dtype))
        return self

    def __getstate__(self) -> dict[str, Any]:
        # the engine is built again where it is needed, and its kernels are closures, which cannot be pickled
        return {**self.__dict__, "_engine": None}

    def _constant(self, name: str) -> Tensor:
        """A weight, or what follows from weights alone, with its gradient."""
        return static_results(self.plan, self.weights.find, self.operations)(name)

    def _take_plan(self, plan: Plan) -> None:
        self.plan = plan
        self.fingerprint = hashlib.sha256(repr(plan).encode()).hexdigest()
        self._outputs = OutputStructure(plan)

    def _before_first(self, elements: Sequence[Tensor | None], state: State) -> tuple[list[Emitted], State]:
        """The ticks before the first frame: for elements that lie wholly in the padding, or of a still video."""
        emitted: list[Emitted] = [[] for _ in self.plan.outputs]
        still = still_ticks(self.plan)
        while state.tick < still:
            nothing = [None] * len(elements)
            came, state = self.engine.step(elements if state.tick >= 0 else nothing, state)
            if not still:
                emitted = [old + new for old, new in zip(emitted, came, strict=True)]
        return emitted, state

    def _require_usable(self, frame: Frame | None, state: State) -> None:
        self._require_own(state)
        if frame is not None and state.frames is not None:
            raise StateError("a frame after the end of the stream\n  try: reset() before the next video")
        if frame is None and state.frames is None:
            raise StateError("no frame, and the stream has not ended\n  try: end(state) after the last frame")

    def _require_own(self, state: State) -> None:
        if not isinstance(state, State):
            raise StateError(f"the state is an object of type {type(state).__name__}\n  try: initial_state()")
        if state.network != self.fingerprint:
            raise StateError(
                "the state belongs to another network\n  try: initial_state() of this one, or the network it came from"
            )

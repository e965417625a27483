"""The convenient form: an object that holds the state of one stream, or of a batch of streams in lockstep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from co3d_compile.errors import StateError
from co3d_compile.runtime.start import still_ticks

if TYPE_CHECKING:
    from co3d_compile.runtime.emissions import Emission
    from co3d_compile.runtime.module import Frame, StreamingModule
    from co3d_compile.runtime.state import State


class Stream:
    """Frames in, predictions out.

    Attributes:
        state: a value; keep it to come back to this point, set it to do so.
    """

    def __init__(self, network: StreamingModule, batch: int = 1) -> None:
        self._network = network
        self._batch = batch
        self.state: State = network.initial_state(batch)
        self._steps = 1

    @property
    def tick(self) -> int:
        """The number of the next frame."""
        return max(0, self.state.tick - still_ticks(self._network.plan))

    @property
    def emissions(self) -> tuple[Emission, ...]:
        """Which elements the last push, or the flush, brought out, and the frames that each depends on."""
        return self._network.emissions(self.state, ticks=self._steps)

    def push(self, frame: Frame) -> Any:
        """Take one frame (of each stream of the batch); give what comes out, or None.

        Raises:
            FrameError: the frame's shape or dtype is not the one the network was compiled for.
            StateError: the stream has been flushed.
        """
        if self.state.frames is not None:
            raise StateError("the stream has been flushed\n  try: reset() before the next video")
        output, self.state = self._network.step(frame, self.state)
        self._steps = 1
        return output

    def flush(self) -> list[Any]:
        """End the video: what the remaining pushes would have given, tick by tick (None where nothing is due).

        Raises:
            StateError: the stream has been flushed already.
        """
        if self.state.frames is not None:
            raise StateError("the stream has been flushed already\n  try: reset() before the next video")
        state = self._network.end(self.state)
        outputs = []
        while not self._network.is_finished(state):
            output, state = self._network.step(None, state)
            outputs.append(output)
        self.state, self._steps = state, len(outputs)
        return outputs

    def reset(self) -> None:
        """Forget everything; the next frame is the first of a new video."""
        self.state = self._network.initial_state(self._batch)

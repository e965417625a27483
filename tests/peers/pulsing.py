"""tract's pulse mode: a model as ONNX, rewritten by tract for steps of a few frames, run step by step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.peers.agreement import Answer

tract = pytest.importorskip("tract")
pytest.importorskip("onnx")  # torch's exporter needs it


def written_as_onnx(model: nn.Module, clip: Tensor, path: Path) -> Path:
    """With time, axis 2, of any length."""
    with warnings.catch_warnings():
        # the exporter that needs no further package is the one that torch calls legacy
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (clip,),
            path,
            dynamo=False,
            input_names=["video"],
            output_names=["out"],
            dynamic_axes={"video": {2: "T"}},
            opset_version=17,
        )
    return path


class Pulsed:
    """A model for steps of ``pulse`` frames.

    Raises:
        tract.TractError: tract does not pulse this model, or not in steps of so many frames.
    """

    def __init__(self, path: Path, clip: Sequence[int], pulse: int) -> None:
        inference = tract.onnx().load(path)
        inference.set_input_fact(
            0, ",".join("T" if axis == 2 else str(size) for axis, size in enumerate(clip)) + ",f32"
        )
        inference.analyse()
        model = inference.into_model()
        model.transform(tract.Pulse(pulse, symbol="T"))
        self.pulse = pulse
        self.axis = int(model.property("pulse.output_axes").to_numpy()[0])
        self.delay = int(model.property("pulse.delay").to_numpy()[0])
        self.runnable = model.into_runnable()

    def run(self, video: Tensor) -> Answer:
        """What comes out until the last frame; the end of a video cannot be told to tract from Python."""
        state = self.runnable.spawn_state()
        steps = [_step(state, frames) for frames in video.split(self.pulse, 2) if frames.shape[2] == self.pulse]
        ticks = [self.pulse * (n + 1) - 1 for n, elements in enumerate(steps) for _ in range(elements.shape[self.axis])]
        elements = torch.cat(steps, self.axis)
        late = elements.shape[self.axis] - self.delay
        return Answer(elements.narrow(self.axis, self.delay, late), ticks[self.delay :])


def _step(state: Any, frames: Tensor) -> Tensor:
    (answer,) = state.run([frames.contiguous().numpy()])
    return torch.from_numpy(answer.to_numpy().copy())

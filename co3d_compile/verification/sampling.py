"""The original with its choices of frames made at one step, as the stream makes them under the policy ``uniform``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from co3d_compile.ops.slicing import FramesByPlace
from co3d_compile.passes.propagation import Choices, annotate
from co3d_compile.plan.plan import Plan
from co3d_compile.program.program import Program
from co3d_compile.verification.recording import Replacement

SLICE = "aten.slice.Tensor"


class EvenChoices:
    """The calls that take frames by their places, where the stream takes others.

    Attributes:
        chosen: by name of the node.
    """

    def __init__(self, plan: Plan, program: Program) -> None:
        sliced = {node.name for node in plan.nodes if node.target == SLICE}
        refused = {node.name: _refusal(program, node) for node in program.calls if node.name in sliced}
        self.chosen = {name: one for name, one in refused.items() if isinstance(one, FramesByPlace) and _differs(one)}

    def replacements(self, calls: Mapping[str, int]) -> dict[int, Replacement]:
        """By number of the original's call."""
        return {calls[name]: _sliced(taken) for name, taken in self.chosen.items() if name in calls}


def _refusal(program: Program, node: fx.Node) -> object:
    """What the stream would be told of the original's own call."""
    return annotate(program, node, Choices())


def _differs(taken: FramesByPlace) -> bool:
    return taken.even is not None and taken.places != tuple(taken.even)


def _sliced(taken: FramesByPlace) -> Replacement:
    assert taken.even is not None
    frames = slice(taken.even.start, None, taken.even.step)

    def replace(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        source: Tensor = args[0]
        return source[(slice(None),) * taken.dim + (frames,)].clone(memory_format=torch.contiguous_format)

    return replace

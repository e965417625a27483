"""The original's cost on frames of other sizes, counted without computing anything."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from co3d_compile.capture.clip import Clip
from co3d_compile.capture.export import evaluating, hushed, quiet
from co3d_compile.errors import first_line
from co3d_compile.plan.plan import FrameTrial

LARGER = ((32, 64), (33, 35))
"""By so much: sizes that leave the clip's remainders to strides, and sizes that leave others."""


def try_frames(model: nn.Module, clip: Clip, places: Sequence[tuple[int, int]]) -> tuple[FrameTrial, ...]:
    """What the model multiplies on clips like this one with larger frames.

    Args:
        places: for each tensor of the clip, the dimensions of height and width, of one size in all.
    """
    return tuple(_tried(model, clip, places, *larger) for larger in LARGER)


def _tried(model: nn.Module, clip: Clip, places: Sequence[tuple[int, int]], taller: int, wider: int) -> FrameTrial:
    first, (height, width) = clip.tensors[0].shape, places[0]
    sizes = first[height] + taller, first[width] + wider
    counter = _Counter()
    try:
        # what fails here is no one's error, and torch would log it
        with (
            hushed("torch._subclasses.fake_tensor", logging.CRITICAL),
            quiet(),
            FakeTensorMode(allow_non_fake_inputs=True) as mode,
        ):
            tensors = [_resized(tensor, where, sizes) for tensor, where in zip(clip.tensors, places, strict=True)]
            tried = _without_values(model, mode)
            with evaluating(tried), counter:
                tried(*clip.with_tensors(tensors).arguments)
    except Exception as refusal:  # a model may raise whatever it likes on a clip that it was not made for
        return FrameTrial(*sizes, None, first_line(refusal))
    return FrameTrial(*sizes, counter.macs)


def _without_values(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy, as a model may keep in an attribute what it computes; its weights are shapes alone."""
    weights = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(weight): mode.from_tensor(weight) for weight in weights})


def _resized(tensor: Tensor, places: tuple[int, int], sizes: tuple[int, int]) -> Tensor:
    shape = list(tensor.shape)
    for place, size in zip(places, sizes, strict=True):
        shape[place] = size
    return torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-accumulates of convolutions and matrix products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            self.macs += int(flop_registry[packet](*args, **(kwargs or {}), out_val=made)) // 2
        return made

"""The original on frames of other sizes and on other batches, without computing anything."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
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


def try_batch(model: nn.Module, clip: Clip, places: Sequence[int], batch: int) -> list[torch.Size] | None:
    """The shapes of the tensors that the model gives for so many clips; None where it takes no such batch.

    Args:
        places: for each tensor of the clip, the dimension of the batch.
    """
    try:
        made = _run_without_values(model, clip, [{place: batch} for place in places])
    except Exception:  # a model may raise whatever it likes on a clip that it was not made for
        return None
    return [leaf.shape for leaf in pytree.tree_leaves(made) if isinstance(leaf, Tensor)]


def _tried(model: nn.Module, clip: Clip, places: Sequence[tuple[int, int]], taller: int, wider: int) -> FrameTrial:
    first, (height, width) = clip.tensors[0].shape, places[0]
    sizes = first[height] + taller, first[width] + wider
    counter = _Counter()
    try:
        with counter:
            _run_without_values(model, clip, [dict(zip(where, sizes, strict=True)) for where in places])
    except Exception as refusal:  # likewise
        return FrameTrial(*sizes, None, first_line(refusal))
    return FrameTrial(*sizes, counter.macs)


def _run_without_values(model: nn.Module, clip: Clip, sizes: Sequence[Mapping[int, int]]) -> Any:
    """What the model gives for a clip with other sizes, as shapes alone.

    Args:
        sizes: for each tensor of the clip, by dimension.
    """
    # what fails here is no one's error, and torch would log it
    with (
        hushed("torch._subclasses.fake_tensor", logging.CRITICAL),
        quiet(),
        FakeTensorMode(allow_non_fake_inputs=True) as mode,
    ):
        tensors = [_resized(tensor, where) for tensor, where in zip(clip.tensors, sizes, strict=True)]
        tried = _without_values(model, mode)
        with evaluating(tried):
            return tried(*clip.with_tensors(tensors).arguments)


def _without_values(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy, as a model may keep in an attribute what it computes; its weights are shapes alone."""
    weights = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(weight): mode.from_tensor(weight) for weight in weights})


def _resized(tensor: Tensor, sizes: Mapping[int, int]) -> Tensor:
    shape = [sizes.get(dim, size) for dim, size in enumerate(tensor.shape)]
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

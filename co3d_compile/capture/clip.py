"""The example clip: tensors or shapes as the user gives them, arguments as the model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from co3d_compile.errors import CaptureError

ClipArgument = Tensor | Sequence[int] | Sequence[Tensor] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class Clip:
    """The model's positional arguments: a tensor, several tensors, or lists of tensors."""

    arguments: tuple[Tensor | list[Tensor], ...]

    @property
    def tensors(self) -> list[Tensor]:
        return [tensor for argument in self.arguments for tensor in _listed(argument)]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Clip:
        """The same structure around other tensors; every list is a fresh one, as models may edit theirs."""
        left = iter(tensors)
        return Clip(tuple(_refilled(argument, left) for argument in self.arguments))

    def random(self, seed: int) -> Clip:
        """Random values of the same shapes and dtypes, brighter and higher in contrast with each seed."""
        generator = torch.Generator().manual_seed(seed)
        return self.with_tensors([_random_like(tensor, generator, seed) for tensor in self.tensors])


def read_clip(given: ClipArgument, dtype: torch.dtype, device: torch.device) -> Clip:
    """The clip from what a user gives.

    A tensor or a shape is the model's one argument, a tuple of tensors or shapes its several arguments, a list of
    them one argument that is a list.

    Raises:
        CaptureError: it is none of these.
    """
    if isinstance(given, Tensor) or _is_shape(given):
        return Clip((_tensor(given, dtype, device),))
    if not isinstance(given, (tuple, list)) or not given:
        raise CaptureError(
            f"the clip is a {type(given).__name__}\n"
            "  try: give a tensor, a shape such as (1, 3, 16, 224, 224), or several"
        )
    tensors = [_tensor(entry, dtype, device) for entry in given]
    return Clip((tensors,)) if isinstance(given, list) else Clip(tuple(tensors))


def _is_shape(given: object) -> bool:
    return isinstance(given, (tuple, list)) and bool(given) and all(_is_size(size) for size in given)


def _is_size(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool)


def _tensor(given: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    if isinstance(given, Tensor):
        return given.detach()
    if not _is_shape(given) or min(given) < 1:
        raise CaptureError(f"{given!r} is neither a tensor nor a shape\n  try: a shape such as (1, 3, 16, 224, 224)")
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tuple(given), generator=generator, device="cpu").to(device=device, dtype=dtype)


def _listed(argument: Tensor | list[Tensor]) -> list[Tensor]:
    return [argument] if isinstance(argument, Tensor) else argument


def _refilled(argument: Tensor | list[Tensor], left: Any) -> Tensor | list[Tensor]:
    return next(left) if isinstance(argument, Tensor) else [next(left) for _ in argument]


def _random_like(tensor: Tensor, generator: torch.Generator, seed: int) -> Tensor:
    if not tensor.is_floating_point():
        return torch.randint(0, 256, tensor.shape, generator=generator, device="cpu").to(tensor)
    values = torch.randn(tensor.shape, generator=generator, device="cpu")
    return (values * (1 + seed / 2) + seed / 4).to(tensor)

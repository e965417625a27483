"""Whether two runs of what should be one computation agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Relative to the largest value: the same kernels run, but perhaps fused or in another order."""


@dataclass(frozen=True)
class Disagreement:
    """The first output that differs.

    Attributes:
        error: the largest difference; infinite where shape or dtype differ, or only one of the two is a number.
        scale: the largest value that is wanted.
    """

    place: int
    error: float
    scale: float


def first_disagreement(made: Sequence[Tensor], wanted: Sequence[Tensor]) -> Disagreement | None:
    """The first of the tensors that differs by more than rounding, if one does; there are as many of both."""
    for place, (one, other) in enumerate(zip(made, wanted, strict=True)):
        finite = other[other.isfinite()].abs().double()
        scale = finite.max().item() if finite.numel() else 0.0
        error = _difference(one, other)
        if error > TOLERANCE.get(other.dtype, 0.0) * max(scale, 1e-6):
            return Disagreement(place, error, scale)
    return None


def _difference(one: Tensor, other: Tensor) -> float:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return inf
    same = (one == other) | (one.isnan() & other.isnan())
    apart = (one.double() - other.double()).abs().masked_fill(same, 0.0)
    return apart.nan_to_num(nan=inf, posinf=inf).max().item() if apart.numel() else 0.0

"""What is known of a constant's values when a network is compiled."""

from __future__ import annotations

import torch
from torch import Tensor

from co3d_compile.layout import Spread
from co3d_compile.ops.operation import Facts


def single_value(facts: Facts) -> float | None:
    """The one number that a known constant holds everywhere; None: it holds several, or is not known."""
    return None if facts.known is None else only_value(facts.known)


def only_value(values: Tensor) -> float | None:
    """The one real number that a tensor holds everywhere; None for several, and for a tensor without values."""
    if values.is_meta:
        return None
    distinct = _distinct(values)
    if distinct.numel() == 0 or not torch.equal(distinct, distinct.flatten()[0].expand_as(distinct)):
        return None
    value = complex(distinct.flatten()[0].item())
    return None if value.imag else value.real


def is_even(facts: Facts, dim: int) -> bool:
    """The constant is the same all along a dimension."""
    if facts.layout.shape[dim] == 1 or any(isinstance(factor, Spread) for factor in facts.layout.dims[dim]):
        return True
    return facts.known is not None and evenly(facts.known, dim)


def evenly(values: Tensor, dim: int) -> bool:
    """The tensor is the same all along a dimension."""
    return torch.equal(values, values.narrow(dim, 0, 1).expand_as(values))


def _distinct(values: Tensor) -> Tensor:
    """Without what is repeated by expansion."""
    for dim, (size, stride) in enumerate(zip(values.shape, values.stride(), strict=True)):
        if stride == 0 and size > 1:
            values = values.narrow(dim, 0, 1)
    return values

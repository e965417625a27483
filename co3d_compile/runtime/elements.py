"""Elements of a value joined along time into a block, and taken apart again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from co3d_compile.layout import Layout, Mark
from co3d_compile.runtime.state import Element


def joined_elements(elements: Sequence[Tensor], layout: Layout, batch: int) -> Tensor:
    """Single elements (or blocks) side by side along time."""
    if len(elements) == 1:
        return elements[0]
    dim = layout.time_dim
    assert dim is not None
    if layout.time_is_plain:
        return torch.cat(list(elements), dim)
    parts = [_apart(element, layout, batch) for element in elements]
    whole = torch.cat(parts, dim + 1)
    return whole.reshape(layout.running_shape(whole.shape[dim + 1], batch))


def block_length(block: Tensor, layout: Layout, batch: int) -> int:
    """Elements along time in a block."""
    dim = layout.time_dim
    assert dim is not None
    return block.shape[dim] // layout.running_shape(1, batch)[dim]


def part_of_block(block: Tensor, layout: Layout, batch: int, start: int, count: int) -> Tensor:
    """Elements ``start .. start+count-1`` of a block."""
    dim = layout.time_dim
    assert dim is not None
    if layout.time_is_plain:
        return block.narrow(dim, start, count)
    return _apart(block, layout, batch).narrow(dim + 1, start, count).flatten(dim, dim + 2)


def filled_element(layout: Layout, batch: int, fill: float, like: Tensor) -> Tensor:
    """An element beyond the ends of the video."""
    return torch.full(layout.running_shape(1, batch), fill, dtype=like.dtype, device=like.device)


def filled_elements(elements: Sequence[Element], layout: Layout, batch: int, fill: float, like: Tensor) -> list[Tensor]:
    """The elements, those that do not exist replaced by constants."""
    return [filled_element(layout, batch, fill, like) if element is None else element for element in elements]


def _apart(block: Tensor, layout: Layout, batch: int) -> Tensor:
    """The block with time as a dimension of its own."""
    dim = layout.time_dim
    assert dim is not None
    elements = block_length(block, layout, batch)
    outer, _, inner = layout.around(Mark.TIME, elements, batch)
    return block.reshape(*block.shape[:dim], outer, elements, inner, *block.shape[dim + 1 :])


def at_full_size(element: Tensor, layout: Layout, batch: int) -> Tensor:
    """An element as the original has it: what is kept at size 1 because it only broadcasts, expanded."""
    shape = layout.solid().running_shape(1, batch)
    return element if tuple(element.shape) == shape else element.expand(shape)

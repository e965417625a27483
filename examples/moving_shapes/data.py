"""Moving shapes and noise: seeded videos whose class is how the shapes move."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

MOVEMENTS = ("still", "left", "right", "up", "down")
DIRECTIONS = {"still": (0, 0), "left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""Rows and columns per frame, to be multiplied by a speed."""

SHAPES = 4
NOISE = 0.06
"""Standard deviation of the camera's noise; values are from 0 to 1."""


def moving_shapes(movements: Sequence[str], size: int, generator: Generator) -> Tensor:
    """A video ``(3, len(movements), size, size)`` of a few discs and squares; one movement for each frame.

    What leaves the picture on one side comes back on the other.
    """
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    video = _background(size, generator)[:, None].repeat(1, len(movements), 1, 1)
    for _ in range(SHAPES):
        colour = torch.rand(3, 1, generator=generator)
        radius = _between(0.08 * size, 0.2 * size, generator)
        speed = _between(0.02 * size, 0.045 * size, generator)
        square = bool(torch.rand((), generator=generator) < 0.5)
        row, column = (_between(0, size, generator) for _ in range(2))
        for t, movement in enumerate(movements):
            down, right = _around(rows - row, size), _around(columns - column, size)
            inside = torch.maximum(down, right) < radius if square else down**2 + right**2 < radius**2
            video[:, t, inside] = colour
            row, column = (x + speed * step for x, step in zip((row, column), DIRECTIONS[movement], strict=True))
    return (video + NOISE * torch.randn(video.shape, generator=generator)).clamp(0, 1)


def labelled_clips(count: int, frames: int, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Clips ``(count, 3, frames, size, size)`` of one movement each, and its number in ``MOVEMENTS``."""
    labels = torch.randint(len(MOVEMENTS), (count,), generator=generator)
    clips = [moving_shapes([MOVEMENTS[label]] * frames, size, generator) for label in labels]
    return torch.stack(clips), labels


def _background(size: int, generator: Generator) -> Tensor:
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")[0]


def _between(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _around(distance: Tensor, size: int) -> Tensor:
    """The distance on a picture that goes round."""
    return ((distance + size / 2) % size - size / 2).abs()

"""What a user wants of the state and of the firing ticks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from co3d_compile.errors import InputError

Prefer = Literal["memory", "speed"]
PREFERENCES: tuple[str, ...] = ("memory", "speed")


@dataclass(frozen=True)
class Aims:
    """What firing ticks and forms are chosen for.

    Attributes:
        prefer: ``memory``: the least state; ``speed``: partial sums in place of inputs only where that moves less.
        recompute: elements may be made again from smaller ones, where they are read, in place of being kept.
        state_dtype: what is held between ticks is rounded to it, where it is narrower; None: nothing is.
    """

    prefer: str = "memory"
    recompute: bool = False
    state_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.prefer not in PREFERENCES:
            raise InputError(f"prefer is {self.prefer!r}\n  try: one of {', '.join(PREFERENCES)}")

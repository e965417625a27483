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
        balance: the heaviest tick is made as light as possible, before anything else is asked.
        extra_delay: ticks that outputs may be later than they could.
    """

    prefer: str = "memory"
    recompute: bool = False
    state_dtype: torch.dtype | None = None
    balance: bool = False
    extra_delay: int = 0

    def __post_init__(self) -> None:
        if self.prefer not in PREFERENCES:
            raise InputError(f"prefer is {self.prefer!r}\n  try: one of {', '.join(PREFERENCES)}")
        if not isinstance(self.balance, bool):
            raise InputError(f"balance is {self.balance!r}\n  try: True or False")
        if self.balance and self.recompute:
            raise InputError(
                "balance and recompute: what is made again is work at the ticks that read it, and balance would not "
                "count it\n  try: one of them"
            )
        if isinstance(self.extra_delay, bool) or not isinstance(self.extra_delay, int) or self.extra_delay < 0:
            raise InputError(f"extra_delay is {self.extra_delay!r}\n  try: a number of ticks from 0 up")

    @property
    def is_bound(self) -> bool:
        """Nothing but the state decides, and no output is later."""
        return not self.balance and not self.extra_delay

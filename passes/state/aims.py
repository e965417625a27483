"""What a user wants of the state and of the firing ticks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from co3d_compile.errors import InputError
from co3d_compile.options import require_choice, require_count

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
        require_choice("prefer", self.prefer, PREFERENCES)
        if not isinstance(self.balance, bool):
            raise InputError(f"balance is {self.balance!r}\n  try: True or False")
        if self.balance and self.recompute:
            raise InputError(
                "balance and recompute: what is made again is work at the ticks that read it, and balance would not "
                "count it\n  try: one of them"
            )
        require_count("extra_delay", self.extra_delay, "ticks", least=0)

    @property
    def is_bound(self) -> bool:
        """Nothing but the state decides, and no output is later."""
        return not self.balance and not self.extra_delay

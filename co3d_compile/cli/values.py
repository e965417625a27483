"""What stands behind options: clips, policies, numbers."""

from __future__ import annotations

import argparse
from typing import cast

from co3d_compile.capture.clip import ClipArgument
from co3d_compile.passes.gates import POLICIES, GatePolicy

Shape = tuple[int, ...]


def shapes(text: str) -> list[Shape]:
    """``1x3x16x224x224``, or several with commas between them."""
    return [_shape(part) for part in text.split(",")]


def clip_of(given: list[list[Shape]]) -> ClipArgument:
    """One option per argument of the model; an argument of several shapes is a list of tensors."""
    if len(given) == 1:
        return given[0][0] if len(given[0]) == 1 else list(given[0])
    return tuple(part[0] for part in given)


def policy(text: str) -> tuple[str, GatePolicy]:
    """``PATTERN=frame`` or ``PATTERN=window``."""
    pattern, separator, name = text.rpartition("=")
    if not separator or not pattern or name not in POLICIES:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN={' or PATTERN='.join(POLICIES)}")
    return pattern, cast(GatePolicy, name)


def elements(text: str) -> int:
    """A number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def _shape(text: str) -> Shape:
    sizes = text.strip().lower().split("x")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape such as 1x3x16x224x224")
    return tuple(int(size) for size in sizes)

"""What stands behind options: clips, policies, numbers."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from typing import cast

from co3d_compile.api import RATES
from co3d_compile.capture.clip import ClipArgument
from co3d_compile.errors import ExtensionError
from co3d_compile.ops.operation import Operation
from co3d_compile.ops.own import require_rule
from co3d_compile.passes.whole_clips.policies import POLICIES, GatePolicy

Shape = tuple[int, ...]
NAMED = re.compile(r"[\w.]+:[\w.]+")
OPS = "a rule for an operator that is not built in; those of installed packages are found without it"


def shapes(text: str) -> list[Shape]:
    """``1x3x16x224x224``, or several with commas between them."""
    found = [_shape(part) for part in text.split(",")]
    if len(found) > 1 and all(len(shape) == 1 for shape in found):
        sizes = "x".join(str(size) for (size,) in found)
        raise argparse.ArgumentTypeError(f"{text!r} is {len(found)} shapes of one size each, not one such as {sizes}")
    return found


def clip_of(given: list[list[Shape]]) -> ClipArgument:
    """One option per argument of the model; an argument of several shapes is a list of tensors."""
    if len(given) == 1:
        return given[0][0] if len(given[0]) == 1 else list(given[0])
    return tuple(part[0] for part in given)


def policy(text: str) -> tuple[str, GatePolicy]:
    """``PATTERN=frame``, with any of the policies."""
    pattern, separator, name = text.rpartition("=")
    if not separator or not pattern or name not in POLICIES:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN={' or PATTERN='.join(POLICIES)}")
    return pattern, cast(GatePolicy, name)


def see_working_folder() -> None:
    """As with python -m: what an option names may lie in the folder one works in."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def rules(named: Sequence[str]) -> list[Operation]:
    """The rules behind ``PACKAGE.MODULE:RULE``, the name of a class or a function without arguments.

    Raises:
        ExtensionError: one is not found, fails, or makes no rule.
    """
    if named:
        see_working_folder()
    return [_rule(text) for text in named]


def _rule(text: str) -> Operation:
    if not NAMED.fullmatch(text):
        raise ExtensionError(f"--ops {text!r} names no rule\n  try: package.module:Rule")
    try:
        made: Operation = EntryPoint("", text, "").load()()
    except Exception as failure:  # importing runs the user's code
        raise ExtensionError(
            f"--ops {text}: {type(failure).__name__}: {failure}\n"
            "  try: package.module:Rule, a class that can be made without arguments, in a folder that Python looks in"
        ) from failure
    require_rule(made)
    return made


def elements(text: str) -> int:
    """A number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def count(text: str) -> int:
    """A number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return int(text)


def several_elements(text: str) -> list[int]:
    """Numbers from 1 up, with commas between them."""
    return [elements(part) for part in text.split(",")]


def frame_sizes(text: str) -> list[tuple[int, int]]:
    """``160``, or height and width as ``128x171``; several with commas between them."""
    return [_frame_size(part) for part in text.split(",")]


def rates(text: str) -> list[str]:
    """Rates with commas between them."""
    named = text.split(",")
    if not set(named) <= set(RATES):
        raise argparse.ArgumentTypeError(f"{text!r} is not {' or '.join(RATES)}, or both with a comma")
    return named


def _frame_size(text: str) -> tuple[int, int]:
    sizes = text.strip().lower().split("x")
    if len(sizes) > 2 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 224 or 128x171")
    return int(sizes[0]), int(sizes[-1])


def _shape(text: str) -> Shape:
    sizes = text.strip().lower().split("x")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape such as 1x3x16x224x224")
    return tuple(int(size) for size in sizes)

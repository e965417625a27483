"""Checks of what a user chooses, each with the text that says what there is to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral

from co3d_compile.errors import InputError


def require_choice(name: str, given: object, choices: Sequence[str]) -> None:
    """Refuse what is none of the choices.

    Raises:
        InputError: it is none.
    """
    if given not in choices:
        raise InputError(f"{name} is {given!r}\n  try: one of {', '.join(choices)}")


def require_count(name: str, given: object, of: str, least: int = 1) -> None:
    """Refuse what is no number of so many things.

    Raises:
        InputError: it is none, or too small.
    """
    if isinstance(given, bool) or not isinstance(given, Integral) or given < least:
        raise InputError(f"{name} is {given!r}\n  try: a number of {of} from {least} up")


def require_window(given: object) -> None:
    """Refuse what is neither a number of elements nor None.

    Raises:
        InputError: it is neither.
    """
    if given is not None:
        require_count("window", given, "elements")


def require_policy(given: object) -> None:
    """Refuse what does not map patterns; what they are mapped to is checked where it is used.

    Raises:
        InputError: it does not.
    """
    if given is not None and not (isinstance(given, Mapping) and all(isinstance(pattern, str) for pattern in given)):
        raise InputError(
            f"policy is {given!r}\n  try: a dict from patterns of module paths to policies, such as {{'*': 'window'}}"
        )


def require_list(name: str, given: object, example: str) -> Sequence[object]:
    """What is given, if it can be gone through again and again.

    Raises:
        InputError: it cannot.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"{name} is {given!r}\n  try: a list, such as {example}")
    return given


def require_settings(windows: object, sizes: object) -> None:
    """Refuse what are no windows, or no heights and widths, for ``what_if``; None in them: as compiled.

    Raises:
        InputError: they are none.
    """
    for window in require_list("windows", windows, "[16, 64]"):
        require_window(window)
    for size in require_list("sizes", sizes, "[(160, 160), (224, 224)]"):
        if size is not None and not _is_size(size):
            raise InputError(f"a size is {size!r}\n  try: height and width of a frame, such as (224, 224)")


def _is_size(given: object) -> bool:
    sides = given if isinstance(given, (tuple, list)) else ()
    return len(sides) == 2 and all(isinstance(side, Integral) for side in sides)

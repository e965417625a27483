"""Arguments of operators as JSON: lists, numbers, and torch's own constants by name."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import torch

from co3d_compile.errors import ArtifactError

Json = Any

NAMED_CONSTANTS: dict[str, dict[str, object]] = {
    "dtype": {
        str(found).removeprefix("torch."): found for found in vars(torch).values() if isinstance(found, torch.dtype)
    },
    "layout": {"strided": torch.strided},
    "memory_format": {
        str(found).removeprefix("torch."): found
        for found in (
            torch.preserve_format,
            torch.contiguous_format,
            torch.channels_last,
            torch.channels_last_3d,
        )
    },
}
"""By kind, then by name: what a file may name is looked up here, never in torch."""

NON_FINITE = {"inf": float("inf"), "-inf": float("-inf"), "nan": float("nan")}


def encode_argument(value: Any, reference: Callable[[Any], Json | None]) -> Json:
    """The argument as JSON; anything but a number, a text or a list is an object with its kind as the one key.

    Args:
        reference: how what stands for a tensor is written; None for all other values.

    Raises:
        ArtifactError: it is of a kind that a file cannot hold.
    """
    written = reference(value)
    if written is not None:
        return written
    match value:
        case list() | tuple():
            return [encode_argument(entry, reference) for entry in value]
        case float() if not isfinite(value):
            return {"number": str(value)}
        case None | bool() | int() | float() | str():
            return value
        case torch.device():
            return {"device": str(value)}
        case _:
            return _encode_constant(value)


def decode_argument(given: Json, reference: Callable[[Json], Any]) -> Any:
    """The argument that was encoded.

    Args:
        reference: reads what stands for a tensor; None for all other values.

    Raises:
        ArtifactError: no encoding looks like this.
    """
    read = reference(given)
    if read is not None:
        return read
    match given:
        case {"number": str(name)} if name in NON_FINITE:
            return NON_FINITE[name]
        case {"device": str(name)}:
            return _device(name)
        case list():
            return [decode_argument(entry, reference) for entry in given]
        case None | bool() | int() | float() | str():
            return given
        case _:
            return _decode_constant(given)


def decode_dtype(name: Json) -> torch.dtype:
    """A dtype by its name.

    Raises:
        ArtifactError: there is no such dtype.
    """
    found = _decode_constant({"dtype": name})
    assert isinstance(found, torch.dtype)
    return found


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _encode_constant(value: object) -> Json:
    for kind, constants in NAMED_CONSTANTS.items():
        for name, constant in constants.items():
            if constant is value:
                return {kind: name}
    raise ArtifactError(
        f"an argument {value!r} of type {type(value).__name__} cannot be written to a file\n"
        "  try: report it with the model that it comes from"
    )


def _decode_constant(given: Json) -> object:
    if isinstance(given, dict) and len(given) == 1:
        ((kind, name),) = given.items()
        if isinstance(name, str) and name in NAMED_CONSTANTS.get(kind, {}):
            return NAMED_CONSTANTS[kind][name]
    raise ArtifactError(
        f"the plan holds an argument {given!r}, which no version writes\n  try: compile the model again"
    )


def _device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as failure:
        raise ArtifactError(
            f"the plan names a device {name!r}, which torch does not know\n  try: compile the model again"
        ) from failure

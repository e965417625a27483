"""A node's arguments as JSON, with references to the plan's values and weights."""

from __future__ import annotations

from typing import Any

from co3d_compile.ops import arguments
from co3d_compile.ops.arguments import Json
from co3d_compile.plan.plan import ValueRef, WeightRef


def encode_argument(value: Any) -> Json:
    """The argument as JSON.

    Raises:
        ArtifactError: it is of a kind that a file cannot hold.
    """
    return arguments.encode_argument(value, _encode_reference)


def decode_argument(given: Json) -> Any:
    """The argument that was encoded.

    Raises:
        ArtifactError: no encoding looks like this.
    """
    return arguments.decode_argument(given, _decode_reference)


def _encode_reference(value: Any) -> Json | None:
    match value:
        case ValueRef(name):
            return {"value": name}
        case WeightRef(name):
            return {"weight": name}
        case _:
            return None


def _decode_reference(given: Json) -> ValueRef | WeightRef | None:
    match given:
        case {"value": str(name)}:
            return ValueRef(name)
        case {"weight": str(name)}:
            return WeightRef(name)
        case _:
            return None

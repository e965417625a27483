"""A plan as JSON and back, field by field as the dataclasses declare them; what comes from a file is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import torch

from co3d_compile.errors import ArtifactError
from co3d_compile.ops.arguments import NON_FINITE, Json, decode_dtype, dtype_name
from co3d_compile.ops.table import BUILT_IN, OperationTable
from co3d_compile.plan.arguments import decode_argument, encode_argument
from co3d_compile.plan.operators import bodies_in, require_callable, require_callable_body, require_rules
from co3d_compile.plan.plan import Plan

PLAN_FILE = "plan.json"
"""Its name in a compiled file; no other kind of model file holds one."""


def encode_plan(plan: Plan, operations: OperationTable = BUILT_IN) -> dict[str, Json]:
    """The plan as what ``json.dumps`` takes; ``decode_plan`` gives an equal plan back.

    Raises:
        ArtifactError: an argument or operator in it cannot be written to a file.
    """
    _require_operators(plan, operations)
    encoded: dict[str, Json] = _encode(plan, Plan)
    return encoded


def decode_plan(given: Json, operations: OperationTable = BUILT_IN) -> Plan:
    """The plan that was encoded. Nothing in it is looked up or run but pure operators: torch's, and those with a rule.

    Raises:
        ArtifactError: a field is missing or of another type, an operator is not one that a plan may call, or the rules
            that it was compiled with are not in the table.
    """
    plan = decode(given, Plan, "plan")
    assert isinstance(plan, Plan)
    _require_operators(plan, operations)
    return plan


def _require_operators(plan: Plan, operations: OperationTable) -> None:
    require_rules(plan.own_rules, operations)
    own = operations.only(plan.own_rules)
    nodes = (*plan.statics, *plan.nodes)
    for target in {node.target for node in nodes}:
        require_callable(target, own)
    for text in {text for node in nodes for text in bodies_in(node.target, node.arguments)}:
        require_callable_body(text, own)


@cache
def _field_types(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _encode(value: Any, kind: Any) -> Json:
    if kind is Any:
        return encode_argument(value)
    match value:
        case Enum():
            return value.value
        case torch.dtype():
            return dtype_name(value)
        case float() if not isfinite(value):
            return str(value)
        case Mapping():
            inner = _member_of(kind, Mapping)
            return {name: _encode(entry, get_args(inner)[1]) for name, entry in value.items()}
        case tuple():
            inner = _member_of(kind, tuple)
            return [_encode(entry, _entry_kind(inner, place)) for place, entry in enumerate(value)]
        case _ if is_dataclass(value):
            made_of: type = type(value)
            types = _field_types(made_of)
            return {name: _encode(getattr(value, name), declared) for name, declared in types.items()}
        case _:
            return value


def _member_of(kind: Any, container: type) -> Any:
    """The declared type itself, or the container among the members of a union."""
    members = get_args(kind) if _is_union(kind) else (kind,)
    return next(member for member in members if _is_container(member, container))


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _is_container(kind: Any, container: type) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, container)


def _entry_kind(kind: Any, place: int) -> Any:
    kinds = get_args(kind)
    return kinds[0] if kinds[-1] is Ellipsis else kinds[place]


def decode(given: Json, kind: Any, place: str) -> Any:
    """What was written as JSON, as the declared type.

    Args:
        place: where it stands, for errors.

    Raises:
        ArtifactError: it is of another type, or fields are missing or unknown.
    """
    if kind is Any:
        return decode_argument(given)
    if _is_union(kind):
        return decode(given, _member_for(given, kind, place), place)
    if _is_container(kind, tuple):
        return _decode_tuple(given, kind, place)
    if kind is torch.dtype:
        return decode_dtype(given)
    if isinstance(given, dict) and _is_container(kind, Mapping):
        return {name: decode(entry, get_args(kind)[1], f"{place}.{name}") for name, entry in given.items()}
    if isinstance(given, dict) and is_dataclass(kind):
        return _decode_fields(given, kind, place)
    return _decode_plain(given, kind, place)


def _decode_tuple(given: Json, kind: Any, place: str) -> tuple[Any, ...]:
    kinds = get_args(kind)
    if not isinstance(given, list | tuple) or (kinds[-1] is not Ellipsis and len(given) != len(kinds)):
        _refuse(given, kind, place)
    return tuple(decode(entry, _entry_kind(kind, n), f"{place}[{n}]") for n, entry in enumerate(given))


def _decode_fields(given: dict[str, Json], kind: Any, place: str) -> Any:
    types = _field_types(kind)
    if given.keys() != types.keys():
        listed = ", ".join(sorted(given.keys() ^ types.keys()))
        raise ArtifactError(f"{place}: missing or unknown fields: {listed}\n  try: compile the model again")
    return kind(**{name: decode(given[name], declared, f"{place}.{name}") for name, declared in types.items()})


def _decode_plain(given: Json, kind: Any, place: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, Enum):
        named = {member.value: member for member in kind}
        if isinstance(given, str) and given in named:
            return named[given]
    elif kind is float and isinstance(given, str) and given in NON_FINITE:
        return NON_FINITE[given]
    elif get_origin(kind) is Literal:
        if given in get_args(kind):
            return given
    elif isinstance(kind, type) and issubclass(kind, str) and isinstance(given, str):
        return kind(given)
    elif type(given) is kind or (kind is float and type(given) is int):
        return given
    return _refuse(given, kind, place)


def _member_for(given: Json, kind: Any, place: str) -> Any:
    """The member of a union that is written as this kind of JSON."""
    for member in get_args(kind):
        if _is_written_as(given, member):
            return member
    return _refuse(given, kind, place)


def _is_written_as(given: Json, member: Any) -> bool:
    match given:
        case None:
            return member is NoneType
        case dict():
            return _is_container(member, Mapping) or _has_fields(member, given)
        case list() | tuple():
            return _is_container(member, tuple)
        case str():
            return (
                member in (str, torch.dtype) or (member is float and given in NON_FINITE) or given in _names_of(member)
            )
        case int() | float():
            return member is type(given) or member is float
        case _:
            return False


def _names_of(kind: Any) -> list[str]:
    return [member.value for member in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []


def _has_fields(kind: Any, given: dict[str, Json]) -> bool:
    return isinstance(kind, type) and is_dataclass(kind) and _field_types(cast(type, kind)).keys() == given.keys()


def _refuse(given: Json, kind: Any, place: str) -> Any:
    name = getattr(kind, "__name__", str(kind))
    raise ArtifactError(f"{place}: {name} expected, {str(given)[:40]!r} found\n  try: compile the model again")

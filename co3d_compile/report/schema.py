"""The JSON Schemas of what ``to_dict`` gives, made from the dataclasses.

``python -m co3d_compile.report.schema docs`` writes them.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields, is_dataclass
from enum import Enum
from inspect import getdoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from co3d_compile.report import comparison, data

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLAIN = {bool: "boolean", int: "integer", str: "string", NoneType: "null"}
NOT_FINITE = ("inf", "-inf", "nan")
"""JSON has no infinity and no NaN: their names stand for them."""
ATTRIBUTE = re.compile(r"^    (\w+(?:, \w+)*): (.*(?:\n      +.*)*)", flags=re.MULTILINE)

Schema = dict[str, Any]


def report_schema() -> Schema:
    """Of a report."""
    exact = {"type": "boolean", "description": "every output is exact"}
    return _versioned(data.Report, data.SCHEMA, {"exact": exact})


def comparison_schema() -> Schema:
    """Of what differs between two reports."""
    return _versioned(comparison.Comparison, comparison.SCHEMA, {})


def _versioned(kind: type, version: int, more: Schema) -> Schema:
    definitions: dict[str, Schema] = {}
    top = _object(kind, definitions)
    first = {"schema": {"const": version, "description": "the version of this schema"}, **more}
    top["properties"] = {**first, **top["properties"]}
    top["required"] = list(top["properties"])
    return {"$schema": DIALECT, "title": kind.__name__, **top, "$defs": definitions}


def _object(kind: type, definitions: dict[str, Schema]) -> Schema:
    types, told = get_type_hints(kind), _described(kind)
    properties = {}
    for field in fields(kind):
        described = {"description": told[field.name]} if field.name in told else {}
        properties[field.name] = {**_schema(types[field.name], definitions), **described}
    return {
        "description": (getdoc(kind) or "").partition("\n")[0],
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _schema(kind: Any, definitions: dict[str, Schema]) -> Schema:
    members = get_args(kind)
    if kind is float:
        definitions["number"] = {"anyOf": [{"type": "number"}, {"enum": list(NOT_FINITE)}]}
        return {"$ref": "#/$defs/number"}
    if get_origin(kind) is Literal:
        return {"enum": list(members)}
    if get_origin(kind) in (Union, UnionType):
        return {"anyOf": [_schema(member, definitions) for member in members]}
    if get_origin(kind) is tuple:
        return _array(members, definitions)
    if issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    for plain, name in PLAIN.items():
        if issubclass(kind, plain):
            return {"type": name}
    assert is_dataclass(kind), f"no schema for {kind}"
    return _reference(kind, definitions)


def _array(members: tuple[Any, ...], definitions: dict[str, Schema]) -> Schema:
    if members[-1] is Ellipsis:
        return {"type": "array", "items": _schema(members[0], definitions)}
    entries = [_schema(member, definitions) for member in members]
    return {"type": "array", "prefixItems": entries, "minItems": len(entries), "maxItems": len(entries)}


def _reference(kind: Any, definitions: dict[str, Schema]) -> Schema:
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # before its fields, which may name it
        definitions[kind.__name__] = _object(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _described(kind: type) -> dict[str, str]:
    """What the docstring says of attributes."""
    _, _, attributes = (getdoc(kind) or "").partition("Attributes:")
    return {
        name: " ".join(text.replace("``", "").split())
        for names, text in ATTRIBUTE.findall(attributes)
        for name in names.split(", ")
    }


def write_schemas(folder: Path) -> None:
    """Both, as files."""
    for name, schema in (("report", report_schema()), ("comparison", comparison_schema())):
        (folder / f"{name}.schema.json").write_text(json.dumps(schema, indent=2) + "\n")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))

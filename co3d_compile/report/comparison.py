"""Two reports side by side: what differs, by how much, and in what ratio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any, Literal, TypeVar

from co3d_compile.report.data import LayerReport, OutputReport, Report

SCHEMA = 1
NOT_COMPARED = ("name", "path", "operation", "needed_by", "macs_share", "state_share")
"""What says which one it is, the names that a compilation gives, and what follows from the rest."""

Scalar = int | float | str | bool | None
Side = Literal["first", "second"]
Key = TypeVar("Key")
Part = TypeVar("Part", LayerReport, OutputReport)


@dataclass(frozen=True)
class Difference:
    """One attribute of two reports.

    Attributes:
        attribute: its name in the report.
        difference: the second less the first; None where they are no numbers.
        ratio: the second over the first; None where they are no numbers, or the first is 0.
    """

    attribute: str
    first: Scalar
    second: Scalar
    difference: float | None
    ratio: float | None


@dataclass(frozen=True)
class Compared:
    """One output or layer of two reports, or of one of them.

    Attributes:
        name: an output's place in the structure that the model returns; a layer's name in the report that has it.
        operation: empty for an output.
        only_in: the report that alone has it; None: both have it.
        differences: of an output, all attributes; of a layer, those that differ.
    """

    name: str
    path: str
    operation: str
    only_in: Side | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Comparison:
    """Two reports, side by side.

    Attributes:
        first, second: what they are called.
        equal: the reports say the same.
        options: what the networks were compiled for, such as ``rate``.
        outputs: all of them.
        layers: those that differ; one layer is the other's if path, operation and place among such layers agree.
    """

    first: str
    second: str
    equal: bool
    options: tuple[Difference, ...]
    totals: tuple[Difference, ...]
    outputs: tuple[Compared, ...]
    layers: tuple[Compared, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, under a versioned schema: the attributes by their names."""
        return {"schema": SCHEMA, **asdict(self)}


def compare(first: Report, second: Report, names: tuple[str, str] = ("first", "second")) -> Comparison:
    """What differs between two reports."""
    pairs = _pairs(_by_place(first.layers), _by_place(second.layers))
    layers = (_compared(*pair, only_differing=True) for pair in pairs)
    outputs = _pairs({one.name: one for one in first.outputs}, {one.name: one for one in second.outputs})
    return Comparison(
        first=names[0],
        second=names[1],
        equal=first == second,
        options=tuple(_differences(first, second)),
        totals=tuple(_differences(first.totals, second.totals)),
        outputs=tuple(_compared(*pair, only_differing=False) for pair in outputs),
        layers=tuple(layer for layer in layers if layer.only_in or layer.differences),
    )


def _by_place(layers: Iterable[LayerReport]) -> dict[tuple[str, str, int], LayerReport]:
    """Also layers without a name of the user's, and modules that are called again."""
    seen: Counter[tuple[str, str]] = Counter()
    placed = {}
    for layer in layers:
        kind = layer.path, layer.operation
        placed[(*kind, seen[kind])] = layer
        seen[kind] += 1
    return placed


def _pairs(first: Mapping[Key, Part], second: Mapping[Key, Part]) -> Iterator[tuple[Part | None, Part | None]]:
    """In the order of the first, then what only the second has."""
    for key in dict.fromkeys((*first, *second)):
        yield first.get(key), second.get(key)


def _compared(
    first: LayerReport | OutputReport | None, second: LayerReport | OutputReport | None, *, only_differing: bool
) -> Compared:
    known = first or second
    assert known is not None
    only_in: Side | None = "second" if first is None else "first" if second is None else None
    differences = _differences(first, second) if first and second else ()
    return Compared(
        name=known.name,
        path=known.path,
        operation=getattr(known, "operation", ""),
        only_in=only_in,
        differences=tuple(one for one in differences if not only_differing or one.first != one.second),
    )


def _differences(first: Any, second: Any) -> Iterator[Difference]:
    """Of the attributes that are numbers, words or shapes."""
    for field in fields(first):
        one, other = _scalar(field.name, getattr(first, field.name)), _scalar(field.name, getattr(second, field.name))
        if field.name not in NOT_COMPARED and not (one is None and other is None):
            yield _difference(field.name, one, other)
    if isinstance(first, OutputReport):
        yield _difference("exact", first.exact, second.exact)


def _scalar(name: str, value: Any) -> Scalar:
    match value:
        case Enum():
            return str(value.value)
        case int() | float() | str():
            return value
        case tuple() if name == "shape":
            return " x ".join(str(size) for size in value)
        case _:
            return None


def _difference(attribute: str, first: Scalar, second: Scalar) -> Difference:
    if isinstance(first, bool) or not (isinstance(first, int | float) and isinstance(second, int | float)):
        return Difference(attribute, first, second, None, None)
    return Difference(attribute, first, second, second - first, second / first if first else None)

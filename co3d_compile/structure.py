"""The containers around a model's tensors: what it takes and what it returns."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from functools import cache
from typing import Any

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from co3d_compile.errors import CaptureError

Plain = str | int | float | bool | None


class Kind(Enum):
    """What stands at one place of a structure."""

    TENSOR = "tensor"
    FIXED = "fixed"
    CONSTANT = "constant"
    TUPLE = "tuple"
    LIST = "list"
    DICT = "dict"
    ORDERED = "OrderedDict"
    NAMED = "namedtuple"


_KINDS = {
    tuple: Kind.TUPLE,
    list: Kind.LIST,
    dict: Kind.DICT,
    OrderedDict: Kind.ORDERED,
    namedtuple: Kind.NAMED,
}


@dataclass(frozen=True)
class Structure:
    """A tree of containers, as data: it is rebuilt without the types' own source, a dataclass as a namedtuple.

    Attributes:
        name: of a namedtuple's type, a dataclass, or of the constant that a fixed tensor is.
        keys: of a dict, or the fields of a namedtuple or dataclass.
        value: of a constant.
    """

    kind: Kind
    name: str = ""
    keys: tuple[Plain, ...] = ()
    parts: tuple[Structure, ...] = ()
    value: Plain = None

    def filled(self, tensors: Iterable[Any], fixed: Callable[[str], Any] | None = None) -> Any:
        """The containers with these in the places of the tensors, in order.

        Args:
            fixed: finds a fixed tensor by its name.
        """
        return self._filled(iter(tensors), fixed)

    def with_fixed(self, names: Iterable[str | None]) -> Structure:
        """The same with names for the tensors that are fixed, out of all its tensors in order; None for the others."""
        left = iter(names)

        def named(one: Structure) -> Structure:
            if one.kind is Kind.TENSOR:
                name = next(left)
                return one if name is None else Structure(Kind.FIXED, name)
            return replace(one, parts=tuple(named(part) for part in one.parts))

        return named(self)

    def moving(self, tensors: Sequence[Any]) -> list[Any]:
        """Of one thing for each tensor, fixed or not, in order, those for the tensors that are not."""
        kinds = [kind for kind in self._kinds() if kind in (Kind.TENSOR, Kind.FIXED)]
        return [one for one, kind in zip(tensors, kinds, strict=True) if kind is Kind.TENSOR]

    def _kinds(self) -> Iterator[Kind]:
        yield self.kind
        for part in self.parts:
            yield from part._kinds()

    def places(self, path: str = "") -> list[str]:
        """Where each tensor stands, for instance ``[0]['logits']``; the empty text for a lone tensor."""
        if self.kind is Kind.TENSOR:
            return [path]
        if self.kind is Kind.NAMED:
            steps = [f".{key}" for key in self.keys]
        else:
            steps = [f"[{key!r}]" for key in self.keys or range(len(self.parts))]
        return [place for step, part in zip(steps, self.parts, strict=True) for place in part.places(path + step)]

    def _filled(self, tensors: Iterator[Any], fixed: Callable[[str], Any] | None) -> Any:
        parts = [part._filled(tensors, fixed) for part in self.parts]
        match self.kind:
            case Kind.TENSOR:
                return next(tensors)
            case Kind.FIXED:
                assert fixed is not None
                return fixed(self.name)
            case Kind.CONSTANT:
                return self.value
            case Kind.TUPLE:
                return tuple(parts)
            case Kind.LIST:
                return parts
            case Kind.DICT:
                return dict(zip(self.keys, parts, strict=True))
            case Kind.ORDERED:
                return OrderedDict(zip(self.keys, parts, strict=True))
            case Kind.NAMED:
                return _named(self.name, self.keys)(*parts)


def structure_of(spec: pytree.TreeSpec, leaves: Sequence[Any] | None = None) -> Structure:
    """The structure that torch describes.

    Args:
        leaves: what stands at the leaves: nodes for tensors, anything else is a constant. None: tensors only.

    Raises:
        CaptureError: a container is of a type that only its own source can rebuild.
    """
    return _structure(spec, iter([None] * spec.num_leaves if leaves is None else leaves), constants=leaves is not None)


def require_known(result: object) -> None:
    """Refuse a result that holds anything but tensors and plain values in containers that torch takes apart.

    Raises:
        CaptureError: it does.
    """
    for leaf in pytree.tree_leaves(result):
        if not isinstance(leaf, Tensor):
            _plain(leaf)


def _structure(spec: pytree.TreeSpec, leaves: Iterator[Any], *, constants: bool) -> Structure:
    if spec.is_leaf():
        leaf = next(leaves)
        return Structure(Kind.CONSTANT, value=_plain(leaf)) if constants and not _is_node(leaf) else TENSOR
    kind = _KINDS.get(spec.type)
    if kind is None and not is_dataclass(spec.type):
        raise _strange(spec.type)
    parts = tuple(_structure(child, leaves, constants=constants) for child in spec.children())
    if kind is None:
        return _with_fields(spec, parts)
    context = spec.context
    if kind is Kind.NAMED:
        return Structure(kind, context.__name__, context._fields, parts)
    keys = tuple(_plain(key) for key in context) if kind in (Kind.DICT, Kind.ORDERED) else ()
    return Structure(kind, keys=keys, parts=parts)


def _with_fields(spec: pytree.TreeSpec, parts: tuple[Structure, ...]) -> Structure:
    """Of a dataclass that torch takes apart: its fields, each a part or a constant such as None."""
    places = {_Place(): part for part in parts}
    try:
        made = pytree.SUPPORTED_NODES[spec.type].unflatten_fn(list(places), spec.context)
    except Exception as failure:  # its own source may look at what it is made of
        raise _strange(spec.type) from failure
    found = {field.name: getattr(made, field.name) for field in fields(spec.type)}
    if not places.keys() <= set(filter(_is_place, found.values())) or any(name.startswith("_") for name in found):
        raise _strange(spec.type)
    held = tuple(
        places[one] if _is_place(one) else Structure(Kind.CONSTANT, value=_plain(one)) for one in found.values()
    )
    return Structure(Kind.NAMED, spec.type.__name__, tuple(found), held)


class _Place:
    """Stands for a part while a container is looked at."""


def _is_place(one: object) -> bool:
    return isinstance(one, _Place)


def _is_node(leaf: Any) -> bool:
    return isinstance(leaf, fx.Node)


def _plain(value: Any) -> Plain:
    if value is None or type(value) in (str, int, float, bool):
        plain: Plain = value
        return plain
    raise _strange(type(value))


def _strange(kind: type) -> CaptureError:
    known = f"torch.export.register_dataclass({kind.__name__}), or " if is_dataclass(kind) else ""
    return CaptureError(
        f"the model takes or returns a {kind.__module__}.{kind.__qualname__}, which only its own source can rebuild\n"
        f"  try: {known}a wrapper around the model that returns tensors, tuples, lists or dicts"
    )


@cache
def _named(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields)


TENSOR = Structure(Kind.TENSOR)

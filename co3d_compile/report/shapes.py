"""One node of a plan on tensors without values: the shapes that it gives for other sizes of the frame."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from co3d_compile.ops.operation import overload
from co3d_compile.plan.plan import PlanNode, ValueRef, WeightRef
from co3d_compile.report.probing import Point, Sizes, Unknown, base_point, fitted
from co3d_compile.report.sides import Extent, Shape, Side, fixed, regrouped

Like = Callable[[str], Tensor]
"""A weight by its name; its shape and dtype are read."""

TO_SIZE = ("aten.upsample", "aten._upsample", "aten.expand")
"""They stretch what they take to a size that is given as numbers: most often that of another tensor."""
AS_LARGE = ("aten.adaptive", "aten._adaptive", "aten.avg_pool", "aten.max_pool")
"""The same, or a size of their own: a graph does not tell."""
AS_TAKEN = ("aten.batch_norm", "aten.layer_norm", "aten.group_norm", "aten.instance_norm", "aten.softmax")
"""They give the shape that they take, and are slow to ask."""
STEP_BY_STEP = ("aten.lstm", "aten.gru", "aten.rnn")
"""They have no kernel that a size must hold, and take as long as their sequence is."""
FEW_STEPS = 3
SIZES = ("output_size", "size", "kernel_size", "stride")


@dataclass(frozen=True)
class Operands:
    """What a node reads.

    Attributes:
        shapes, dtypes: of values, by name.
        weight: finds a weight.
        levels: the sides that the network has had so far, in order.
        follow: sizes of pools that are as large as the frame there follow from it; else they stay.
        filled: values that are one number everywhere, and so of whatever size the others have.
        known: what was found of such calls before.
    """

    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, torch.dtype]
    weight: Like
    levels: Sequence[Side]
    follow: bool = False
    filled: frozenset[str] = frozenset()
    known: dict[Hashable, list[Shape]] = field(default_factory=dict)

    def of(self, node: PlanNode) -> Operands:
        """Those of one node, the filled ones as large as the others are."""
        names = list(dict.fromkeys(_values_in(node.arguments)))
        shapes = {name: self.shapes[name] for name in names}
        given = [shapes[name] for name in names if name not in self.filled]
        for name in self.filled.intersection(names):
            like = max(given, key=len, default=())
            shapes[name] = tuple(_stretched(extent, like[place:]) for place, extent in _from_the_end(shapes[name]))
        return replace(self, shapes=shapes)

    def described(self, value: Any) -> Hashable:
        """An argument, with shapes and dtypes in the place of tensors."""
        match value:
            case ValueRef(name):
                return self.shapes[name], self.dtypes[name]
            case WeightRef(name):
                weight = self.weight(name)
                return tuple(weight.shape), weight.dtype
            case list():
                return tuple(self.described(entry) for entry in value)
            case _:
                return type(value), value


def output_shapes(node: PlanNode, operands: Operands, made: tuple[Sizes, ...]) -> list[Shape]:
    """The shapes of what a node makes.

    Args:
        operands: those of the node.
        made: these shapes in the clip that was compiled.

    Raises:
        ValueError: they do not follow from those of its operands.
    """
    read = [operands.shapes[name] for name in _values_in(node.arguments)]
    if not any(extent.sides for shape in read for extent in shape):
        return [fixed(sizes) for sizes in made]
    if node.target == "aten.reshape.default":
        return [regrouped(operands.shapes[node.arguments["self"].name], made[0])]
    if _gives_what_it_takes(node, read, made):
        return [read[0]]
    # what is told by the levels before it is another thing at another place
    key = (
        node.target,
        operands.described(list(node.arguments.values())),
        made,
        tuple(operands.levels) if _follows(node) else (),
    )
    if key not in operands.known:
        operands.known[key] = _found_shapes(node, operands, made)
    return operands.known[key]


def _gives_what_it_takes(node: PlanNode, read: Sequence[Shape], made: tuple[Sizes, ...]) -> bool:
    pointwise = torch.Tag.pointwise in overload(node.target).tags and len(set(read)) == 1
    as_taken = tuple(extent.clip for extent in read[0]) == made[0]
    return len(made) == 1 and as_taken and (pointwise or node.target.startswith(AS_TAKEN))


def _follows(node: PlanNode) -> bool:
    return node.target.startswith((*TO_SIZE, *AS_LARGE))


def _found_shapes(node: PlanNode, operands: Operands, made: tuple[Sizes, ...]) -> list[Shape]:
    call = _Call(node, operands)
    extents = list(dict.fromkeys(call.extents))
    few = node.target.startswith(STEP_BY_STEP)
    base = base_point(extents, FEW_STEPS, FEW_STEPS) if few else base_point(extents)
    try:
        shapes = _fitted_shapes(call, base)
    except (RuntimeError, NotImplementedError, TypeError, IndexError):
        # sizes that are written otherwise but agree, such as a skip connection's: taken for one, the plainer
        shapes = _fitted_shapes(call, call.merged(base))
    return [_as_in_clip(shape, sizes) for shape, sizes in zip(shapes, made, strict=True)]


def _fitted_shapes(call: _Call, base: Point) -> list[Shape]:
    counts = [len(shape) for shape in call.run(base)]
    flat = fitted(lambda point: tuple(size for shape in call.run(point) for size in shape), base)
    left = iter(flat)
    return [tuple(next(left) for _ in range(count)) for count in counts]


def _as_in_clip(shape: Shape, sizes: Sizes) -> Shape:
    """Numbers as the plan has them, which keeps time where an operator on a clip drops it."""
    if len(shape) != len(sizes):
        raise Unknown("its number of dimensions follows from the size")
    if any(extent.sides and extent.clip != size for extent, size in zip(shape, sizes, strict=True)):
        raise Unknown("its size is none that follows from the frame's")
    return tuple(extent if extent.sides else Extent.of(size) for extent, size in zip(shape, sizes, strict=True))


class _Call:
    """The node's operator, to be run at any point."""

    def __init__(self, node: PlanNode, operands: Operands) -> None:
        self._function = overload(node.target)
        self._operands = operands
        self._same: dict[Extent, Extent] = {}
        self._arguments = {name: self._read(node, name, value) for name, value in node.arguments.items()}

    @property
    def extents(self) -> list[Extent]:
        """Those that follow from the frame's size."""
        named = [extent for name in _values_in(self._arguments) for extent in self._operands.shapes[name]]
        given = [entry for value in self._arguments.values() for entry in _listed(value) if isinstance(entry, Extent)]
        return [extent for extent in (*named, *given) if extent.sides]

    def merged(self, base: Point) -> Point:
        """The point at which extents along one side, equal in the clip, are one."""
        for extent in base:
            alike = [other for other in base if _looks_alike(extent, other)]
            self._same[extent] = min(alike, key=lambda one: sum(len(side.steps) for side in one.sides))
        return {extent: size for extent, size in base.items() if self._same[extent] == extent}

    def run(self, point: Point) -> list[Sizes]:
        made = self._function(**{name: self._filled(value, point) for name, value in self._arguments.items()})
        outputs = made if isinstance(made, (tuple, list)) else (made,)
        return [tuple(output.shape) for output in outputs]

    def _read(self, node: PlanNode, name: str, value: Any) -> Any:
        follows = node.target.startswith(TO_SIZE) or (self._operands.follow and node.target.startswith(AS_LARGE))
        if name not in SIZES or not follows or not isinstance(value, list):
            return value
        first = node.arguments.get("self", node.arguments.get("input"))
        shape = self._operands.shapes[first.name][-len(value) :]
        return [self._level(entry, place - len(value), shape) for place, entry in enumerate(value)]

    def _level(self, size: int, place: int, shape: Shape) -> int | Extent:
        """The extent that a size is, told by its number: the operand's own, or another that the network has had."""
        own = shape[place] if -place <= len(shape) else Extent(())
        if own.sides:
            if own.clip == size:
                return own
            levels = [side for side in self._operands.levels if side.symbol == own.sides[0].symbol]
        else:
            symbols = list(dict.fromkeys(side.symbol for side in self._operands.levels))
            levels = [side for side in self._operands.levels if place >= -2 and side.symbol == symbols[place]]
        return next((Extent.of(side) for side in levels if side.clip == size and size > 1), size)

    def _filled(self, value: Any, point: Point) -> Any:
        match value:
            case ValueRef(name):
                sizes = [self._size(extent, point) for extent in self._operands.shapes[name]]
                return torch.empty(sizes, dtype=self._operands.dtypes[name], device="meta")
            case WeightRef(name):
                weight = self._operands.weight(name)
                return torch.empty(weight.shape, dtype=weight.dtype, device="meta")
            case Extent():
                return self._size(value, point)
            case list():
                return [self._filled(entry, point) for entry in value]
            case _:
                return value

    def _size(self, extent: Extent, point: Point) -> int:
        return point[self._same.get(extent, extent)] if extent.sides else extent.number


def _from_the_end(shape: Shape) -> list[tuple[int, Extent]]:
    return [(place - len(shape), extent) for place, extent in enumerate(shape)]


def _stretched(extent: Extent, like: Shape) -> Extent:
    """The extent that stands at the same place from the end, if it is as large in the clip."""
    return like[0] if like and like[0].sides and like[0].clip == extent.clip else extent


def _looks_alike(one: Extent, other: Extent) -> bool:
    if one == other:
        return True
    sides = (*one.factors, *other.factors)
    alone = len(sides) == 2 and all(isinstance(side, Side) for side in sides)
    return alone and one.clip == other.clip and one.sides[0].symbol == other.sides[0].symbol


def _values_in(arguments: Mapping[str, Any]) -> Iterator[str]:
    for value in arguments.values():
        yield from (entry.name for entry in _listed(value) if isinstance(entry, ValueRef))


def _listed(value: Any) -> list[Any]:
    return [leaf for entry in value for leaf in _listed(entry)] if isinstance(value, list) else [value]

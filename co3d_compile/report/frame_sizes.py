"""The size of every tensor, and the cost of every node, for frames of any height and width."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import gcd, inf, prod

import sympy

from co3d_compile.errors import first_line
from co3d_compile.layout import Layout, Spread
from co3d_compile.ops.operation import Refused
from co3d_compile.ops.table import OperationTable
from co3d_compile.plan.plan import FrameTrial, Plan, PlanInput, PlanNode, Value
from co3d_compile.report.formula import HEIGHT, WIDTH
from co3d_compile.report.node_costs import node_cost
from co3d_compile.report.shapes import Like, Operands, output_shapes
from co3d_compile.report.sides import Extent, Shape, Side, fixed, height, width

CHANNELS = 4
"""A video has up to so many."""


@dataclass(frozen=True)
class FixedFrame:
    """Why a network keeps the frame size that it was compiled for.

    Attributes:
        path: the module that fixes it; empty at the top level, or where none does.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class FrameSizes:
    """Sizes and costs.

    Attributes:
        shapes: of values, in the clip.
        macs: of nodes, for one element and one stream.
        fixed: why all of it stays as compiled; None: it follows from the frame's height and width.
        step: it does for sizes that differ from the clip's by a multiple of so much.
        checked: the original was counted at other sizes, and these are its numbers.
    """

    shapes: Mapping[str, Shape] = field(default_factory=dict)
    macs: Mapping[str, sympy.Expr] = field(default_factory=dict)
    fixed: FixedFrame | None = None
    step: int = 1
    checked: bool = False

    @property
    def least(self) -> tuple[int, int]:
        """The smallest height and width at which every tensor has elements."""
        sides = {side for shape in self.shapes.values() for extent in shape for side in extent.sides}
        return _least(side for side in sides if side.symbol == HEIGHT), _least(
            side for side in sides if side.symbol == WIDTH
        )

    def element(self, value: Value) -> sympy.Expr:
        """Numbers in one element of one stream."""
        numbers = sympy.Integer(prod(value.layout.running_shape(1, 1)))
        if self.fixed is not None or value.name not in self.shapes:
            return numbers
        sides = [side for place in _running(value.layout) for side in self.shapes[value.name][place].sides]
        return numbers / prod(side.clip for side in sides) * sympy.Mul(*(side.expression for side in sides))

    def cost(self, node: PlanNode) -> sympy.Expr:
        """Multiply-accumulates for one element and one stream."""
        if self.fixed is not None or node.name not in self.macs:
            return sympy.Integer(node.macs)
        return self.macs[node.name]


def frame_places(given: PlanInput, layout: Layout) -> tuple[int, int] | None:
    """The dimensions of height and width of an input; None where there are no such two."""
    plain = [place for place, dim in enumerate(layout.dims) if all(isinstance(factor, int) for factor in dim)]
    if len(plain) == 3:
        last = given.shape[plain[2]] <= CHANNELS < given.shape[plain[0]]
        plain = plain[:2] if last else plain[1:]
    return (plain[0], plain[1]) if len(plain) == 2 else None


def frame_of(plan: Plan) -> tuple[int, int] | None:
    """Height and width of the frames that all inputs take; None where they differ, or there are none."""
    found = set()
    for given in plan.inputs:
        places = frame_places(given, plan.values[given.value].layout)
        found.add(places and (given.shape[places[0]], given.shape[places[1]]))
    return found.pop() if len(found) == 1 else None


def settled_sizes(plan: Plan, weight: Like, operations: OperationTable) -> FrameSizes:
    """Sizes and costs as they follow from the frame's, held against the trials of the original.

    Args:
        weight: finds a weight by its name.
    """
    read = [follow_sizes(plan, weight, operations, follow=follow) for follow in (False, True)]
    following = [sizes for sizes in read if sizes.fixed is None]
    if not following or not plan.trials:
        return (following or read)[0]
    if all(trial.macs is None for trial in plan.trials):
        return FrameSizes(fixed=read[0].fixed or FixedFrame("", _refused(plan.trials[0])))
    agreeing = [(_step(plan, sizes), sizes) for sizes in following]
    step, sizes = min(agreeing, key=lambda one: one[0] or inf)
    if not step:
        otherwise = FixedFrame("", "the original's cost follows from the frame's size in another way")
        return FrameSizes(fixed=read[0].fixed or otherwise)
    return replace(sizes, step=step, checked=True)


def clip_macs(plan: Plan, sizes: FrameSizes) -> sympy.Expr:
    """Multiply-accumulates of the original for the example clip, one stream."""
    return sympy.Add(
        *(sizes.cost(node) * sympy.Rational(node.clip_macs, node.macs) for node in plan.nodes if node.macs)
    )


def _step(plan: Plan, sizes: FrameSizes) -> int:
    """What all sizes differ by at which the original agrees; 0: it does at none."""
    frame, batch = frame_of(plan), plan.values[plan.inputs[0].value].layout.batch
    assert frame is not None
    macs = clip_macs(plan, sizes) * batch
    beyond = [_beyond(macs, trial) for trial in plan.trials]
    # torch counts no recurrent layers, which cost the same at any size of the frame
    agree = (
        plan.trials if len(set(beyond)) == 1 else [t for t, more in zip(plan.trials, beyond, strict=True) if more == 0]
    )
    return gcd(*(side for trial in agree for side in (trial.height - frame[0], trial.width - frame[1])))


def _beyond(macs: sympy.Expr, trial: FrameTrial) -> int | None:
    """How much more there is in the formula than torch counted in the original."""
    if trial.macs is None:
        return None
    return int(macs.subs({HEIGHT: trial.height, WIDTH: trial.width})) - trial.macs


def _refused(trial: FrameTrial) -> str:
    return f"the original takes no frames of {trial.height} x {trial.width}: {trial.refusal}"


def _least(sides: Iterator[Side]) -> int:
    """Sizes grow with the frame's, so the largest that gives one of size 0 is found by halving."""
    found = 1
    for side in sides:
        low, high = found, max(found, side.compiled)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if side.of(middle) > 0 else (middle + 1, high)
        found = low
    return found


def follow_sizes(plan: Plan, weight: Like, operations: OperationTable, *, follow: bool = False) -> FrameSizes:
    """Every size and cost as it follows from the frame's.

    Args:
        weight: finds a weight by its name.
        follow: sizes of pools that are as large as the frame there follow from it; else they stay.
    """
    frame = frame_of(plan)
    if frame is None:
        return FrameSizes(fixed=FixedFrame("", "its inputs have no frames of one height and width"))
    walk = _Walk(plan, weight, operations, frame, follow)
    for node in plan.nodes:
        try:
            walk.take(node)
        except (ValueError, RuntimeError, NotImplementedError, TypeError, IndexError, Refused) as failure:
            return FrameSizes(fixed=FixedFrame(node.path or node.name, first_line(failure)))
    return FrameSizes(walk.shapes, walk.macs)


class _Walk:
    """The nodes one by one."""

    def __init__(
        self, plan: Plan, weight: Like, operations: OperationTable, frame: tuple[int, int], follow: bool
    ) -> None:
        self.plan = plan
        self.shapes: dict[str, Shape] = {}
        self.macs: dict[str, sympy.Expr] = {}
        self._operations = operations
        for given in plan.inputs:
            self.shapes[given.value] = _input_shape(given, plan.values[given.value].layout)
        for node in plan.statics:
            self.shapes |= {name: fixed(plan.values[name].layout.shape) for name in node.outputs}
        self._levels = [height(frame[0]), width(frame[1])]
        self._dtypes = {name: value.dtype for name, value in plan.values.items()}
        filled = frozenset(node.name for node in plan.statics if node.target == "aten.full.default")
        self._operands = Operands(self.shapes, self._dtypes, weight, self._levels, follow, filled)
        self._costs: dict[Hashable, sympy.Expr] = {}

    def take(self, node: PlanNode) -> None:
        """Follow the sizes through one node.

        Raises:
            ValueError: they do not follow; or what torch raises where the operator takes no other sizes.
        """
        layouts = [self.plan.values[name].layout for name in node.outputs]
        operands = self._operands.of(node)
        found = output_shapes(node, operands, tuple(layout.shape for layout in layouts))
        self.shapes |= dict(zip(node.outputs, found, strict=True))
        sides = [side for shape in found for extent in shape for side in extent.sides]
        self._levels += [side for side in dict.fromkeys(sides) if side not in self._levels]
        if node.macs:
            key = (
                node.target,
                operands.described(list(node.arguments.values())),
                node.taps,
                tuple(layouts),
                tuple(found),
                node.macs,
            )
            if key not in self._costs:
                shapes = {**operands.shapes, **dict(zip(node.outputs, found, strict=True))}
                self._costs[key] = node_cost(self.plan, node, shapes, operands.weight, self._operations)
            self.macs[node.name] = self._costs[key]


def _input_shape(given: PlanInput, layout: Layout) -> Shape:
    places = frame_places(given, layout)
    assert places is not None
    sides = dict(zip(places, (height, width), strict=True))
    return tuple(Extent.of(sides[n](size) if n in sides else size) for n, size in enumerate(given.shape))


def _running(layout: Layout) -> Iterator[int]:
    """The dimensions that elements really have: what is repeated is kept once."""
    for place, dim in enumerate(layout.dims):
        if not any(isinstance(factor, Spread) for factor in dim):
            yield place

"""What one node costs, as it follows from the sizes of what it reads and makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import sympy

from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.flow import Flow
from co3d_compile.ops.operation import Call, Facts
from co3d_compile.ops.table import OperationTable
from co3d_compile.plan.plan import Plan, PlanNode, ValueRef, WeightRef
from co3d_compile.report.probing import Point, base_point, fitted_monomial
from co3d_compile.report.shapes import Like
from co3d_compile.report.sides import Shape


def node_cost(
    plan: Plan, node: PlanNode, shapes: Mapping[str, Shape], weight: Like, operations: OperationTable
) -> sympy.Expr:
    """The rule's own count, as it follows from the sizes."""
    rule = operations.rule_for(node.target)
    assert rule is not None
    batch = plan.values[node.outputs[0]].layout.batch
    names = dict.fromkeys((*(ref.name for ref in _values(node.arguments)), *node.outputs))
    extents = dict.fromkeys(extent for name in names for extent in shapes[name] if extent.sides)

    def counted(point: Point) -> int:
        layouts = {name: _resized(plan.values[name].layout, shapes[name], point) for name in names}

        def facts(value: Any) -> Any:
            return _facts(value, plan, layouts, weight)

        call = Call(
            node.target,
            {name: facts(value) for name, value in node.arguments.items()},
            tuple(layouts[name].shape for name in node.outputs),
        )
        each = node.taps[: len(call.streaming)] if len(set(node.taps)) > 1 else ()
        made = Flow(node.way, tuple(layouts[name] for name in node.outputs), node.reading, each)
        return rule.macs(call, made) // batch

    found = fitted_monomial(counted, base_point(list(extents)))
    if found.at({extent: extent.clip for extent in extents}) != node.macs:
        raise ValueError("its cost is not the one that was counted")
    powers = [extent.expression**power for extent, power in found.powers.items()]
    return sympy.Rational(found.number.numerator, found.number.denominator) * sympy.Mul(*powers)


def _resized(layout: Layout, shape: Shape, point: Point) -> Layout:
    """The layout with other sizes in the place of those that follow from the frame's."""
    dims: list[Dim] = []
    for dim, extent in zip(layout.dims, shape, strict=True):
        marks = tuple(factor for factor in dim if isinstance(factor, Mark))
        marked = prod(layout.size(mark) for mark in marks)
        dims.append((*marks, point[extent] // marked if marks else point[extent]) if extent.sides else dim)
    return layout.with_dims(dims)


def _facts(value: Any, plan: Plan, layouts: Mapping[str, Layout], weight: Like) -> Any:
    match value:
        case ValueRef(name):
            return Facts(layouts[name], plan.values[name].dtype, plan.values[name].timing)
        case WeightRef(name):
            tensor = weight(name)
            return Facts(Layout(tuple((size,) for size in tensor.shape), 1, 1), tensor.dtype)
        case list():
            return [_facts(entry, plan, layouts, weight) for entry in value]
        case _:
            return value


def _values(arguments: Mapping[str, Any]) -> Iterator[ValueRef]:
    for value in arguments.values():
        entries = value if isinstance(value, list) else [value]
        yield from (entry for entry in entries if isinstance(entry, ValueRef))

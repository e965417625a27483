"""Values that are known when a network is compiled: masks, indices, zeros. What training may change is not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx

from co3d_compile.ops.constants import single_value
from co3d_compile.ops.operation import overload
from co3d_compile.program.interpret import is_by_chance
from co3d_compile.program.program import Program, bound_arguments, facts_of, target_name, with_nodes_replaced

LIMIT = 1 << 16
"""Elements; what decides about time is small."""
FILLED = ("aten.full.default", "aten.zeros.default", "aten.ones.default")
RESHAPED = ("aten.reshape.default", "aten.repeat.default")
VIEWS = tuple(
    f"aten.{name}"
    for name in (
        "slice.Tensor",
        "select.int",
        "expand.default",
        "permute.default",
        "transpose.int",
        "unsqueeze.default",
    )
)
"""They copy nothing, so that the size of a result costs nothing."""


def known_tensor(program: Program, name: str) -> Tensor | None:
    """The values of a buffer or constant; None for a weight, and for what is large or has no values yet."""
    tensor = program.tensors[name]
    if name in program.trainable or tensor.is_meta or tensor.numel() > LIMIT:
        return None
    return tensor


def known_result(node: fx.Node) -> Tensor | None:
    """What a call of known values gives; None where one is not known, or it gives another result each time."""
    target, value = node.target, node.meta["val"]
    if not isinstance(target, torch._ops.OpOverload) or not isinstance(value, Tensor):
        return None
    if is_by_chance(node):
        return None
    if any(facts_of(operand).known is None for operand in node.all_input_nodes):
        return None
    with torch.no_grad():
        if target_name(node) in FILLED:
            filled: Tensor = target(**bound_arguments(node) | {"size": (), "device": torch.device("cpu")})
            return filled.expand(value.shape)
        if value.numel() <= LIMIT or target_name(node) in VIEWS:
            return _called(node, _values)
        return _called_on_single_values(node)


def simplify_known(node: fx.Node) -> None:
    """What is known to be one value everywhere is made as such, so that it fits any batch and any length."""
    if not isinstance(node.meta["val"], Tensor) or facts_of(node).streams or target_name(node) == "aten.full.default":
        return
    value = single_value(facts_of(node))
    if value is not None:
        node.target = torch.ops.aten.full.default
        node.args, node.kwargs = (list(node.meta["val"].shape), value), {"dtype": node.meta["val"].dtype}


def _called_on_single_values(node: fx.Node) -> Tensor | None:
    """Large, but made element by element of operands that hold one value everywhere."""
    singles = {operand: single_value(facts_of(operand)) for operand in node.all_input_nodes}
    if None in singles.values():
        return None
    shape = node.meta["val"].shape
    if target_name(node) in RESHAPED:
        first = _values(node.all_input_nodes[0])
        return first[(0,) * first.dim()].expand(shape)
    if torch.Tag.pointwise not in overload(target_name(node)).tags:
        return None
    return _called(node, lambda operand: _values(operand)[(0,) * _values(operand).dim()]).expand(shape)


def _called(node: fx.Node, value_of: Callable[[fx.Node], Tensor]) -> Tensor:
    args = with_nodes_replaced(node.args, value_of)
    kwargs = {name: with_nodes_replaced(value, value_of) for name, value in node.kwargs.items()}
    result: Tensor = node.target(*args, **kwargs)  # type: ignore[operator]
    return result


def _values(operand: fx.Node) -> Tensor:
    known = facts_of(operand).known
    assert known is not None
    return known

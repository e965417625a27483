"""Time with something folded into it, ``T * r``, taken for time at r times the rate where an operation needs it so."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

from co3d_compile.ops.operation import Refused, canonical_dim
from co3d_compile.program.program import bound_arguments, facts_of, is_getitem, target_name

VIEW = torch.ops.aten.view_copy.default
CUTTING = (
    "aten.cat.default",
    "aten.slice.Tensor",
    "aten.select.int",
    "aten.slice_scatter.default",
    "aten.select_scatter.default",
    "aten.index_select.default",
    "aten.roll.default",
)


def has_unfolded_bursts(node: fx.Node, annotate: Callable[[fx.Node], None]) -> bool:
    """Whether a node that refuses its operands takes them, annotated, with their bursts as elements of time.

    Law: no value changes; a node that refuses those too is left as it was.
    """
    folded = [operand for operand in node.all_input_nodes if facts_of(operand).has_time and _burst(operand) > 1]
    if not folded:
        return False
    views = {operand: _unfolded(node, operand) for operand in folded}
    for operand, view in views.items():
        node.replace_input_with(operand, view)
    try:
        for one in (*views.values(), node):
            annotate(one)
    except Refused:
        for operand, view in views.items():
            node.replace_input_with(view, operand)
            if not view.users:
                node.graph.erase_node(view)
        return False
    return True


def unfold_what_is_cut(node: fx.Node, annotate: Callable[[fx.Node], object]) -> None:
    """A node that takes time apart or puts it together where something is folded into it takes bursts as elements.

    Law: no value changes.
    """
    for operand in [one for one in node.all_input_nodes if _is_cut(node, one)]:
        view = _unfolded(node, operand)
        annotate(view)
        node.replace_input_with(operand, view)


def _is_cut(node: fx.Node, operand: fx.Node) -> bool:
    facts = operand.meta["facts"]
    if node.op != "call_function" or is_getitem(node) or target_name(node) not in CUTTING:
        return False
    if len(facts) != 1 or not facts[0].has_time or facts[0].layout.burst == 1:
        return False
    given = bound_arguments(node)
    dims = given["dims"] if "dims" in given else [given.get("dim", 0)]
    rank = facts[0].layout.rank
    return any(canonical_dim(dim, rank) == facts[0].layout.time_dim for dim in dims)


def _burst(operand: fx.Node) -> int:
    return facts_of(operand).layout.burst


def _unfolded(node: fx.Node, operand: fx.Node) -> fx.Node:
    for user in operand.users:
        if user.target is VIEW:
            return user
    with node.graph.inserting_after(operand):
        view = node.graph.call_function(VIEW, (operand, list(facts_of(operand).layout.shape)))
    view.meta = {"path": node.meta["path"], "val": operand.meta["val"]}
    return view

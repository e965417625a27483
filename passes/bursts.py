"""Time with something folded into it, ``T * r``, taken for time at r times the rate where an operation needs it so."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

from co3d_compile.ops.operation import Refused
from co3d_compile.program.program import facts_of

VIEW = torch.ops.aten.view_copy.default


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


def _burst(operand: fx.Node) -> int:
    return facts_of(operand).layout.burst


def _unfolded(node: fx.Node, operand: fx.Node) -> fx.Node:
    for user in operand.users:
        if user.target is VIEW:
            return user
    with node.graph.inserting_before(node):
        view = node.graph.call_function(VIEW, (operand, list(facts_of(operand).layout.shape)))
    view.meta = {"path": node.meta["path"], "val": operand.meta["val"]}
    return view

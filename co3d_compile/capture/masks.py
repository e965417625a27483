"""Constant masks: what they pick is of one size, which the trace of a model leaves open."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from co3d_compile.program.interpret import constant_value
from co3d_compile.program.program import bound_arguments, target_name, with_nodes_replaced

ASSERTIONS = ("aten._assert_scalar", "aten.sym_constrain_range")


def settle_masks(graph: fx.Graph, tensors: dict[str, Tensor], changing: Collection[str]) -> None:
    """Put the places that a constant mask picks in its place, and the sizes that follow from them in theirs.

    Args:
        tensors: those that the graph reads; the places are added.
        changing: names of those that may be others in another network of the same form.
    """
    values: dict[fx.Node, Any] = {}
    calls = [node for node in graph.nodes if node.op == "call_function" and target_name(node) == "aten.index.Tensor"]
    settled = [_settle(graph, node, tensors, changing, values) for node in calls]
    if any(settled):
        _settle_sizes(graph)


def _settle(
    graph: fx.Graph, node: fx.Node, tensors: dict[str, Tensor], changing: Collection[str], values: dict[fx.Node, Any]
) -> bool:
    indices: list[Any] = bound_arguments(node)["indices"]
    masks = [one for one in indices if isinstance(one, fx.Node) and one.meta["val"].dtype is torch.bool]
    found = {mask: constant_value(mask, tensors, changing, values) for mask in masks}
    if not masks or any(one is None for one in found.values()):
        return False
    listed: list[Any] = []
    for index in indices:
        places = found[index].nonzero(as_tuple=True) if index in found else [index]
        listed += [_constant(graph, node, tensors, one) if isinstance(one, Tensor) else one for one in places]
    node.args = (node.args[0], listed)
    return True


def _constant(graph: fx.Graph, node: fx.Node, tensors: dict[str, Tensor], value: Tensor) -> fx.Node:
    name = f"places_{sum(one.startswith('places_') for one in tensors)}"
    tensors[name] = value
    with graph.inserting_before(node):
        made = graph.create_node("get_attr", name, name=name)
    made.meta = {"path": node.meta.get("path", ""), "val": value.to("meta")}
    return made


def _settle_sizes(graph: fx.Graph) -> None:
    """Numbers made of open sizes become literals, and their checks go."""
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if target_name(node).startswith(ASSERTIONS):
            if not node.all_input_nodes:
                graph.erase_node(node)
        elif any(_is_open(leaf) for leaf in pytree.tree_leaves(node.meta.get("val"))):
            _settle_size(graph, node)


def _settle_size(graph: fx.Graph, node: fx.Node) -> None:
    values = [one.meta["val"] for one in node.all_input_nodes]
    if any(_is_open(leaf) for leaf in pytree.tree_leaves(values)):
        return
    args = with_nodes_replaced(node.args, _shape)
    kwargs = {name: with_nodes_replaced(one, _shape) for name, one in node.kwargs.items()}
    made = node.target(*args, **kwargs)  # type: ignore[operator]
    node.meta["val"] = made
    if isinstance(made, (bool, int, float)):
        node.replace_all_uses_with(made)  # type: ignore[arg-type]
        graph.erase_node(node)


def _shape(node: fx.Node) -> Any:
    """A tensor like what the node gives, without values."""

    def bare(leaf: Any) -> Any:
        return torch.empty_like(leaf, device="meta") if isinstance(leaf, Tensor) else leaf

    return pytree.tree_map(bare, node.meta["val"])


def _is_open(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not all(type(size) is int for size in value.shape)
    return isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool))

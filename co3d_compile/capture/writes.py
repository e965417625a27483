"""In-place operators become the ones that make a new tensor, where nothing else sees the memory that they write to."""

from __future__ import annotations

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from co3d_compile.capture.vocabulary import IDENTITIES

COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
AS_TRAINED = ("training", "use_input_stats")
STATISTICS = ("running_mean", "running_var")
"""With these arguments an operator writes to statistics that its schema declares as read."""


def without_writes(graph: fx.Graph) -> bool:
    """Rewrite what can be, in place.

    ``torch.export`` rewrites every case, by tracing the graph once more. Most models only write to what a convolution,
    a norm or a sum has just made, as ``nn.ReLU(inplace=True)`` does, and that shows from the graph alone.

    Returns:
        Whether no operator is left that writes to a tensor.
    """
    place = {node: number for number, node in enumerate(graph.nodes)}
    memory = _memory_of(graph)
    for node in list(graph.nodes):
        if not _writes(node):
            continue
        pure, names = _pure(node), _names_of_what_it_writes(node, memory)
        if pure is None or not names:
            return False
        made = _replace(node, pure, names, place)
        memory = {made if other is node else other: shared for other, shared in memory.items() if other not in names}
    return True


def hidden_views(graph: fx.Graph) -> set[str]:
    """Operators that give a view of what they take, though they do not declare it, such as ``einsum``.

    ``torch.export`` takes what they give for new tensors, unless it breaks them down.
    """
    memory = _memory_of(graph)
    hiding = set()
    for node in graph.nodes:
        shares = any(memory[node] & memory[one] for one in node.all_input_nodes)
        if shares and isinstance(node.target, torch._ops.OpOverload) and not _declares(node.target):
            hiding.add(str(node.target))
    return hiding


def _declares(operator: torch._ops.OpOverload) -> bool:
    """That what it gives may lie in the memory of what it takes."""
    return any(one.alias_info is not None for one in operator._schema.returns)


def _writes(node: fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    schema = node.target._schema
    given = {**dict(zip((one.name for one in schema.arguments), node.args, strict=False)), **node.kwargs}
    trained = any(given.get(name) is True for name in AS_TRAINED)
    return schema.is_mutable or (trained and any(given.get(name) is not None for name in STATISTICS))


def _memory_of(graph: fx.Graph) -> dict[fx.Node, set[int]]:
    """What the tensors of each node lie in."""
    found: dict[fx.Node, set[int]] = {}
    other_name: dict[int, int] = {}
    for node in graph.nodes:
        tensors = [leaf for leaf in pytree.tree_leaves(node.meta.get("val")) if isinstance(leaf, Tensor)]
        seen = {tensor.untyped_storage()._cdata for tensor in tensors}
        if _gives_its_input(node):
            (given,) = found[node.all_input_nodes[0]]
            other_name |= dict.fromkeys(seen - {given}, given)
        found[node] = {other_name.get(one, one) for one in seen}
    return found


def _gives_its_input(node: fx.Node) -> bool:
    """Dropout in eval mode, whose traces show another tensor."""
    operator = node.target
    if not isinstance(operator, torch._ops.OpOverload) or str(operator) not in IDENTITIES:
        return False
    return operator.has_kernel_for_dispatch_key(COMPOSITE) and not _declares(operator)


def _pure(node: fx.Node) -> torch._ops.OpOverload | None:
    """The operator that gives the same as a new tensor; None: there is none, or it gives another dtype."""
    assert isinstance(node.target, torch._ops.OpOverload)
    space, name = node.target._schema.name.split("::")
    packet = getattr(getattr(torch.ops, space), name.removesuffix("_"), None) if name.endswith("_") else None
    if packet is None or node.target._overloadname not in packet.overloads():
        return None
    pure: torch._ops.OpOverload = getattr(packet, node.target._overloadname)
    types = [[str(one.type) for one in operator._schema.arguments] for operator in (pure, node.target)]
    values = [one.meta["val"] for one in node.all_input_nodes]
    dtypes = {value.dtype if isinstance(value, Tensor) else None for value in values}
    alike = types[0] == types[1] and not node.kwargs and len(dtypes) == 1 and None not in dtypes
    return pure if alike and not pure._schema.is_mutable and values[0].is_floating_point() else None


def _names_of_what_it_writes(node: fx.Node, memory: dict[fx.Node, set[int]]) -> list[fx.Node]:
    """The nodes that are the tensor which it writes to; none where some are another view of its memory."""
    written = node.args[0] if node.args else None
    if not isinstance(written, fx.Node) or not memory[written] & memory[node]:
        return []
    sharing = [other for other in memory if other.op != "output" and memory[other] & memory[node]]
    first, *others = sharing[: sharing.index(node)]
    one = first.op == "call_function" and all(_gives_its_input(other) for other in others)
    return [first, *others] if one and written in (first, *others) else []


def _replace(node: fx.Node, pure: torch._ops.OpOverload, names: list[fx.Node], place: dict[fx.Node, int]) -> fx.Node:
    """What comes later reads the new tensor, under whichever name it had."""
    with node.graph.inserting_before(node):
        made = node.graph.call_function(pure, node.args, node.kwargs)
    made.meta = dict(node.meta)
    place[made] = place[node]
    node.replace_all_uses_with(made)
    for name in names:
        name.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made and place[user] > place[made])
    node.graph.erase_node(node)
    return made

"""Frames taken one by one and laid side by side again, in one spelling: ``select`` and ``stack``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from co3d_compile.layout import Mark
from co3d_compile.ops.operation import Facts
from co3d_compile.program.program import bound_arguments, is_getitem, path_of, target_name

aten = torch.ops.aten

PARTS = ("aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default", "aten.unbind.int")


def time_dim(node: fx.Node) -> int | None:
    """The dimension that is time alone, of a tensor whose facts are known."""
    facts: tuple[Facts, ...] | None = node.meta.get("facts")
    if not facts or not isinstance(node.meta["val"], Tensor) or facts[0].timing is None:
        return None
    dims = facts[0].layout.dims
    return dims.index((Mark.TIME,)) if (Mark.TIME,) in dims else None


def select_frames(graph: fx.Graph, source: fx.Node) -> None:
    """Every way to take a single frame of ``source`` becomes one ``select`` of it for each frame."""
    taken: dict[int, fx.Node] = {}
    for node, frame, keeps_axis in list(single_frames(source)):
        if frame not in taken:
            with graph.inserting_after(source):
                taken[frame] = made = graph.call_function(aten.select.int, (source, time_dim(source), frame))
            described(made, path_of(node))
        by = taken[frame]
        if keeps_axis:
            with graph.inserting_before(node):
                by = graph.call_function(aten.unsqueeze.default, (by, time_dim(source)))
            described(by, path_of(node))
        node.replace_all_uses_with(by)
        graph.erase_node(node)


def single_frames(source: fx.Node) -> Iterator[tuple[fx.Node, int, bool]]:
    """The nodes that take one frame of ``source``, which frame, and whether they keep the axis of time."""
    dim = time_dim(source)
    if dim is None:
        return
    shape = tuple(source.meta["val"].shape)
    for user in source.users:
        if user.op != "call_function" or is_getitem(user):
            continue
        given = bound_arguments(user) if target_name(user) in (*PARTS, "aten.select.int", "aten.slice.Tensor") else {}
        if not given or given["self"] is not source or given["dim"] % len(shape) != dim:
            continue
        count = shape[dim]
        if target_name(user) == "aten.select.int":
            yield user, given["index"] % count, False
        elif target_name(user) == "aten.slice.Tensor":
            first, stop, step = slice(given["start"], given["end"], given["step"]).indices(count)
            if len(range(first, stop, step)) == 1:
                yield user, first, True
        elif len(user.meta["val"]) == count:
            for item in user.users:
                if is_getitem(item):
                    yield item, item.args[1] % count, target_name(user) != "aten.unbind.int"


def join_written_parts(graph: fx.Graph) -> None:
    """A tensor written part by part, each part once, becomes the parts side by side."""
    for node in list(graph.nodes):
        chain = _written_chain(node)
        if chain:
            _join(graph, node, chain)
    graph.eliminate_dead_code()


def _written_chain(last: fx.Node) -> list[fx.Node]:
    """The writes that end in ``last`` and together write all of a dimension, in its order; empty if there are none."""
    if not _is_write(last) or any(_is_write(user) and user.args[0] is last for user in last.users):
        return []
    chain: dict[int, fx.Node] = {}
    node = last
    while _is_write(node) and _written(node)[0] == _written(last)[0] and _written(node)[1] not in chain:
        chain[_written(node)[1]] = node
        base = node.args[0]
        assert isinstance(base, fx.Node)
        node = base
    size = last.meta["val"].shape[_written(last)[0]]
    whole = sorted(chain) == list(range(size)) and size > 1
    return [chain[place] for place in range(size)] if whole else []


def _is_write(node: Any) -> bool:
    """It writes one place of a dimension."""
    if node.op != "call_function" or is_getitem(node):
        return False
    if target_name(node) == "aten.select_scatter.default":
        return True
    if target_name(node) != "aten.slice_scatter.default":
        return False
    given = bound_arguments(node)
    size = node.meta["val"].shape[given["dim"]]
    start, end = given["start"] or 0, given["end"]
    if start >= 0 and (end is None or end < 0 or end > size):
        return False  # from here to the end: a stretch, of one place in this clip alone
    first, stop, step = slice(start, end, given["step"]).indices(size)
    return len(range(first, stop, step)) == 1


def _written(node: fx.Node) -> tuple[int, int]:
    """The dimension, and the place in it."""
    given = bound_arguments(node)
    shape = node.meta["val"].shape
    dim = given["dim"] % len(shape)
    if target_name(node) == "aten.select_scatter.default":
        return dim, given["index"] % shape[dim]
    return dim, slice(given["start"], given["end"], given["step"]).indices(shape[dim])[0]


def _join(graph: fx.Graph, last: fx.Node, chain: Sequence[fx.Node]) -> None:
    dim, _ = _written(last)
    stacks = target_name(last) == "aten.select_scatter.default"
    if any((target_name(node) == "aten.select_scatter.default") is not stacks for node in chain):
        return
    shape = list(last.meta["val"].shape)
    part = shape[:dim] + ([] if stacks else [1]) + shape[dim + 1 :]
    parts: list[Any] = [node.args[1] for node in chain]
    if any(list(one.meta["val"].shape) != part or one.meta["val"].dtype != last.meta["val"].dtype for one in parts):
        return
    with graph.inserting_before(last):
        made = graph.call_function(aten.stack.default if stacks else aten.cat.default, (parts, dim))
    made.meta = dict(last.meta)
    last.replace_all_uses_with(made)


def described(made: fx.Node, path: str) -> fx.Node:
    """The node with the shapes that its call makes."""
    values = [_described(value) for value in made.args]
    named = {name: _described(value) for name, value in made.kwargs.items()}
    with torch.device("meta"):
        made.meta = {"path": path, "val": made.target(*values, **named)}  # type: ignore[operator]
    return made


def _described(value: Any) -> Any:
    if isinstance(value, fx.Node):
        known = value.meta["val"]
        return [_empty(one) for one in known] if isinstance(known, (list, tuple)) else _empty(known)
    if isinstance(value, (list, tuple)):
        return [_described(entry) for entry in value]
    return value


def _empty(like: Tensor) -> Tensor:
    return torch.empty(tuple(like.shape), dtype=like.dtype, device="meta")

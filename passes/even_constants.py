"""Constants that hold the same for every frame, laid out for all frames of the clip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

from co3d_compile.layout import Mark
from co3d_compile.ops.constants import evenly
from co3d_compile.ops.operation import Facts
from co3d_compile.passes.propagation import Choices, annotate
from co3d_compile.program.interpret import constant_value
from co3d_compile.program.program import Program, facts_of, path_of

aten = torch.ops.aten


def spread_even_constants(program: Program) -> Program:
    """Where a constant keeps a call from streaming, and holds the same for every frame, it is one row, expanded.

    Law: no value changes.
    """
    candidates = set(_candidates(program))
    if not candidates:
        return program
    values: dict[fx.Node, Any] = {}
    for node in list(program.graph.nodes):
        refused = annotate(program, node, Choices())
        if refused is not None and node in candidates:
            _spread(program, node, values)
    program.graph.eliminate_dead_code()
    return program


def _candidates(program: Program) -> Iterator[fx.Node]:
    """Calls that read both what follows from the video and a constant of several dimensions."""
    moving: set[fx.Node] = set()
    for node in program.graph.nodes:
        reads = node.all_input_nodes
        if node.op == "placeholder" or not moving.isdisjoint(reads):
            moving.add(node)
        if node in moving and node.op == "call_function" and any(_is_laid_out(program, one, moving) for one in reads):
            yield node


def _is_laid_out(program: Program, node: fx.Node, moving: set[fx.Node]) -> bool:
    value = node.meta["val"]
    return (
        node not in moving
        and isinstance(value, Tensor)
        and value.dim() > 1
        and (node.op == "call_function" or str(node.target) not in program.trainable)
    )


def _spread(program: Program, node: fx.Node, values: dict[fx.Node, Any]) -> None:
    """Read one row of its even constants, if it streams then; else leave it as it is."""
    if any(not one.meta["facts"] for one in node.all_input_nodes):
        return
    before, sizes = (node.args, node.kwargs), _sizes_of_marks(node)
    for constant in [one for one in node.all_input_nodes if not facts_of(one).streams]:
        dims = _even_dims(constant_value(constant, program.tensors, program.trainable, values), sizes)
        if dims:
            node.replace_input_with(constant, _one_row(program, node, constant, dims))
    if (node.args, node.kwargs) != before and annotate(program, node, Choices()) is not None:
        node.args, node.kwargs = before
        annotate(program, node, Choices())


def _even_dims(value: Any, sizes: set[int]) -> list[int]:
    if not isinstance(value, Tensor):
        return []
    return [dim for dim, size in enumerate(value.shape) if size in sizes and evenly(value, dim)]


def _sizes_of_marks(node: fx.Node) -> set[int]:
    """The sizes that time and the batch have in what it reads."""
    streams: list[Facts] = [facts_of(one) for one in node.all_input_nodes if facts_of(one).streams]
    return {
        size
        for facts in streams
        for dim, size in zip(facts.layout.dims, facts.layout.shape, strict=True)
        if size > 1 and any(isinstance(factor, Mark) for factor in dim)
    }


def _one_row(program: Program, node: fx.Node, constant: fx.Node, dims: list[int]) -> fx.Node:
    graph, value = program.graph, constant.meta["val"]
    made = constant
    with graph.inserting_before(node):
        for dim in dims:
            row = graph.call_function(aten.slice.Tensor, (made, dim, 0, 1))
            row.meta = {"path": path_of(node), "val": made.meta["val"].narrow(dim, 0, 1)}
            made = row
        spread = graph.call_function(aten.expand.default, (made, list(value.shape)))
    spread.meta = {"path": path_of(node), "val": value}
    for one in reversed([spread, *_back_to(made, constant)]):
        annotate(program, one, Choices())
    return spread


def _back_to(node: fx.Node, constant: fx.Node) -> Iterator[fx.Node]:
    while node is not constant:
        yield node
        node = node.all_input_nodes[0]

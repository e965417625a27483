"""Time that is taken apart and put together again, in whatever spelling, becomes cuts and paddings of one stream."""

from __future__ import annotations

import torch
from torch import fx

from co3d_compile.ops.slicing import OPEN_END
from co3d_compile.passes.assembly.ends import settle_ends
from co3d_compile.passes.assembly.lines import Copy, Line
from co3d_compile.passes.assembly.masking import MASKING, Masked, read_mask
from co3d_compile.passes.assembly.reading import Reader
from co3d_compile.passes.assembly.rebuilding import Builder
from co3d_compile.passes.bursts import unfold_what_is_cut
from co3d_compile.passes.knowledge import simplify_known
from co3d_compile.passes.propagation import Choices, annotate
from co3d_compile.program.program import Program, is_getitem, target_name

aten = torch.ops.aten

PUTTING_TOGETHER = (
    "aten.cat.default",
    "aten.stack.default",
    "aten.slice_scatter.default",
    "aten.select_scatter.default",
    "aten.index.Tensor",
    "aten.index_select.default",
)


def assemble_time(program: Program) -> Program:
    """Shifts, in every spelling, become slices and padding: by assignment, by cat of slices, by roll and mask.

    Law: no value changes that is finite; a node that is rewritten keeps its name.
    """
    reader, views = Reader(), dict[str, fx.Node]()
    for node in list(program.graph.nodes):
        builder = Builder(program, node, views)
        if builder.is_seen_before():
            continue
        if node.op != "call_function":
            annotate(program, node, Choices())
            continue
        if all(operand.meta["facts"] for operand in node.all_input_nodes):
            unfold_what_is_cut(node, lambda view: annotate(program, view, Choices()))
            settle_ends(program, node, reader)
        annotate(program, node, Choices())
        if not node.meta["facts"]:
            continue
        if not is_getitem(node):
            simplify_known(node)
        _assemble(node, reader, builder)
    program.graph.eliminate_dead_code()
    return program


def _assemble(node: fx.Node, reader: Reader, builder: Builder) -> None:
    if not is_getitem(node) and target_name(node) in MASKING:
        masked = read_mask(node, reader)
        if masked is not None:
            _put_mask(node, masked, reader, builder)
        return
    line = reader.read(node, builder)
    if line is None or not _is_rewritten(node, line):
        return
    made = builder.line(line) if line.stretch is not None else _strided(line, builder)
    if made is not None:
        builder.put(made)


def _is_rewritten(node: fx.Node, line: Line) -> bool:
    """It takes frames of another tensor than the one that it reads, or of several."""
    if is_getitem(node) or target_name(node) in PUTTING_TOGETHER:
        return True
    return (
        target_name(node) == "aten.slice.Tensor" and line.stretch is not None and line.stretch.source not in node.args
    )


def _put_mask(node: fx.Node, masked: Masked, reader: Reader, builder: Builder) -> None:
    made = builder.line(masked.line)
    if made is None:
        return
    if masked.shown is not None:
        mask, dim, place = masked.shown
        made = builder.call(aten.mul.Tensor, made, builder.view(aten.slice.Tensor, mask, dim, place, place + 1))
        builder.put(made)
    elif builder.put(made):
        reader.lines[node] = masked.line


def _strided(line: Line, builder: Builder) -> fx.Node | None:
    """Single elements that are every so many of one source, up to its end."""
    copies = [frame for frame in line.head if isinstance(frame, Copy)]
    if len(copies) < 2 or len(copies) < len(line.head) or len({copy.source for copy in copies}) > 1:
        return None
    source, places = copies[0].source, [copy.place for copy in copies]
    start, step = places[0], places[1] - places[0]
    if start < 0 or step < 1 or places != list(range(start, source.meta["val"].shape[line.dim], step)):
        return None
    return builder.call(aten.slice.Tensor, source, line.dim, start, OPEN_END, step)

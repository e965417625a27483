"""Time that is taken apart and put together again, in whatever spelling, becomes cuts and paddings of one stream."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import fx

from co3d_compile.ops.operation import canonical_dim
from co3d_compile.ops.slicing import OPEN_END
from co3d_compile.passes.assembly.ends import settle_ends
from co3d_compile.passes.assembly.lines import Line
from co3d_compile.passes.assembly.masking import MASKING, Masked, read_mask
from co3d_compile.passes.assembly.reading import Reader
from co3d_compile.passes.assembly.rebuilding import Builder
from co3d_compile.passes.bursts import unfold_what_is_cut
from co3d_compile.passes.knowledge import simplify_known
from co3d_compile.passes.propagation import Choices, annotate
from co3d_compile.program.program import Program, bound_arguments, is_getitem, item_of, target_name

aten = torch.ops.aten

BY_PLACE = ("aten.index.Tensor", "aten.index_select.default")
PUTTING_TOGETHER = (
    "aten.cat.default",
    "aten.stack.default",
    "aten.slice_scatter.default",
    "aten.select_scatter.default",
    *BY_PLACE,
)
PARTING = ("aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default")


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
        _cut_out(node, reader)
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


def _cut_out(node: fx.Node, reader: Reader) -> None:
    """A part of time that was split off becomes a slice."""
    if not is_getitem(node):
        return
    source, place = item_of(node)
    if target_name(source) not in PARTING:
        return
    given = bound_arguments(source)
    line = reader.line_of(given["self"]) if given["self"].meta["facts"] else None
    if line is None or canonical_dim(given["dim"], len(node.meta["val"].shape)) != line.dim:
        return
    ends = [0, *accumulate(part.shape[line.dim] for part in source.meta["val"])]
    node.target = aten.slice.Tensor
    node.args = (given["self"], line.dim, ends[place], OPEN_END if place == len(ends) - 2 else ends[place + 1])


def _assemble(node: fx.Node, reader: Reader, builder: Builder) -> None:
    if not is_getitem(node) and target_name(node) in MASKING:
        masked = read_mask(node, reader)
        if masked is not None:
            _put_mask(node, masked, reader, builder)
        return
    line = reader.read(node, builder)
    if line is None or not _is_rewritten(node, line):
        return
    if line.stretch is None:
        _put_slice(node, line, reader, builder)
    elif (made := builder.line(line)) is not None:
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


def _put_slice(node: fx.Node, line: Line, reader: Reader, builder: Builder) -> None:
    """Frames of one source at one step, to its end, or as they were taken apart."""
    if line.copies is None:
        return
    source, places = line.copies
    to_the_end = places[-1] + places.step >= source.meta["val"].shape[line.dim]
    if not to_the_end and target_name(node) in BY_PLACE:
        return
    end = OPEN_END if to_the_end else places.stop
    if builder.put(builder.call(aten.slice.Tensor, source, line.dim, places.start, end, places.step)):
        del reader.lines[node]  # with the frames that it has in the clip
        reader.read(node, builder)

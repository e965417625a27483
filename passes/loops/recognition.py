"""Loops over the clip's frames, which a capture unrolls, become loops again: recurrences."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from co3d_compile.ops.operation import Refused
from co3d_compile.ops.slicing import OPEN_END
from co3d_compile.passes.loops.frames import described, join_written_parts, select_frames, single_frames, time_dim
from co3d_compile.passes.loops.iterations import SHORTEST, Iterations, UnevenError
from co3d_compile.passes.loops.layers import carry_layers
from co3d_compile.passes.loops.rolling import roll
from co3d_compile.passes.loops.sliding import slide_loops
from co3d_compile.passes.propagation import Choices, annotate, annotate_time
from co3d_compile.program.program import Program, path_of


def roll_loops(program: Program) -> Program:
    """Loops over all frames whose iterations are one function of what is carried become recurrences.

    Law: no value changes, on the clip; what is carried starts at the first frame of the video, not of each clip.
    A loop with an iteration that differs is left as it is, and refused.
    """
    join_written_parts(program.graph)
    seen: set[fx.Node] = set()
    while True:
        _annotate(program)
        if carry_layers(program.graph) or slide_loops(program):
            continue
        group = _next_sources(program, seen)
        if not group:
            return program
        seen |= set(group)
        _roll(program, group)


def _annotate(program: Program) -> None:
    """Facts as far as they go: what is refused here may be rolled up."""
    for node in program.graph.nodes:
        node.meta.pop("facts", None)
    annotate_time(program, Choices())


def _next_sources(program: Program, seen: set[fx.Node]) -> list[fx.Node]:
    """The first tensor taken apart frame by frame, and those of as many frames that do not follow from it."""
    found: list[fx.Node] = []
    behind: set[fx.Node] = set()
    for node in program.graph.nodes:
        taken = _taken_apart(node)
        if any(read in behind for read in node.all_input_nodes):
            behind.add(node)
        elif node not in seen and taken is not None:
            if not found or taken == _taken_apart(found[0]):
                found.append(node)
            behind |= {user for user in node.users if found and node in found}
    return found


def _taken_apart(node: fx.Node) -> range | None:
    """The frames that are taken one by one, if these are all, or every so many."""
    if node.op not in ("placeholder", "call_function") or time_dim(node) is None:
        return None
    places = sorted({frame for _, frame, _ in single_frames(node)})
    count = node.meta["val"].shape[time_dim(node)]
    if len(places) < 2:
        return None
    taken = range(places[0], count, places[1] - places[0])
    return taken if list(taken) == places and taken.start < taken.step else None


def _roll(program: Program, sources: Sequence[fx.Node]) -> None:
    taken = _taken_apart(sources[0])
    assert taken is not None
    if len(taken) < SHORTEST:
        return
    for source in sources:
        select_frames(program.graph, source)
    frames = {source: {frame: node for node, frame, _ in single_frames(source)} for source in sources}
    if taken.step > 1:
        frames = {_every(program, source, taken): of_source for source, of_source in frames.items()}
        frames = {source: {taken.index(n): node for n, node in found.items()} for source, found in frames.items()}
    literals = {name: tensor for name, tensor in program.tensors.items() if name not in program.state}
    loop = Iterations(frames, len(taken), literals)
    backward = loop.backward
    if backward:
        backward[0].meta["refused"] = Refused(
            f"the loop over {len(taken)} frames begins at the clip's end, which a stream has not seen",
            "a loop from the first frame to the last",
        )
        return
    try:
        loop.match()
        roll(loop)
    except UnevenError as uneven:
        if loop.carries:
            uneven.node.meta["refused"] = _refusal(uneven)


def _every(program: Program, source: fx.Node, taken: range) -> fx.Node:
    """The frames of a source that a loop takes, as a stream; what no loop reads of it is dropped again."""
    with program.graph.inserting_after(source):
        arguments = (source, time_dim(source), taken.start, OPEN_END, taken.step)
        made = described(program.graph.call_function(torch.ops.aten.slice.Tensor, arguments), path_of(source))
    annotate(program, made, Choices())
    return made


def _refusal(uneven: UnevenError) -> Refused:
    return Refused(
        f"the loop over frames is not one function of the frame and the carried state: {uneven.reason}",
        "make every iteration alike, or give the module a step rule (recurrences=, docs/recurrence.md)",
    )

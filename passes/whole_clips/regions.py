"""What mixes the frames of a clip and keeps time, as one operation on a frame or on the last frames, under a policy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx

from co3d_compile.layout import Layout, Spread
from co3d_compile.ops.bodies import body_of, read_by
from co3d_compile.ops.mixed_layouts import NORMS, Untracked, mixed_layout, times_in
from co3d_compile.ops.mixing import encoded_dims
from co3d_compile.ops.operation import Call, Facts
from co3d_compile.ops.pointwise import is_pointwise
from co3d_compile.program.program import (
    Program,
    bound_arguments,
    facts_of,
    is_getitem,
    path_of,
    shapes_of,
    target_name,
    with_nodes_replaced,
)


@dataclass(frozen=True)
class Region:
    """The nodes from a mixing of frames to where time is there once again.

    Attributes:
        place: the module path with which it begins, for policies.
        exits: the nodes with which it ends.
        layouts: of all its nodes.
    """

    place: str
    exits: tuple[fx.Node, ...]
    layouts: Mapping[fx.Node, Layout]

    @property
    def is_norm(self) -> bool:
        """Nothing but a normalisation, which the paper's networks need no policy for."""
        return all(_name(node) in NORMS for node in self.layouts)

    def inside(self, end: fx.Node) -> list[fx.Node]:
        """What an exit depends on, in order."""
        wanted = {end}
        for node in reversed(list(self.layouts)):
            if any(user in wanted for user in node.users) and (node is end or node not in self.exits):
                wanted.add(node)
        return [node for node in self.layouts if node in wanted]


def region_from(program: Program, start: fx.Node, refused: Collection[fx.Node]) -> Region | None:
    """The region that begins with a refused node; None where time cannot be followed, or does not come back once."""
    layouts: dict[fx.Node, Layout] = {}
    for node in program.graph.nodes:
        read = [layouts[one] for one in node.all_input_nodes if one in layouts]
        mixed = node is start or any(times_in(layout) > 1 for layout in read)
        if not mixed and not (read and is_pointwise_call(node)):
            continue
        found = _layout(node, layouts, refused)
        if found is not None:
            layouts[node] = found
        elif mixed:
            return None
    inner = _before_mixtures(layouts)
    exits = tuple(
        node
        for node in layouts
        if node not in inner and (node is start or any(read in inner for read in node.all_input_nodes))
    )
    if not all(times_in(layouts[node]) == 1 for node in exits) or not inner.isdisjoint(program.output_nodes):
        return None
    kept = {node: layout for node, layout in layouts.items() if node in inner or node in exits}
    return Region(path_of(start) or start.name, exits, kept)


def _layout(node: fx.Node, layouts: Mapping[fx.Node, Layout], refused: Collection[fx.Node]) -> Layout | None:
    """Where time is in what a node makes; None where that cannot be told, or it is nowhere."""
    if node.op != "call_function" or is_getitem(node):
        return None
    if not all(_is_clean(read, layouts, refused) for read in node.all_input_nodes):
        return None
    try:
        layout = mixed_layout(_call(node, layouts))
    except Untracked:
        return None
    return layout if times_in(layout) and layout.shape == shapes_of(node)[0] else None


def _before_mixtures(layouts: Mapping[fx.Node, Layout]) -> set[fx.Node]:
    """Tensors that have time more than once, and what such tensors are made of."""
    inner: set[fx.Node] = set()
    for node in reversed(list(layouts)):
        if times_in(layouts[node]) > 1 or any(user in inner for user in node.users):
            inner.add(node)
    return inner


def put_in_region(program: Program, region: Region, *, trailing: bool) -> None:
    """Replace a region by operations on elements, one for each of its ends, under the names that these have.

    Law: on the clip no value changes.
    """
    still = region.is_norm and not any(_norms_time(node) for node in region.layouts)
    for end in region.exits:
        nodes = with_operands(program, region.inside(end), is_spread)
        boundaries, constants = boundaries_and_constants(nodes)
        body = body_of(nodes, [*boundaries, *constants], [end])
        layout = region.layouts[end]
        width = 1 if still and not trailing else layout.time
        arguments = (boundaries, constants, body.to_text(), encoded_dims(layout), width, trailing)
        with program.graph.inserting_before(end):
            mixing = program.graph.call_function(torch.ops.co3d_compile.mixing.default, arguments)
        mixing.meta = {"path": path_of(end), "val": end.meta["val"], "place": region.place}
        end.replace_all_uses_with(mixing)
        name = end.name
        end.name = f"{name}_on_the_clip"
        mixing.name = name
    program.graph.eliminate_dead_code()
    program.graph.lint()


def _is_clean(read: fx.Node, layouts: Mapping[fx.Node, Layout], refused: Collection[fx.Node]) -> bool:
    """A constant, a tensor of the region, or one that streams with its time."""
    if read in layouts:
        return True
    if read in refused or not read.meta["facts"]:
        return False
    facts = facts_of(read)
    return not facts.streams or facts.has_time


def _call(node: fx.Node, layouts: Mapping[fx.Node, Layout]) -> Call:
    def facts(read: fx.Node) -> Facts:
        return replace(facts_of(read), layout=layouts[read]) if read in layouts else facts_of(read)

    arguments = {name: with_nodes_replaced(value, facts) for name, value in bound_arguments(node).items()}
    return Call(target_name(node), arguments, shapes_of(node))


def with_operands(program: Program, nodes: Collection[fx.Node], inlined: Callable[[fx.Node], bool]) -> list[fx.Node]:
    """Some nodes and those of their operands, and of these in turn, that are to be inlined, in the graph's order."""
    inside = set(nodes)
    pending = list(nodes)
    while pending:
        for read in pending.pop().all_input_nodes:
            if read not in inside and inlined(read):
                inside.add(read)
                pending.append(read)
    return [node for node in program.graph.nodes if node in inside]


def boundaries_and_constants(nodes: Sequence[fx.Node]) -> tuple[list[fx.Node], list[fx.Node]]:
    """What some nodes read and do not make themselves: streams, and what is computed from weights alone."""
    read = read_by(nodes)
    return [node for node in read if facts_of(node).streams], [node for node in read if not facts_of(node).streams]


def is_spread(node: fx.Node) -> bool:
    """A constant that is kept at size 1."""
    facts = facts_of(node)
    spread = any(isinstance(factor, Spread) for dim in facts.layout.dims for factor in dim)
    return node.op == "call_function" and not facts.streams and spread


def is_pointwise_call(node: fx.Node) -> bool:
    return node.op == "call_function" and target_name(node).startswith("aten.") and is_pointwise(target_name(node))


def _norms_time(node: fx.Node) -> bool:
    """Time is in the literal sizes of a norm."""
    return _name(node) in ("layer_norm.default", "rms_norm.default")


def _name(node: fx.Node) -> str:
    return target_name(node).removeprefix("aten.")

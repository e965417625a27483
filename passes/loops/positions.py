"""Values that belong to a position in the clip must not meet, in a window, what is carried since the video's start."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from torch import fx

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.constants import evenly
from co3d_compile.ops.mixed_layouts import Untracked, mixed_layout, times_in
from co3d_compile.ops.operation import Call, Refused
from co3d_compile.passes.loops.carrying import is_carried_on
from co3d_compile.passes.loops.progressions import values_of
from co3d_compile.passes.whole_clips.regions import is_pointwise_call
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

JOINS = ("aten.cat.default", "aten.stack.default")
ADDED = {
    "aten.scaled_dot_product_attention.default": "attn_mask",
    "aten.baddbmm.default": "self",
    "aten.addmm.default": "self",
}
"""What is added, element by element, to what a product makes."""


def misplaced(
    program: Program, tail: Collection[fx.Node], refused: Mapping[fx.Node, Refused]
) -> dict[fx.Node, Refused]:
    """The calls of a tail at which positions in the clip and what is carried on since the start meet.

    What is carried knows the whole video, a position only the window: the original gives their mixture for no clip.
    """
    following = _Following(tail, refused)
    found: dict[fx.Node, Refused] = {}
    for node in program.graph.nodes:
        meeting = following.add(node)
        if meeting is not None:
            found[node] = meeting
    return found


@dataclass
class _Following:
    """What is known of the nodes so far.

    Attributes:
        carried: by node, the path of what is carried on and goes into it.
        placed: by node of the tail, what has a value for each position in the clip and goes into it.
        layouts: of the tail's nodes, where time can be followed.
    """

    tail: Collection[fx.Node]
    refused: Mapping[fx.Node, Refused]
    carried: dict[fx.Node, str] = field(default_factory=dict)
    placed: dict[fx.Node, str] = field(default_factory=dict)
    layouts: dict[fx.Node, Layout] = field(default_factory=dict)

    def add(self, node: fx.Node) -> Refused | None:
        """Take in the next node; the reason if the two kinds meet in it for the first time."""
        reads = node.all_input_nodes
        carried = next((self.carried[one] for one in reads if one in self.carried), None)
        if carried is None and node not in self.tail and is_carried_on(node):
            carried = path_of(node) or node.name
        if carried is not None and not self._recounts(node):
            self.carried[node] = carried
        if node not in self.tail:
            return None
        layout = self._layout(node)
        if layout is not None:
            self.layouts[node] = layout
        placed = self._place(node)
        if placed is not None:
            self.placed[node] = placed
        if not _joined(node) or carried is None or placed is None:
            return None
        return None if any(one in self.carried and one in self.placed for one in reads) else _refusal(placed, carried)

    def _place(self, node: fx.Node) -> str | None:
        """What has a value for each position in the clip and goes into a node."""
        if self._recounts(node):
            return path_of(node) or node.name
        fixed = next((one for one in _joined(node) if self._is_position(one, node)), None)
        if fixed is not None:
            return path_of(fixed) or str(fixed.target if fixed.op == "get_attr" else fixed.name)
        return next((self.placed[one] for one in node.all_input_nodes if one in self.placed), None)

    def _recounts(self, node: fx.Node) -> bool:
        """A count that would begin anew in each window."""
        return node in self.tail and "counts" in node.meta

    def _layout(self, node: fx.Node) -> Layout | None:
        """Where time is; None where that cannot be told."""
        if not all(self._is_followed(one) for one in node.all_input_nodes):
            return None
        mixes = node in self.refused or any(times_in(self._layout_of(one)) > 1 for one in node.all_input_nodes)
        if not mixes:
            return facts_of(node).layout if node.meta["facts"] else None
        if is_getitem(node):
            return None
        arguments = {
            name: with_nodes_replaced(value, lambda one: replace(facts_of(one), layout=self._layout_of(one)))
            for name, value in bound_arguments(node).items()
        }
        try:
            layout = mixed_layout(Call(target_name(node), arguments, shapes_of(node)))
        except Untracked:
            return None
        return layout if layout.shape == shapes_of(node)[0] else None

    def _is_followed(self, node: fx.Node) -> bool:
        return node in self.layouts or (node not in self.tail and bool(node.meta["facts"]))

    def _layout_of(self, node: fx.Node) -> Layout:
        return self.layouts.get(node) or facts_of(node).layout

    def _is_position(self, constant: fx.Node, node: fx.Node) -> bool:
        """A constant that varies along what is time in what it meets; along what may be, where no one can tell."""
        if not constant.meta["facts"] or facts_of(constant).streams:
            return False
        shape = shapes_of(constant)[0]
        values = values_of(constant)
        uneven = {
            place - len(shape)
            for place, size in enumerate(shape)
            if size > 1 and (values is None or not evenly(values, place))
        }
        others = [one for one in node.all_input_nodes if one.meta["facts"] and facts_of(one).streams]
        return any(uneven & self._times(one, shape) for one in others)

    def _times(self, stream: fx.Node, shape: tuple[int, ...]) -> set[int]:
        """Its dimensions that are time, counted from the end."""
        if not self._is_followed(stream):
            length = facts_of(stream).layout.time
            return {place - len(shape) for place, size in enumerate(shape) if size % length == 0}
        dims = self._layout_of(stream).dims
        return {place - len(dims) for place, dim in enumerate(dims) if Mark.TIME in dim}


def _joined(node: fx.Node) -> list[fx.Node]:
    """What a call joins with other operands element by element."""
    if is_getitem(node):
        return []
    if is_pointwise_call(node) or target_name(node) in JOINS:
        return node.all_input_nodes
    added = bound_arguments(node)[ADDED[target_name(node)]] if target_name(node) in ADDED else None
    return [added] if isinstance(added, fx.Node) else []


def _refusal(placed: str, carried: str) -> Refused:
    return Refused(
        f"values for each position in the clip ({placed}) meet what is carried since the start of the video "
        f"({carried}), so that no window of frames gives what the original does",
        "count from the start of the video (an arange from 0 or 1 that the clip's length does not change), "
        "or use one value for all frames",
    )

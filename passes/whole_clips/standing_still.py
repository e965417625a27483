"""Statistics of time alone: of a clip in which one frame stands still they tell nothing that the frame does not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from math import prod

from torch import fx

from co3d_compile.layout import Layout
from co3d_compile.passes.whole_clips.regions import Region, is_pointwise_call
from co3d_compile.program.program import bound_arguments, facts_of, is_getitem, shapes_of, target_name

DEVIATIONS = ("aten.var.", "aten.std.")
COMPARING = ("aten.sub.Tensor", "aten.rsub.Tensor", "aten.div.Tensor")
INVERTING = ("aten.rsqrt.default", "aten.reciprocal.default")
RESHAPING = tuple(
    f"aten.{name}" for name in ("reshape.", "permute.", "transpose.", "squeeze.", "unsqueeze.", "expand.")
)


def is_lost_in_a_frame(gate: fx.Node, joins: Collection[fx.Node]) -> bool:
    """Whether a gate of one frame takes away what it meets: ``x - x.mean(2)`` is zero, ``x / x.amax(2)`` one.

    Args:
        joins: where the gate meets tensors that have time.
    """
    source = next(one for one in gate.all_input_nodes if facts_of(one).has_time)
    frame = facts_of(source).layout.with_time(1).shape
    if prod(frame) != prod(shapes_of(gate)[0]):
        return False
    return target_name(gate).startswith(DEVIATIONS) or any(_compares(join, gate, source) for join in joins)


def _compares(join: fx.Node, gate: fx.Node, source: fx.Node) -> bool:
    """It sets a tensor against a statistic of itself, with nothing but pointwise calls on both ways."""
    timed = [one for one in join.all_input_nodes if facts_of(one).has_time]
    way = set(_pointwise_before(one for one in join.all_input_nodes if one not in timed))
    if gate not in way or not (target_name(join) in COMPARING or any(target_name(node) in INVERTING for node in way)):
        return False
    return not set(_pointwise_before(timed)).isdisjoint(_pointwise_before([source]))


def _pointwise_before(nodes: Iterable[fx.Node]) -> Iterator[fx.Node]:
    """Some nodes and those that come before them by pointwise calls and views, with the first that is neither."""
    seen: set[fx.Node] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        if is_getitem(node) or target_name(node).startswith(RESHAPING) or is_pointwise_call(node):
            pending.extend(node.all_input_nodes)


def norms_time_alone(region: Region) -> bool:
    """Whether there is a norm of which one frame gives every statistic a single element."""
    return region.is_norm and any(_elements_per_statistic(node, layout) == 1 for node, layout in region.layouts.items())


def _elements_per_statistic(norm: fx.Node, layout: Layout) -> int:
    """Of how many elements of one frame a norm takes each of its statistics."""
    name, given, frame = target_name(norm), bound_arguments(norm), layout.with_time(1).shape
    if name.startswith(("aten.layer_norm", "aten.rms_norm")):
        return prod(frame[len(frame) - len(given["normalized_shape"]) :])
    if name.startswith("aten.group_norm"):
        return prod(frame[1:]) // int(given["num_groups"])
    return prod(frame[2:]) * (frame[0] if name.startswith("aten.batch_norm") else 1)

"""Frames that a model takes by their places in the clip, such as ``linspace`` gives them, at one step instead."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from co3d_compile.ops.operation import Refused
from co3d_compile.ops.slicing import OPEN_END, FramesByPlace
from co3d_compile.passes.propagation import raise_refused
from co3d_compile.passes.whole_clips.policies import CHOICE, Places, place_of
from co3d_compile.program.program import Program, bound_arguments

NONE_NEAR = (
    'the policy "uniform" asks for a slice ::s of the clip that gives as many frames, each less than a step away'
)


def samples_evenly(program: Program, refused: Mapping[fx.Node, Refused], places: Places) -> bool:
    """Whether calls that take frames by their places have become slices, because their policy is ``uniform``.

    Law: a call keeps its name and its shape; its frames come from less than a step away from those that it took.

    Raises:
        UnsupportedError: no such slice gives as many frames of the clip.
    """
    found = {node: one for node, one in refused.items() if isinstance(one, FramesByPlace)}
    chosen = [node for node in found if places.chosen(place_of(node), CHOICE) == "uniform"]
    uneven = {node: found[node] for node in chosen if found[node].even is None}
    if uneven:
        raise_refused(uneven, NONE_NEAR)
    for node in chosen:
        _slice(node, found[node])
    return bool(chosen)


def _slice(node: fx.Node, taken: FramesByPlace) -> None:
    assert taken.even is not None
    start, step = taken.even.start, taken.even.step
    source = bound_arguments(node)["self"]
    node.target = torch.ops.aten.slice.Tensor
    node.args, node.kwargs = (source, taken.dim, start, OPEN_END, step), {}
    listed = ", ".join(map(str, taken.places))
    node.meta["approximation"] = f"frames {listed} of each clip, taken as [{start or ''}::{step}] of the video instead"

"""Constants that count: what their values along one dimension are, read off the graph alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from co3d_compile.ops.constants import evenly, only_value
from co3d_compile.passes.knowledge import FILLED, LIMIT, VIEWS
from co3d_compile.passes.whole_clips.regions import is_pointwise_call
from co3d_compile.program.program import bound_arguments, facts_of, is_getitem, target_name, with_nodes_replaced

COUNTED = ("aten.arange.default", "aten.arange.start", "aten.arange.start_step", "aten.cumsum.default")
LAID_OUT = (*VIEWS, "aten.reshape.default", "aten.view.default")
FEWEST = 3
"""Values that show a step."""


@dataclass(frozen=True)
class Progression:
    """``start``, ``start + step``, ..."""

    start: int
    step: int


def progression_of(constant: fx.Node) -> Progression | None:
    """How a constant counts upwards in whole numbers, where that is written so: an arange, a buffer, a view of one."""
    found = sequence_of(constant)
    if found is None or len(found[1]) < FEWEST or not _is_written(constant):
        return None
    values = found[1].double()
    start, step = float(values[0]), float(values[1] - values[0])
    if not (start.is_integer() and step.is_integer() and step > 0 and abs(start) < len(values) * step):
        return None
    wanted = start + step * torch.arange(len(values), dtype=torch.float64, device="cpu")
    return Progression(int(start), int(step)) if torch.equal(values, wanted) else None


def follows_from_length(number: float, lengths: Collection[int]) -> bool:
    """The number may well be one for clips of this length alone: the length, its half, one beside it, one over it."""
    if number in (0, 1, -1):
        return False
    whole: set[float] = {one for n in lengths for one in (n - 1, n, n + 1)}
    halves = {one / 2 for one in whole}
    return _is_near(1 / abs(number), whole) or _is_near(abs(number), whole | halves)


def _is_near(number: float, others: set[float]) -> bool:
    return any(abs(number - other) < 1e-6 * other for other in others if other > 1)


def sequence_of(constant: fx.Node) -> tuple[int, Tensor] | None:
    """The one dimension along which a known constant varies, and its values there."""
    values = values_of(constant)
    if values is None:
        return None
    uneven = [dim for dim in range(values.dim()) if values.shape[dim] > 1 and not evenly(values, dim)]
    if len(uneven) != 1:
        return None
    (dim,) = uneven
    return dim, values[tuple(slice(None) if one == dim else 0 for one in range(values.dim()))]


def number_in(constant: fx.Node) -> float | None:
    """The one number that a known constant holds everywhere."""
    values = values_of(constant)
    return None if values is None else only_value(values)


def values_of(constant: fx.Node) -> Tensor | None:
    """A constant's values, also where the model itself has none (on torch's meta device)."""
    if facts_of(constant).streams or not isinstance(constant.meta["val"], Tensor):
        return None
    known = facts_of(constant).known
    if known is not None and not known.is_meta:
        return known.cpu()
    if constant.op != "call_function" or is_getitem(constant) or not _is_made(constant):
        return None
    if constant.meta["val"].numel() > LIMIT and target_name(constant) not in VIEWS:
        return None
    read = {one: values_of(one) for one in constant.all_input_nodes}
    if any(one is None for one in read.values()):
        return None
    args: Any = with_nodes_replaced(constant.args, read.__getitem__)
    named = {name: with_nodes_replaced(value, read.__getitem__) for name, value in constant.kwargs.items()}
    if named.get("device") is not None:
        named["device"] = torch.device("cpu")
    with torch.no_grad(), torch.device("cpu"):
        made: Tensor = constant.target(*args, **named)  # type: ignore[operator]
    return made


def _is_made(constant: fx.Node) -> bool:
    """Its values follow from what the graph says."""
    if target_name(constant) in (*COUNTED, *LAID_OUT, *FILLED):
        return True
    return is_pointwise_call(constant) and not target_name(constant).startswith("aten.empty")


def _is_written(constant: fx.Node) -> bool:
    """Nothing but views between it and what counts."""
    if constant.op == "get_attr" or target_name(constant) in COUNTED:
        return True
    return target_name(constant) in LAID_OUT and _is_written(bound_arguments(constant)["self"])

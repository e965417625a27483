"""Frames at the ends of the clip that a constant mask replaces by one value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from co3d_compile.ops.constants import single_value
from co3d_compile.passes.assembly.lines import Constant, Line, joined_lines
from co3d_compile.passes.assembly.reading import Reader
from co3d_compile.program.program import bound_arguments, facts_of, target_name

MASKING = ("aten.mul.Tensor", "aten.where.self", "aten.masked_fill.Scalar")


@dataclass(frozen=True)
class Masked:
    """A stream whose first and last frames are hidden.

    Attributes:
        shown: the frame that stands for the factor of all others, and the dimension of time in the mask; None: 1.
    """

    line: Line
    shown: tuple[fx.Node, int, int] | None


def read_mask(node: fx.Node, reader: Reader) -> Masked | None:
    """The stream under a mask that varies along time; None if this is none, or if it hides other frames than the ends.

    A factor of zero hides: for finite values the product is zero.
    """
    given = bound_arguments(node)
    match target_name(node):
        case "aten.mul.Tensor":
            pairs = [(given["self"], given["other"]), (given["other"], given["self"])]
            return next((found for stream, mask in pairs if (found := _multiplied(stream, mask, reader))), None)
        case "aten.where.self":
            return _chosen(given["self"], given["other"], given["condition"], True, reader) or _chosen(
                given["other"], given["self"], given["condition"], False, reader
            )
        case "aten.masked_fill.Scalar":
            return _covered(given["self"], given["mask"], False, float(given["value"]), reader)
        case _:
            return None


def _multiplied(stream: object, mask: object, reader: Reader) -> Masked | None:
    found = _along_time(stream, mask, reader)
    if found is None:
        return None
    line, frames, dim = found
    assert isinstance(mask, fx.Node)
    hidden = [not bool(frame.any()) for frame in frames]
    shown = [place for place, one in enumerate(hidden) if not one]
    if not shown or any(not torch.equal(frames[place], frames[shown[0]]) for place in shown):
        return None
    kept = _without(line, hidden, 0.0)
    factor = None if bool((frames[shown[0]] == 1).all()) else (mask, dim, shown[0])
    return None if kept is None else Masked(kept, factor)


def _chosen(stream: object, other: object, mask: object, value: bool, reader: Reader) -> Masked | None:
    constant = single_value(facts_of(other)) if isinstance(other, fx.Node) else None
    return None if constant is None else _covered(stream, mask, value, constant, reader)


def _covered(stream: object, mask: object, shows: bool, value: float, reader: Reader) -> Masked | None:
    """The stream where the mask ``shows``, else a value."""
    found = _along_time(stream, mask, reader)
    if found is None:
        return None
    line, frames, _ = found
    if any(bool(frame.any()) != bool(frame.all()) for frame in frames):
        return None
    kept = _without(line, [bool(frame.any()) is not shows for frame in frames], value)
    return None if kept is None else Masked(kept, None)


def _along_time(stream: object, mask: object, reader: Reader) -> tuple[Line, list[Tensor], int] | None:
    """The stream's line, and the mask frame by frame, if it differs from frame to frame."""
    if not isinstance(stream, fx.Node) or not isinstance(mask, fx.Node) or not facts_of(stream).streams:
        return None
    line, known = reader.line_of(stream), facts_of(mask).known
    if line is None or known is None:
        return None
    dim = line.dim - stream.meta["val"].dim() + known.dim()
    if dim < 0 or known.shape[dim] != line.length or line.length == 1:
        return None
    return line, [known.narrow(dim, place, 1) for place in range(line.length)], dim


def _without(line: Line, hidden: list[bool], value: float) -> Line | None:
    """The line, its hidden frames replaced; None if they are not at its ends."""
    if all(hidden) or not any(hidden):
        return None
    before, after = hidden.index(False), hidden[::-1].index(False)
    kept = line.part(before, -after or None)
    if kept is None or any(hidden[before : len(hidden) - after]):
        return None
    constant = Constant(value)
    return joined_lines([Line(line.dim, (constant,) * before), kept, Line(line.dim, (constant,) * after)])

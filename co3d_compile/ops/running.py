"""Statistics of everything since the start of the video, carried on from one frame's statistic to the next.

Each is what the clip model gives for a clip of its own length whose elements are distributed as all those so far: a sum
is scaled to the clip's number of elements, a variance is corrected for that number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from co3d_compile.ops.flow import Flow, Way
from co3d_compile.ops.operation import Block, Call, Operation, Sample

_LIBRARY = torch.library.Library("co3d_compile", "FRAGMENT")  # type: ignore[no-untyped-call]
for _variant in ("mean", "amax", "amin", "logmeanexp"):
    _LIBRARY.define(f"{_variant}_so_far(Tensor self) -> Tensor[]")  # type: ignore[no-untyped-call]
for _variant in ("var", "std"):
    _LIBRARY.define(  # type: ignore[no-untyped-call]
        f"{_variant}_so_far(Tensor self, Tensor frames, float correction) -> Tensor[]"
    )
"""self: the statistic of one frame, as of a clip that stands still. frames: the frame's mean. correction: the factor
from a clip's mean square deviation to its variance. The first result is the statistic, any others are carried.
"""

State = Sequence[Tensor | None]
"""What the run before carried; None, all of it, at the start."""

Update = Callable[[Mapping[str, Any], State], list[Tensor]]


def _mean(given: Mapping[str, Any], carried: State) -> list[Tensor]:
    value = given["self"]
    count = next_count(value, carried[1])
    mean = towards(carried[0], wide(value), count)
    return [mean.to(value.dtype), mean, count]


def _amax(given: Mapping[str, Any], carried: State) -> list[Tensor]:
    before, value = carried[0], given["self"]
    return [value if before is None else torch.maximum(before, value)]


def _amin(given: Mapping[str, Any], carried: State) -> list[Tensor]:
    before, value = carried[0], given["self"]
    return [value if before is None else torch.minimum(before, value)]


def _logmeanexp(given: Mapping[str, Any], carried: State) -> list[Tensor]:
    """Relative to the largest so far, so that nothing overflows and no logarithms of counts add up."""
    value = wide(given["self"])
    limits = torch.finfo(value.dtype)
    peak = value.clamp(limits.min, limits.max)
    before, mean, count = carried[0], carried[1], next_count(value, carried[2])
    if before is not None and mean is not None:
        peak = torch.maximum(before, peak)
        mean = mean * (before - peak).exp()
    mean = towards(mean, (value - peak).exp(), count)
    return [(peak + mean.log()).to(given["self"].dtype), peak, mean, count]


def _var(given: Mapping[str, Any], carried: State) -> list[Tensor]:
    var = wide(given["self"])
    mean, spread, count = moments_after(
        carried, wide(given["frames"]).reshape(var.shape), var, given.get("correction", 1.0)
    )
    return [spread.to(given["self"].dtype), mean, spread, count]


def _std(given: Mapping[str, Any], carried: State) -> list[Tensor]:
    _, *states = _var({**given, "self": wide(given["self"]).square()}, carried)
    return [states[1].sqrt().to(given["self"].dtype), *states]


UPDATES: Mapping[str, Update] = {
    "mean": _mean,
    "amax": _amax,
    "amin": _amin,
    "logmeanexp": _logmeanexp,
    "var": _var,
    "std": _std,
}
TARGETS: Mapping[str, str] = {f"co3d_compile.{variant}_so_far.default": variant for variant in UPDATES}
"""Statistics by operator."""

_STATES = {"mean": 2, "logmeanexp": 3, "var": 3, "std": 3}


def _on_the_clip(variant: str) -> Callable[..., list[Tensor]]:
    """There is one statistic of a clip, and nothing before it."""

    def run(value: Tensor, frames: Tensor | None = None, correction: float = 1.0) -> list[Tensor]:
        given = {"self": value, "frames": torch.zeros_like(value), "correction": correction}
        return [value, *UPDATES[variant](given, [None] * _STATES.get(variant, 1))[1:]]

    return run


for _variant in UPDATES:
    _LIBRARY.impl(  # type: ignore[no-untyped-call]
        f"{_variant}_so_far", _on_the_clip(_variant), "CompositeImplicitAutograd"
    )


class Running(Operation):
    """The batch and the layout are those of the one frame's statistic."""

    targets = tuple(TARGETS)

    def flow(self, call: Call) -> Flow:
        layout = call["self"].layout
        count = len(call.shapes)
        carried = tuple(range(1, count)) if count > 1 else (0,)
        return Flow(Way.RECURRENT, (layout,) * count, carried=carried)

    def run(self, arguments: Mapping[str, Any], block: Block) -> list[Tensor]:
        return UPDATES[TARGETS[block.target]](arguments, arguments["carried"])

    def samples(self) -> tuple[Sample, ...]:
        return ()


def wide(value: Tensor) -> Tensor:
    """In no less than 32 bits: a mean over many frames moves by less than half precision can hold."""
    return value.to(torch.promote_types(value.dtype, torch.float32)) if value.is_floating_point() else value


def next_count(like: Tensor, before: Tensor | None) -> Tensor:
    """How many elements there are with this one."""
    return torch.ones_like(like, dtype=torch.int64) if before is None else before + 1


def towards(mean: Tensor | None, value: Tensor, count: Tensor) -> Tensor:
    """The mean with one more value."""
    return value if mean is None else mean + (value - mean) / count


def moments_after(
    carried: State, mean: Tensor, spread: Tensor, correction: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of all frames, and their count (Chan, Golub and LeVeque 1983).

    Args:
        carried: the same of the frames before.
        mean: of the frame, as is ``spread``.
        correction: by which the variances differ from mean square deviations.
    """
    before, spread_before, counted = carried
    count = next_count(mean, counted)
    if before is None or spread_before is None:
        return mean, spread, count
    after = towards(before, mean, count)
    between = correction * (mean - before) * (mean - after)
    return after, towards(spread_before, spread + between, count), count

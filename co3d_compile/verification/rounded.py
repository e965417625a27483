"""What a rounded state changes: held against the same network's state in full, and against noise of the same size.

No bound holds for every network: a difference of two frames may lose all digits that rounding left. So the yardstick is
the network itself: what noise in its full state, as large as the rounding may be, does to each tensor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite

import torch
from torch import Tensor

from co3d_compile.ops.arguments import dtype_name
from co3d_compile.plan.plan import Plan
from co3d_compile.plan.recasting import with_full_state
from co3d_compile.runtime.module import StreamingModule
from co3d_compile.runtime.state import State
from co3d_compile.verification.comparing import Elements, Tally, distance, roundings_of, stream_elements, watch_stream
from co3d_compile.verification.result import FULL, Comparison, Rounding
from co3d_compile.verification.video import device_of, wandering_video

MARGIN = 4.0
"""Of the most that noise changes: so far apart are, at most, two largest values of a few random numbers."""

NOISES = 4
"""Runs with noise; every other one with the same sign all over a channel, as the rounding of a still surface has."""


def in_full(network: StreamingModule) -> StreamingModule:
    """The same network, on the same weights, with its state in full."""
    return StreamingModule(with_full_state(network.plan), network.weights, network.operations)


def compare_rounded(network: StreamingModule, frames: int, seed: int) -> Rounding:
    """Every tensor of a random video of so many frames, from the first through flush."""
    plan, full = network.plan, in_full(network)
    video = wandering_video(plan, frames, seed, device_of(network))
    wanted = stream_elements(full, video, frames)
    noise = [_noise(full, wanted, video, frames, _noise_of(plan, run)) for run in range(NOISES)]
    allowed = {name: MARGIN * max(one[name] for one in noise) for name in wanted}
    made = _compared(network, wanted, video, frames)
    names = {output.value: output.name for output in plan.outputs}
    # a place or a claim inside may flip where two numbers are nearly equal; what follows from it is compared
    wanted = {
        name: found for name, found in wanted.items() if name in names or plan.values[name].dtype.is_floating_point
    }
    compared = {
        value: _comparison(made[value], names.get(value, value), allowed[value], inside=value not in names)
        for value in wanted
    }
    dtypes = sorted({dtype_name(value.held_dtype) for value in plan.rounded_state.values()})
    return Rounding(
        ", ".join(dtypes),
        tuple(compared[value] for value in names if value in compared),
        tuple(found for value, found in compared.items() if value not in names),
    )


def _compared(network: StreamingModule, wanted: Elements, video: Sequence[Tensor], frames: int) -> Mapping[str, Tally]:
    made = stream_elements(network, video, frames)
    roundings = roundings_of(network.plan)
    tallies = {name: Tally(network.plan.values[name], FULL, roundings[name]) for name in wanted}
    for name, tally in tallies.items():
        for n, element in wanted[name].items():
            tally.compare(n, element, made[name].get(n))
        tally.extra(made[name].keys() - wanted[name].keys())
    return tallies


def _comparison(tally: Tally, name: str, allowed: float, *, inside: bool) -> Comparison:
    # noise that makes numbers infinite allows nothing
    return tally.comparison(name, inside=inside, allowed=allowed if isfinite(allowed) else 0.0)


def _noise(
    full: StreamingModule,
    wanted: Elements,
    video: Sequence[Tensor],
    frames: int,
    change: Callable[[State, State], State],
) -> Mapping[str, float]:
    """By value, the most that noise changes."""
    most: dict[str, float] = defaultdict(float)

    def watch(name: str, n: int, element: Tensor) -> None:
        most[name] = max(most[name], distance(wanted[name][n], element))

    watch_stream(full, video, frames, watch, change)
    return most


def _noise_of(plan: Plan, run: int) -> Callable[[State, State], State]:
    """Noise as large as the rounding, on whatever a tick has put into the state."""
    generator = torch.Generator().manual_seed(run)

    def change(before: State, after: State) -> State:
        histories = dict(after.histories)
        for name, value in plan.rounded_state.items():
            old = {id(element) for element in before.histories[name]}
            histories[name] = tuple(
                element
                if element is None or id(element) in old
                else _disturbed(element, value.held_dtype, generator, run)
                for element in histories[name]
            )
        return replace(after, histories=histories)

    return change


def _disturbed(element: Tensor, dtype: torch.dtype, generator: torch.Generator, run: int) -> Tensor:
    shape = list(element.shape)
    if run % 2 and len(shape) > 1:
        noise = torch.randint(0, 2, [1, shape[1], *[1] * (len(shape) - 2)], generator=generator, device="cpu") * 2 - 1
    else:
        noise = torch.rand(shape, generator=generator, device="cpu") * 2 - 1
    kind = torch.finfo(dtype)
    size = element.abs().clamp(min=kind.smallest_normal) * (kind.eps / 2)
    return element + size * noise.to(element)

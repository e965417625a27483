"""Which axis of the clip is time, where the user does not say: the one reading that streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

from torch import fx

from co3d_compile.errors import CaptureError, InputError
from co3d_compile.plan.plan import Plan
from co3d_compile.program.program import ClipInput, Program

Reading = tuple[int, ...]
"""The axis of time, per input."""

Found = Plan | InputError

CHANNELS = 4
"""A video has up to so many."""

NOTHING = InputError("nothing of the network could be streamed: it would be run anew on every window")


def plan_as_read(program: Program, time_axis: int | Sequence[int] | None, plan_of: Callable[[Program], Plan]) -> Plan:
    """The plan at the axis that is given, or at the one axis at which the network streams.

    5-D clips are ``(N, C, T, H, W)`` if that streams, else ``(N, T, ...)`` if that does; the other way round where the
    last three axes look like an image's and its channels'. Clips of other ranks have no such habit. A reading at which
    a part has to run on whole windows comes after those that stream to the end.

    Raises:
        CaptureError: an input has no such axis, or it takes the user to say which it is.
        InputError: whatever ``plan_of`` raises, for the axis that is given or usual.
    """
    if time_axis is not None:
        return plan_of(read_at(program, _given(program.inputs, time_axis)))
    found: dict[Reading, Found] = {}
    usual = all(len(given.shape) == 5 for given in program.inputs)
    for reading in _readings(program.inputs):
        found[reading] = plan = _attempt(program, reading, plan_of)
        if usual and isinstance(plan, Plan) and _is_usual(plan, reading) and not plan.last_resorts:
            return plan
    if usual:
        in_part = [plan for reading, plan in found.items() if isinstance(plan, Plan) and _is_usual(plan, reading)]
        return in_part[0] if in_part else _planned(found[(2,) * len(program.inputs)])
    working = [plan for plan in found.values() if isinstance(plan, Plan) and _streams(plan)]
    to_the_end = [plan for plan in working if not plan.last_resorts]
    if len(to_the_end or working) == 1:
        return (to_the_end or working)[0]
    raise _undecided(program.inputs, found)


def _is_usual(plan: Plan, reading: Reading) -> bool:
    return _streams(plan, of_nothing=reading == (2,) * len(reading))


def read_at(program: Program, axes: Sequence[int]) -> Program:
    """A copy of the program with time at these axes of its inputs.

    Raises:
        CaptureError: the inputs' lengths are no whole multiples of each other.
    """
    lengths = [given.shape[axis] for given, axis in zip(program.inputs, axes, strict=True)]
    graph = fx.Graph()
    graph.output(graph.graph_copy(program.graph, {}))
    inputs = tuple(
        replace(given, time_axis=axis, rate=_rate(max(lengths), length))
        for given, axis, length in zip(program.inputs, axes, lengths, strict=True)
    )
    return replace(program, graph=graph, inputs=inputs)


def _given(inputs: Sequence[ClipInput], time_axis: int | Sequence[int]) -> Reading:
    axes = list(time_axis) if isinstance(time_axis, Sequence) else [time_axis] * len(inputs)
    if not all(isinstance(axis, int) for axis in axes):
        raise CaptureError(f"time_axis is {time_axis!r}\n  try: the number of an axis, or a list of one for each input")
    if len(axes) != len(inputs):
        raise CaptureError(f"{len(axes)} time axes for {len(inputs)} inputs\n  try: one for each, or one for all")
    for given, axis in zip(inputs, axes, strict=True):
        rank = len(given.shape)
        if not -rank <= axis < rank:
            raise CaptureError(f"time_axis {axis} of a clip of shape {given.shape}\n  try: one of its {rank} axes")
    return tuple(axis % len(given.shape) for given, axis in zip(inputs, axes, strict=True))


def _readings(inputs: Sequence[ClipInput]) -> list[Reading]:
    """Inputs of one rank are read alike."""
    shapes = {len(given.shape): given.shape for given in inputs}
    chosen = [dict(zip(shapes, axes, strict=True)) for axes in product(*map(_candidates, shapes.values()))]
    return [tuple(axes[len(given.shape)] for given in inputs) for axes in chosen]


def _candidates(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Never the batch, and never the two axes of an image."""
    if len(shape) == 5:
        return (1, 2) if _looks_channels_last(shape) else (2, 1)
    if len(shape) == 4 and shape[2] == shape[3]:
        return (1,)
    return tuple(range(1, len(shape))) or (0,)


def _looks_channels_last(shape: tuple[int, ...]) -> bool:
    return shape[2] == shape[3] > CHANNELS >= shape[4] and shape[1] > CHANNELS


def _rate(longest: int, length: int) -> int:
    if longest % length:
        raise CaptureError(
            f"inputs of {longest} and {length} frames are not pathways at whole rates of one video\n"
            "  try: lengths of which the longest is a multiple"
        )
    return longest // length


def _attempt(program: Program, reading: Reading, plan_of: Callable[[Program], Plan]) -> Found:
    try:
        return plan_of(read_at(program, reading))
    except InputError as refused:
        return refused


def _streams(plan: Plan, *, of_nothing: bool = True) -> bool:
    """Something that multiplies keeps time, so that its results are used again; ``of_nothing``: or nothing does."""
    made = [plan.values[node.outputs[0]].has_time for node in plan.nodes if node.macs]
    return any(made) if made else of_nothing


def _planned(found: Found) -> Plan:
    if isinstance(found, InputError):
        raise found
    return found


def _undecided(inputs: Sequence[ClipInput], found: dict[Reading, Found]) -> CaptureError:
    shapes = ", ".join(str(given.shape) for given in inputs)
    listed = "".join(f"\n  axis {_named(reading)}: {_told(result)}" for reading, result in found.items())
    return CaptureError(
        f"which axis of the clip of shape {shapes} is time? 5-D clips are taken as (N, C, T, H, W){listed}\n"
        "  try: time_axis=, or --time-axis"
    )


def _named(reading: Reading) -> str:
    return ", ".join(map(str, reading)) if len(set(reading)) > 1 else str(reading[0])


def _told(found: Found) -> str:
    if isinstance(found, Plan):
        return "it streams" if _streams(found) else str(NOTHING)
    return "; ".join(line.strip() for line in str(found).splitlines()[:2])

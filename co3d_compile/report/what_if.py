"""What a network would cost with other windows, frames and rates: the analysis alone, nothing is captured anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sympy

from co3d_compile.plan.plan import Plan
from co3d_compile.report.formula import BATCH, HEIGHT, WIDTH, WINDOW
from co3d_compile.report.frame_sizes import FrameSizes, frame_of
from co3d_compile.report.symbolic import Formulas

SCHEMA = 1

Size = tuple[int, int]
"""Height and width of a frame."""


@dataclass(frozen=True)
class OutputTimes:
    """When an output comes, and of what; in ticks and frames."""

    name: str
    delay: int
    receptive_field: int
    steady_tick: int


@dataclass(frozen=True)
class Scenario:
    """A network as it would be; MACs and bytes for one stream.

    Attributes:
        window: elements of the windows over the whole clip; None: there is none that can be set.
        size: height and width of the frames; None: the inputs have no frames of one size.
        checked: the size is the clip's, or the original's cost was counted at other sizes and agrees.
        refusal: why there is no such network; then it has no outputs.
    """

    rate: str
    window: int | None
    size: Size | None
    outputs: tuple[OutputTimes, ...] = ()
    clip_macs: int = 0
    macs_per_frame: float = 0.0
    state_bytes: int = 0
    checked: bool = True
    refusal: str = ""


def scenarios(
    plan: Plan, sizes: FrameSizes, windows: Iterable[int | None], frames: Sequence[Size | None]
) -> Iterator[Scenario]:
    """The plan with each window and each size; None: as it was compiled."""
    for window in windows:
        for frame in frames:
            yield scenario(plan, sizes, window, frame)


def scenario(plan: Plan, sizes: FrameSizes, window: int | None, frame: Size | None) -> Scenario:
    """The plan with another window, on frames of another size; None: as it was compiled."""
    formulas = Formulas(plan, sizes)
    rate, turned = "dense" if plan.dense else "native", frame or frame_of(plan)
    refusal = _refusal(plan, formulas, sizes, window, frame)
    width = formulas.window and (window or formulas.window)
    if refusal:
        return Scenario(rate, width, turned, refusal=refusal)
    values = {WINDOW: width or 1, BATCH: 1, HEIGHT: (turned or (1, 1))[0], WIDTH: (turned or (1, 1))[1]}
    return Scenario(
        rate=rate,
        window=width,
        size=turned,
        outputs=tuple(
            _times(formulas, output.value, name, values)
            for output, name in zip(plan.outputs, plan.output_names, strict=True)
        ),
        clip_macs=int(formulas.clip_macs.subs(values)),
        macs_per_frame=float(formulas.macs_per_frame.subs(values)),
        state_bytes=int(formulas.state_bytes.subs(values)),
        checked=sizes.checked or turned == frame_of(plan),
    )


def to_dict(found: Mapping[str, Sequence[Scenario]]) -> dict[str, Any]:
    """By name of the network, ready for JSON, under a versioned schema: the attributes by their names."""
    return {"schema": SCHEMA, "networks": {name: [asdict(one) for one in rows] for name, rows in found.items()}}


def _times(formulas: Formulas, value: str, name: str, values: Mapping[sympy.Symbol, int]) -> OutputTimes:
    times = (formulas.delay(value), formulas.receptive_field(value), formulas.steady_tick(value))
    return OutputTimes(name, *(int(time.subs(values)) for time in times))


def _refusal(plan: Plan, formulas: Formulas, sizes: FrameSizes, window: int | None, frame: Size | None) -> str:
    if window not in (None, formulas.window) and formulas.held_windows:
        return f"{', '.join(formulas.held_windows)}: behind an upsampling in time, the window stays as compiled"
    compiled = frame_of(plan)
    if frame in (None, compiled):
        return ""
    if sizes.fixed is not None or compiled is None:
        return f"{sizes.fixed.path or 'the top level'}: {sizes.fixed.reason}" if sizes.fixed else "no frames"
    assert frame is not None
    if any(side < least for side, least in zip(frame, sizes.least, strict=True)):
        return f"frames of {sizes.least[0]} x {sizes.least[1]} are the smallest that leave something of every tensor"
    if any((side - was) % sizes.step for side, was in zip(frame, compiled, strict=True)):
        return f"known for sizes that differ from {compiled[0]} x {compiled[1]} by multiples of {sizes.step} alone"
    return ""

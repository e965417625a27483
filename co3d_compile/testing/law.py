"""The law as a check: a stream gives what the original gives on the whole video, by value, tick and count.

The oracle is always the original. When an element may come out is asked of it too: an element is *determined* after
c frames if the original gives the same value for every video that begins with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from co3d_compile.api import compile
from co3d_compile.network import Network
from co3d_compile.testing.alive import make_alive, wandering_video

Reference = Callable[[Tensor], Any]

CHUNKS = (1, 2, 3, 7, 5)
ATTEMPTS = 6
"""Videos asked before an element counts as settled: a maximum may not care about the next frame by chance."""
BEYOND = 30
"""Frames by which these videos are longer: what is settled must not be so because the video ends."""


def require(holds: bool, told: str) -> None:
    """A claim of a check; not ``assert``, which ``python -O`` leaves out."""
    if not holds:
        raise AssertionError(told)


def windows_of(whole: Reference, width: int, *, time_axis: int = 2) -> Reference:
    """What a clip model gives for every window of ``width`` elements, stacked on a new axis 1."""

    def run(elements: Tensor) -> Any:
        starts = range(elements.shape[time_axis] - width + 1)
        if not starts:
            raise IndexError("shorter than the window")
        answers = [whole(elements.narrow(time_axis, start, width).clone()) for start in starts]
        return pytree.tree_map(lambda *parts: torch.stack(parts, min(1, parts[0].dim())), *answers)

    return run


@dataclass(frozen=True)
class Axis:
    """Where the elements of an output are numbered.

    Attributes:
        dim: the dimension that grows with the video.
        folded: the batch is the outer part of it.
        stacked: windows are stacked there; one that comes alone comes without it.
    """

    dim: int
    folded: bool = False
    stacked: bool = False

    @property
    def along(self) -> int:
        """The dimension of elements once the batch is apart."""
        return self.dim + self.folded

    def apart(self, output: Tensor, batch: int) -> Tensor:
        return torch.unflatten(output, self.dim, (batch, -1)) if self.folded else output


def axes_of(reference: Reference, video: Tensor, *, time_axis: int = 2, stacked: bool = False) -> list[Axis]:
    """The axis of each output: what grows with the video, and whether it grows with the batch too."""
    once = leaves_of(reference, video)
    longer = leaves_of(reference, torch.cat([video] * 12, time_axis))
    try:
        wider = leaves_of(reference, torch.cat([video, video])) if time_axis else once
    except RuntimeError:
        wider = once
    dims = [next(n for n in range(a.dim()) if a.shape[n] != b.shape[n]) for a, b in zip(once, longer, strict=True)]
    return [
        Axis(dim, wide.shape[dim] != one.shape[dim], stacked) for dim, one, wide in zip(dims, once, wider, strict=True)
    ]


@dataclass(frozen=True)
class Streamed:
    """What came out of one stream: per output its elements, joined, and the tick of each."""

    outputs: list[Tensor | None]
    ticks: list[list[int]]


def stream_video(net: Network, video: Tensor, axes: Sequence[Axis], *, time_axis: int = 2) -> Streamed:
    """Push every frame, then flush."""
    batch = video.shape[0] if time_axis else 1
    stream = net.stream(batch)
    came = [stream.push(frame) for frame in video.unbind(time_axis)]
    came += stream.flush()
    parts: list[list[Tensor]] = [[] for _ in axes]
    ticks: list[list[int]] = [[] for _ in axes]
    for tick, answer in enumerate(came):
        leaves = [None] * len(axes) if answer is None else pytree.tree_leaves(answer)
        require(len(leaves) == len(axes), "an answer has not the original's structure")
        for place, (leaf, axis) in enumerate(zip(leaves, axes, strict=True)):
            if leaf is not None:
                part = leaf.unsqueeze(axis.dim) if axis.stacked else axis.apart(leaf, batch)
                parts[place].append(part)
                ticks[place] += [tick] * part.shape[axis.along]
    joined = [torch.cat(part, axis.along) if part else None for part, axis in zip(parts, axes, strict=True)]
    return Streamed(joined, ticks)


def tolerance(output: Tensor, axis: int) -> float:
    """1e-4 of how far the output moves between elements; not below what rounding alone makes of its magnitude."""
    values = output.double().nan_to_num(0.0, 0.0, 0.0)
    moves = values.diff(dim=axis).abs()
    movement = moves.max().item() if moves.numel() else 0.0
    magnitude = values.abs().max().item() if values.numel() else 0.0
    accuracy = 1e-4 if output.dtype in (torch.float32, torch.float64) else 100 * torch.finfo(output.dtype).eps
    # 1.0: what a norm subtracts from itself was of this size in a network made alive
    return max(accuracy * movement, torch.finfo(torch.float32).eps * (100 * magnitude + 10 * 1.0))


def assert_same(made: Tensor, wanted: Tensor, axis: int, what: str) -> None:
    """Equal shapes, equal non-finite entries, and finite ones within the tolerance."""
    require(made.shape == wanted.shape, f"{what}: {tuple(made.shape)} elements came, {tuple(wanted.shape)} are due")
    require(made.dtype == wanted.dtype, f"{what}: {made.dtype} came, {wanted.dtype} is due")
    if not wanted.is_floating_point():
        require(torch.equal(made, wanted), f"{what}: integers differ")
        return
    finite = wanted.isfinite()
    same = torch.equal(made[~finite].nan_to_num(7.0), wanted[~finite].nan_to_num(7.0))
    require(same, f"{what}: non-finite entries differ")
    error = (made.double() - wanted.double())[finite].abs()
    worst = error.max().item() if error.numel() else 0.0
    allowed = tolerance(wanted, axis)
    require(worst <= allowed, f"{what}: off by {worst:.3g}, {allowed:.3g} is allowed")


def leaves_of(reference: Reference, video: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [leaf for leaf in pytree.tree_leaves(reference(video.clone())) if isinstance(leaf, Tensor)]


def determined_counts(
    reference: Reference, video: Tensor, frames: int, axes: Sequence[Axis], *, time_axis: int = 2, poison: bool = True
) -> list[int] | None:
    """How many leading elements of each output the first ``frames`` frames settle, asked of the original.

    Settled: it is there and the same when the video ends after these frames, and stays finite when all later ones
    are NaN. None where the original takes no video of so few frames.
    """
    batch = video.shape[0] if time_axis else 1
    try:
        cut = leaves_of(reference, video.narrow(time_axis, 0, frames))
    except (RuntimeError, IndexError):
        return None
    whole = leaves_of(reference, video)
    if any(short.dim() != full.dim() for short, full in zip(cut, whole, strict=True)):
        return None
    if poison and frames < video.shape[time_axis]:
        poisoned = video.clone()
        poisoned.narrow(time_axis, frames, video.shape[time_axis] - frames).fill_(torch.nan)
        later = leaves_of(reference, poisoned)
    else:
        later = whole
    return [
        _settled([axis.apart(leaf, batch) for leaf in (short, full, poisoned_one)], axis.along)
        for short, full, poisoned_one, axis in zip(cut, whole, later, axes, strict=True)
    ]


def _settled(answers: Sequence[Tensor], axis: int) -> int:
    """Leading elements on which the answers to a cut, a whole and a poisoned video agree."""
    short, full, _ = answers
    allowed = tolerance(full, axis)

    def is_settled(n: int) -> bool:
        one, other, third = (tensor.select(axis, n) for tensor in answers)
        same = torch.allclose(one.double(), other.double(), rtol=0.0, atol=allowed, equal_nan=True)
        return same and torch.equal(other.isfinite(), third.isfinite())

    return len(list(takewhile(is_settled, range(min(short.shape[axis], full.shape[axis])))))


def _settled_by_nothing(
    reference: Reference, video: Tensor, axes: Sequence[Axis], came: Sequence[int], counts: Sequence[int]
) -> bool:
    """All that is settled and has not come is the same for every video: no frame goes into it."""
    answers = [leaves_of(reference, video), leaves_of(reference, video * 2 + 1)]
    fixed = []
    for one, other, axis, there in zip(*answers, axes, came, strict=True):
        left = [axis.apart(leaf, video.shape[0]) for leaf in (one, other, one)]
        left = [leaf.narrow(axis.along, there, leaf.shape[axis.along] - there) for leaf in left]
        fixed.append(there + _settled(left, axis.along))
    return all(settled <= known for settled, known in zip(counts, fixed, strict=True))


def check_ticks(
    reference: Reference,
    video: Tensor,
    ticks: Sequence[Sequence[int]],
    axes: Sequence[Axis],
    *,
    time_axis: int = 2,
    poison: bool = True,
    least_delay: bool = True,
    multiple: int = 1,
    late: Sequence[int] = (),
) -> None:
    """Every element comes at the first tick at which the original's answer is settled, never later or earlier.

    Args:
        late: per output, so many ticks after that.
    """
    late = late or [0] * len(ticks)
    for frames in range(multiple, video.shape[time_axis], multiple):
        came = [sum(tick - more < frames for tick in one) for one, more in zip(ticks, late, strict=True)]
        counts = None
        for attempt in range(ATTEMPTS):
            more_frames = BEYOND + -BEYOND % multiple
            shape = [size + more_frames if n == time_axis else size for n, size in enumerate(video.shape)]
            longer = wandering_video(shape, time_axis=time_axis, seed=attempt)
            more = determined_counts(reference, longer, frames, axes, time_axis=time_axis, poison=poison)
            counts = more if counts is None or more is None else [min(pair) for pair in zip(counts, more, strict=True)]
            if counts in (None, came):
                break
        if counts is not None:
            told = f"after {frames} frames {came} elements came, {counts} are settled"
            require(all(one <= settled for one, settled in zip(came, counts, strict=True)), told)
            on_time = came == counts or not least_delay or _settled_by_nothing(reference, longer, axes, came, counts)
            require(on_time, told)


def check_law(
    model: nn.Module,
    clip: Sequence[int],
    *,
    lengths: Sequence[int] = (),
    batch: int = 1,
    time_axis: int = 2,
    reference: Reference | None = None,
    stacked: bool = False,
    poison: bool = True,
    least_delay: bool = True,
    multiple: int = 1,
    alive: bool = True,
    seed: int = 0,
    **options: Any,
) -> Network:
    """Compile the model and hold its stream against the original, by value, tick and count.

    Where ``extra_delay`` is among the options, ticks are those of the original later by what the plan tells, which is
    no more than that.

    Args:
        clip: the shape of the example clip.
        lengths: frames of the videos; the ticks are checked on the longest.
        reference: what the stream must give; the model itself, if None.
        stacked: outputs are windows, stacked on axis 1.
        poison: NaN reaches whatever reads it.
        least_delay: nothing comes later than it is settled; False where channels of one tensor have other delays,
            which the calculus, tensor by tensor, does not see.
        multiple: the original takes only videos whose frames this number divides, as do all ``lengths``.
    """
    example = wandering_video(clip, time_axis=time_axis, seed=seed + 1)
    if alive:
        make_alive(model, example, seed=seed)
    net = compile(model, example.clone(), time_axis=time_axis, **options)
    require(net.report.exact, "the law is for what is exact")
    late = [net.plan.lateness(output.value) for output in net.plan.outputs]
    require(max(late) <= options.get("extra_delay", 0), f"outputs are {late} ticks late")
    reference = reference or model
    frames = clip[time_axis]
    lengths = sorted(lengths) or [frames, frames + 5]
    axes = axes_of(reference, example, time_axis=time_axis, stacked=stacked)
    whole = _video(clip, lengths[-1], batch, time_axis, seed)
    longest = check_video(net, reference, whole, axes, time_axis=time_axis)
    check_ticks(
        reference,
        whole,
        longest.ticks,
        axes,
        time_axis=time_axis,
        poison=poison,
        least_delay=least_delay,
        multiple=multiple,
        late=late,
    )
    for length in lengths[:-1]:
        shorter = check_video(net, reference, whole.narrow(time_axis, 0, length), axes, time_axis=time_axis)
        for one, other in zip(shorter.ticks, longest.ticks, strict=True):
            count = min(len(one), len(other))
            require(one[:count] == other[:count], "an element's tick depends on where the video ends")
    return net


def _video(clip: Sequence[int], frames: int, batch: int, time_axis: int, seed: int) -> Tensor:
    shape = list(clip)
    shape[time_axis] = frames
    if time_axis:
        shape[0] = batch
    return wandering_video(shape, time_axis=time_axis, seed=seed + 2)


def check_video(
    net: Network, reference: Reference, video: Tensor, axes: Sequence[Axis], *, time_axis: int = 2
) -> Streamed:
    """Values and counts on one video: forward in one go, forward in chunks, stream."""
    batch = video.shape[0] if time_axis else 1
    frames = video.shape[time_axis]
    wanted = [axis.apart(leaf, batch) for leaf, axis in zip(leaves_of(reference, video), axes, strict=True)]
    for options in ({}, {"chunk": CHUNKS[frames % len(CHUNKS)]}):
        made = [axis.apart(leaf, batch) for leaf, axis in zip(_forward(net, video, options), axes, strict=True)]
        for place, (one, other, axis) in enumerate(zip(made, wanted, axes, strict=True)):
            assert_same(one, other, axis.along, f"forward {options}, {frames} frames, output {place}")
    streamed = stream_video(net, video, axes, time_axis=time_axis)
    for place, (came, other, axis) in enumerate(zip(streamed.outputs, wanted, axes, strict=True)):
        one = other.narrow(axis.along, 0, 0) if came is None else came
        assert_same(one, other, axis.along, f"stream, {frames} frames, output {place}")
    return streamed


def _forward(net: Network, video: Tensor, options: dict[str, int]) -> list[Tensor]:
    with torch.no_grad():
        return [leaf for leaf in pytree.tree_leaves(net.forward(video, **options)) if isinstance(leaf, Tensor)]

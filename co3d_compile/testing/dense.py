"""The law at a dense rate: the strided network, started at every frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from co3d_compile.api import compile
from co3d_compile.clock.timing import Timing
from co3d_compile.network import Network
from co3d_compile.testing.alive import wandering_video
from co3d_compile.testing.law import Axis, Reference, assert_same, axes_of, leaves_of, stream_video


def check_dense_law(model: nn.Module, clip: Sequence[int], *, frames: int, seed: int = 0) -> Network:
    """Dense element n is the strided network's on the video from frame ``n mod stride`` on.

    It is compared where that network saw the same: at phase 0 everywhere, else where its span lies in its video; and at
    the phases at which that network takes the rest of the video.

    Args:
        clip: shape of the example clip, ``(N, C, T, H, W)``; the model is used as it is.
        frames: of the video.
    """
    net = compile(model, wandering_video(clip), rate="dense")
    video = wandering_video((*clip[:2], frames, *clip[3:]), seed=seed + 2)
    axes = axes_of(model, wandering_video(clip))
    with torch.no_grad():
        whole = [leaf for leaf in pytree.tree_leaves(net.forward(video)) if isinstance(leaf, Tensor)]
    streamed = stream_video(net, video, axes)
    for place, output in enumerate(net.plan.outputs):
        timing, axis = net.plan.timing(output.value), axes[place]
        came, forward = streamed.outputs[place], axis.apart(whole[place], clip[0])
        came = forward.narrow(axis.along, 0, 0) if came is None else came

        assert timing.stride == 1, "there is an element at every tick"
        assert streamed.ticks[place] == [max(0, timing.clock(n)) for n in range(len(streamed.ticks[place]))]
        assert_same(came, forward, axis.along, f"stream and forward, output {place}")
        _check_phases(net, model, video, came, place, axis)
    return net


def _check_phases(net: Network, model: Reference, video: Tensor, came: Tensor, place: int, axis: Axis) -> None:
    timing = net.plan.timing(net.plan.outputs[place].value)
    for phase in range(timing.grid):
        try:
            wanted = axis.apart(leaves_of(model, video[:, :, phase:])[place], video.shape[0])
        except (RuntimeError, IndexError):
            continue  # the strided network takes no video of so few frames
        numbers = range(phase, came.shape[axis.along], timing.grid)
        assert len(numbers) == wanted.shape[axis.along], f"phase {phase}: {len(numbers)} of {wanted.shape[axis.along]}"
        own = [m for m, n in enumerate(numbers) if phase == 0 or _sees_alike(timing, n, phase, video.shape[2])]
        seen = torch.tensor(own, dtype=torch.long)
        made = came.index_select(axis.along, torch.tensor(list(numbers), dtype=torch.long))
        made, wanted = (part.index_select(axis.along, seen) for part in (made, wanted))
        assert_same(made, wanted, axis.along, f"phase {phase}, output {place}")


def _sees_alike(timing: Timing, n: int, phase: int, frames: int) -> bool:
    """Element n has seen no padding in the video from the phase's frame on, and nothing before it."""
    return n - phase >= timing.front and _first_seen(timing, n, frames) >= phase


def _first_seen(timing: Timing, n: int, frames: int) -> int:
    """The first frame that element n may depend on; no later one where the end of the video is repeated or reflected.

    What lies so far behind the end is made of an element that lies as far before it.
    """
    behind = timing.hi(n) - (frames - 1)
    return timing.lo(n) - (2 * (behind + timing.grid - 1) if behind > 0 else 0)

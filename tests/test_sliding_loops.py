"""Loops over frames that carry nothing, but read neighbours, or step over frames, stream as what they are: slices."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import co3d_compile
from co3d_compile.ops.flow import Way
from co3d_compile.testing.law import check_law
from tests.functions import Function
from tests.recurrent_networks import CLIP as CLIP_OF_TWO
from tests.recurrent_networks import Neighbours

CLIP = (1, 3, 8, 6, 6)
Loop = Callable[[Tensor, nn.Module], Tensor]


def frames(x: Tensor, places: range) -> list[Tensor]:
    return [x[:, :, place] for place in places]


def of_three(x: Tensor, net: nn.Module) -> Tensor:
    return torch.stack([net(torch.cat(frames(x, range(t, t + 3)), 1)) for t in range(x.shape[2] - 2)], 2)


def padded(x: Tensor, net: nn.Module) -> Tensor:
    return of_three(F.pad(x, (0, 0, 0, 0, 1, 1)), net)


def clamped(x: Tensor, net: nn.Module) -> Tensor:
    last = x.shape[2] - 1
    near = [[x[:, :, min(max(t + by, 0), last)] for by in (-1, 0, 1)] for t in range(last + 1)]
    return torch.stack([net(torch.cat(parts, 1)) for parts in near], 2)


def zeros_before(x: Tensor, net: nn.Module) -> Tensor:
    """Causal; each iteration makes its own zeros."""
    parts = []
    for t in range(x.shape[2]):
        near = [x[:, :, t - by] if t >= by else torch.zeros_like(x[:, :, t]) for by in (2, 1, 0)]
        parts.append(net(torch.cat(near, 1)))
    return torch.stack(parts, 2)


def slices(x: Tensor, net: nn.Module) -> Tensor:
    return torch.stack([net(x[:, :, t : t + 3].flatten(1, 2)) for t in range(x.shape[2] - 2)], 2)


def slices_apart(x: Tensor, net: nn.Module) -> Tensor:
    return torch.stack([net(x[:, :, t : t + 3].flatten(1, 2)) for t in range(0, x.shape[2] - 2, 2)], 2)


def stretches(x: Tensor, net: nn.Module) -> Tensor:
    if x.shape[2] < 3:
        raise RuntimeError("not a single stretch")
    return torch.cat([torch.relu(x[:, :, t : t + 3]).mean(2, keepdim=True) for t in range(x.shape[2] - 2)], 2)


def parts(x: Tensor, net: nn.Module) -> Tensor:
    return torch.stack([part.amax(2) for part in x.split(2, 2) if part.shape[2] == 2], 2)


def second_difference(x: Tensor, net: nn.Module) -> Tensor:
    return torch.stack([x[:, :, t] - 2 * x[:, :, t - 1] + x[:, :, t - 2] for t in range(2, x.shape[2])], 2)


def every_second(x: Tensor, net: nn.Module) -> Tensor:
    return torch.stack([frame.tanh() for frame in frames(x, range(0, x.shape[2], 2))], 2)


def two_streams(x: Tensor, net: nn.Module) -> Tensor:
    y = x.sigmoid()
    return torch.stack([x[:, :, t] * y[:, :, t + 2] for t in range(x.shape[2] - 2)], 1)


LOOPS: dict[str, tuple[Loop, int, int]] = {
    "of three": (of_three, 3, 1),
    "padded": (padded, 3, 1),
    "clamped": (clamped, 3, 1),
    "zeros before": (zeros_before, 3, 1),
    "slices": (slices, 3, 1),
    "slices apart": (slices_apart, 3, 2),
    "stretches": (stretches, 3, 1),
    "parts": (parts, 2, 2),
    "second difference": (second_difference, 3, 1),
    "every second": (every_second, 1, 2),
    "two streams": (two_streams, 3, 1),
}
"""Each with its receptive field and its stride."""


@pytest.mark.parametrize(("loop", "field", "stride"), LOOPS.values(), ids=LOOPS)
def test_a_loop_that_reads_neighbours_is_slices_of_its_streams(loop: Loop, field: int, stride: int) -> None:
    model = Function(loop, net=nn.Conv2d(9, 4, 3, padding=1)).eval()

    net = check_law(model, CLIP, batch=2)

    output = net.report.outputs[0]
    assert (output.receptive_field, output.stride, output.carried) == (field, stride, ())
    assert net.verify(model).passed


def test_what_neighbours_share_is_computed_once_a_frame() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)

    def pairs(x: Tensor, conv: nn.Module) -> Tensor:
        features = [conv(frame) for frame in frames(x, range(x.shape[2]))]
        return torch.stack([after.sigmoid() * before for before, after in pairwise(features)], 2)

    net = check_law(Function(pairs, conv=conv).eval(), CLIP, batch=2)

    assert net.report.outputs[0].receptive_field == 2
    assert net.report.totals.macs_per_frame == 3 * 4 * 9 * 6 * 6
    co3d_compile.compile(Function(pairs, conv=conv).eval(), CLIP, start="replicate")


def test_the_features_of_the_frame_before_are_read_back() -> None:
    net = check_law(Neighbours(), CLIP_OF_TWO, batch=2, alive=False)

    assert net.report.outputs[0].receptive_field == 2
    assert not net.report.outputs[0].carried


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.stack([x[:, :, t].tanh() for t in range(4)], 2),
        lambda x: torch.stack([x[:, :, t].tanh() for t in (1, 3, 5)], 2),
        lambda x: torch.stack([x[:, :, t].tanh() for t in (0, 1, 3, 6)], 2),
        lambda x: torch.stack([(x[:, :, t] * x[:, :, 0]).tanh() for t in range(8)], 2),
    ],
    ids=["the first four", "some of them", "unequal steps", "with the first one"],
)
def test_frames_that_a_longer_video_may_have_elsewhere_stay_in_windows(function: Callable[[Tensor], Tensor]) -> None:
    model = Function(lambda x, conv: function(conv(x)), conv=nn.Conv3d(3, 4, 1)).eval()

    net = co3d_compile.compile(model, CLIP)

    assert any(node.way is Way.COLLAPSE for node in net.plan.nodes)
    assert net.verify(model).passed


def test_slices_that_shift_a_whole_clip_are_no_loop() -> None:
    """Their literal ends are those that a slice in a loop would have."""

    def shifted(x: Tensor) -> Tensor:
        last = x.shape[2]
        return torch.cat([x[:, :, : last - 2], x[:, :, 1 : last - 1], x[:, :, 2:last]], 1)

    net = check_law(Function(shifted).eval(), CLIP, batch=2)

    assert net.report.outputs[0].shape == (1, 9, 6, 6, 6)
    assert net.report.outputs[0].receptive_field == 3


@pytest.mark.parametrize("first", [0, 1])
def test_a_loop_that_carries_on_over_every_second_frame_is_a_recurrence(first: int) -> None:
    def stepped(x: Tensor, conv: nn.Module) -> Tensor:
        h, states = torch.zeros_like(x[:, :, first]), []
        for frame in frames(x, range(first, x.shape[2], 2)):
            h = (conv(h) + frame).tanh()
            states.append(h)
        return torch.stack(states, 2)

    net = check_law(Function(stepped, conv=nn.Conv2d(3, 3, 1)).eval(), CLIP, batch=2, alive=False)

    output = net.report.outputs[0]
    assert (output.stride, output.delay) == (2, first)
    assert output.carried

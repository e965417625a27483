"""Networks that failed once, shrunk; each name says what was wrong."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from co3d_compile.testing.dense import check_dense_law
from co3d_compile.testing.law import check_law
from tests.layers import (
    Act,
    Branches,
    Conv,
    Dense,
    Frames,
    Mix,
    Norm,
    Pool,
    RandomNetwork,
    Reindex,
    TimeOnly,
    Twice,
    Up,
)
from tests.test_random_networks import (
    obeys_at_a_dense_rate,
    obeys_in_every_window,
    obeys_to_its_outputs,
    obeys_upward,
    settled,
)

TRUNKS = {
    "a view of what lies in memory otherwise than in the clip": RandomNetwork(
        (TimeOnly("max1d", k=3, p=0),), channels=3, frames=7, batch=2, longer=3
    ),
    "a reshape of an expanded tensor": RandomNetwork(
        (Mix("rows in channels"), TimeOnly("conv2d", k=1, s=3, p=0)), channels=1, longer=2
    ),
    "an expanded output at size one": RandomNetwork((Mix("rows in channels"),), channels=1, frames=6),
    "an expanded operand of a dilated convolution": RandomNetwork(
        (Mix("rows in channels"), Branches(((), (Conv(k=3, d=3, pads=(3, 3), groups=True, bias=False),)), "mul")),
        channels=1,
        frames=19,
    ),
    "a cut that waits for the value of what is cut": RandomNetwork(
        (Conv(1, k=1, pads=(1, 1), bias=False), Reindex("delay", 1, 1)), channels=3, frames=11
    ),
    "a split that gives a list": RandomNetwork((Mix("split"),), frames=11),
    "a pool of one frame whose result is written over": RandomNetwork(
        (Pool("max", 2, 1, 1, space=3), Act("silu_")), frames=15, side=5, longer=2
    ),
    "a stepped convolution of an expanded tensor": RandomNetwork(
        (Mix("rows in channels"), Conv(1, k=1, s=3, pads=(0, 0), space=3), Frames("conv", 4)),
        channels=1,
        frames=14,
        batch=2,
    ),
    "an advance beside a pool": RandomNetwork(
        (
            Branches(
                (
                    (TimeOnly("max1d", k=1, s=2, p=0), Reindex("advance", 2, 1)),
                    (Pool("max", 3, 2, 1, space=3),),
                )
            ),
        ),
        channels=1,
        frames=8,
    ),
    "a burst that a branch waits for": RandomNetwork((Dense((Reindex("differences", 1, 1),)),), frames=8, longer=2),
    "an empty part of the channels repeated": RandomNetwork(
        (Reindex("assigned to a copy", 1, 1),), channels=1, frames=6, longer=0
    ),
    "rolled by more than half": RandomNetwork((Reindex("rolled", 3, 1),), channels=1, frames=5),
    "stretches of one frame taken for frames of a loop": RandomNetwork(
        (Reindex("assigned in frames", 1, 1),), frames=2, longer=3
    ),
    "a shift by all that a shift has left of the clip": RandomNetwork(
        (Reindex("advance", 2, 1), Branches(((), (Reindex("rolled back", 3, 1),)))), channels=1, frames=5
    ),
    "differences of a clip whose last frames are constant": RandomNetwork(
        (Reindex("cut", 1, 2), Reindex("torch.diff", 1, 1)), channels=1, frames=6
    ),
    "a shift by all frames of the clip that are not constant": RandomNetwork(
        (Reindex("ends set", 2, 2), Reindex("joined behind", 1, 3)), channels=1, frames=5, longer=3
    ),
    "a masked roll by all frames of the clip that are not constant": RandomNetwork(
        (Reindex("ends set", 2, 2), Branches(((), (Reindex("rolled back", 3, 1),)))), channels=1, frames=5, longer=3
    ),
}
HEADS = {
    "a view of an expanded tensor under a head": RandomNetwork(
        (Mix("rows in channels"), TimeOnly("conv2d", k=1, s=3, p=0)), channels=1, head="last"
    ),
}
DENSE = {
    "a repeated end that knows frames from before the phase": RandomNetwork(
        (
            Conv(1, k=4, s=2, d=3, pads=(7, 2), value=0.5, bias=False),
            TimeOnly("conv1d", 1, 3, 2, 1, 1),
            Twice(Conv(1, k=3, d=3, pads=(2, 4))),
            Reindex("last repeated", 1, 3),
        ),
        channels=1,
        frames=13,
    ),
    "a phase of too few frames": RandomNetwork(
        (
            Conv(1, k=1, s=2, pads=(0, 0)),
            Branches(((), (Reindex("advance", 1, 3),))),
            Conv(1, k=1, s=2, pads=(0, 0)),
            Conv(1, k=1, s=3, pads=(0, 1)),
        ),
        channels=1,
        frames=9,
    ),
    "padding where a frame was cut off": RandomNetwork(
        (Reindex("advance", 1, 1), TimeOnly("max1d", 1, k=2, s=2, d=1, p=1)), channels=1, frames=6
    ),
}
UPWARD = {
    "a bias that no frame goes into, between elements": RandomNetwork(
        (
            Conv(1, k=1, s=2, pads=(0, 1), bias=False),
            Up("transposed", 1, 2, k=1, d=1, p=0, extra=1),
            Conv(1, k=1, s=3, pads=(0, 0), bias=False),
        ),
        channels=1,
        frames=5,
        longer=1,
    ),
    "a constant that a maximum sees twice": RandomNetwork(
        (Up("transposed", 1, 2, k=1), Pool("max", 3, 1, 1)), channels=1, frames=5, longer=1
    ),
}


@pytest.mark.parametrize("network", TRUNKS.values(), ids=TRUNKS.keys())
def test_a_network_that_failed(network: RandomNetwork) -> None:
    assert obeys_to_its_outputs(network)


@pytest.mark.parametrize("network", HEADS.values(), ids=HEADS.keys())
def test_a_head_that_failed(network: RandomNetwork) -> None:
    assert obeys_in_every_window(network)


@pytest.mark.parametrize("network", DENSE.values(), ids=DENSE.keys())
def test_a_network_that_failed_at_a_dense_rate(network: RandomNetwork) -> None:
    assert obeys_at_a_dense_rate(network)


@pytest.mark.parametrize("network", UPWARD.values(), ids=UPWARD.keys())
def test_a_network_that_goes_up_and_failed(network: RandomNetwork) -> None:
    assert obeys_upward(network)


@pytest.mark.parametrize("up", ["channels", "expand"])
@pytest.mark.parametrize(
    "kind",
    [
        "ends set",
        "rolled",
        "rolled back",
        "first repeated",
        "last repeated",
        "torch.diff",
        "joined around",
        "put together",
    ],
)
def test_what_comes_in_bursts_is_taken_apart_and_put_together(up: str, kind: str) -> None:
    assert obeys_upward(RandomNetwork((Up(up, 1, 2), Reindex(kind, 1, 1)), channels=1, frames=5, longer=1))


def test_a_norm_of_values_that_are_nearly_equal_is_settled_in_double_precision() -> None:
    network = RandomNetwork(
        (TimeOnly("conv2d", channels=1, k=1, s=1, p=0), Mix("attention"), Norm("space")),
        channels=1,
        frames=6,
        side=5,
    )

    with pytest.raises(AssertionError, match="off by"):
        obeys_to_its_outputs(network)
    assert settled(obeys_to_its_outputs, network)


class Chomped(nn.Module):
    """The causal convolution of temporal convolutional networks: pad both ends, cut the end off."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 2, (3, 1, 1), padding=(4, 0, 0), dilation=(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[:, :, :-4]


def test_a_causal_convolution_made_by_cutting_has_no_delay() -> None:
    torch.manual_seed(0)
    net = check_law(Chomped(), (1, 2, 8, 3, 3), lengths=(3, 8, 13))

    assert net.report.outputs[0].delay == 0


class Bottom(nn.Module):
    """A pool that sees as many elements of the clip as its stride, with time again behind it."""

    def __init__(self, pool: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before = nn.Conv3d(2, 4, 3, padding=1)
        self.pool = pool
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.pool(self.before(x)))


@pytest.mark.parametrize(
    ("after", "stride"),
    [
        (nn.Conv3d(4, 2, 3, padding=1), 2),
        (nn.Sequential(nn.Conv3d(4, 4, 1), nn.ReLU(), nn.Conv3d(4, 2, (3, 1, 1), padding=(1, 0, 0))), 2),
        (nn.ConvTranspose3d(4, 2, 2, 2), 1),
        (nn.Upsample(scale_factor=2), 1),
    ],
    ids=["convolved", "convolved later", "transposed", "repeated"],
)
@pytest.mark.parametrize("pool", [nn.AvgPool3d(2), nn.MaxPool3d((2, 1, 1))], ids=["average", "maximum"])
def test_a_pool_as_wide_as_the_clip_is_a_strided_one_where_time_goes_on(
    pool: nn.Module, after: nn.Module, stride: int
) -> None:
    net = check_law(Bottom(pool, after), (1, 2, 2, 4, 4), lengths=(2, 7, 12))

    assert net.report.exact
    assert net.report.outputs[0].stride / net.report.outputs[0].elements == stride


def test_a_pool_as_wide_as_the_clip_obeys_the_law_at_a_dense_rate() -> None:
    check_dense_law(Bottom(nn.AvgPool3d(2), nn.Conv3d(4, 2, 3, padding=1)), (1, 2, 2, 4, 4), frames=11)


class Bridge(nn.Module):
    """An encoder and a decoder with one element of time at the bottom, joined across."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv3d(2, 4, 3, padding=1)
        self.up = nn.ConvTranspose3d(4, 4, 2, 2)
        self.last = nn.Conv3d(8, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(x)
        return self.last(torch.cat([y, self.up(F.max_pool3d(y, 2))], 1))


def test_one_element_of_time_at_the_bottom_streams() -> None:
    net = check_law(Bridge(), (1, 2, 2, 4, 4), lengths=(2, 6, 12))

    assert not net.report.last_resorts

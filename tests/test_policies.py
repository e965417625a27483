"""What takes a whole clip and keeps time is made from a frame, or from the last frames, as its policy says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import ApproximationError, InputError
from co3d_compile.network import Network
from co3d_compile.report.data import Report
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.law import check_law, windows_of
from co3d_compile.verification.video import wandering_video as verification_video

CLIP = (1, 3, 8, 6, 6)
FRAMES = 13


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class NonLocal(nn.Module):
    """Every position of a clip meets every other (Wang et al., CVPR 2018)."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv3d(channels, 2, 1) for _ in range(3))
        self.out = nn.Conv3d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, t, h, w = x.shape
        query, key, value = (layer(x).view(n, 2, -1) for layer in (self.theta, self.phi, self.g))
        mixed = (query.transpose(1, 2) @ key).softmax(-1) @ value.transpose(1, 2)
        return x + self.out(mixed.transpose(1, 2).reshape(n, 2, t, h, w))


class FrameAttention(nn.Module):
    """Attention between frames, with torch's own operator."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.permute(0, 3, 4, 2, 1)
        query, key, value = self.qkv(frames).chunk(3, -1)
        return x + F.scaled_dot_product_attention(query, key, value).permute(0, 4, 3, 1, 2)


class SummedAttention(nn.Module):
    """Attention between frames as Einstein sums."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x.movedim(1, -1)).chunk(3, -1)
        weights = torch.einsum("nthwc,nshwc->nhwts", query, key).softmax(-1)
        return x + torch.einsum("nhwts,nshwc->ncthw", weights, value)


class SoftTime(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.softmax(2)


MIXERS: dict[str, Callable[[], nn.Module]] = {
    "non-local": NonLocal,
    "attention of frames": FrameAttention,
    "attention of frames as sums": SummedAttention,
    "softmax over time": SoftTime,
    "group norm": lambda: nn.GroupNorm(2, 4, eps=1e-3),
    "instance norm": lambda: nn.InstanceNorm3d(4, affine=True),
    "layer norm": lambda: nn.LayerNorm((8, 6, 6)),
    "norm of the clip": lambda: nn.BatchNorm3d(4, track_running_stats=False),
}


class Mixing(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, 1, 1)
        self.mixer = MIXERS[name]()
        self.after = nn.Conv3d(4, 2, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.mixer(self.conv(x)))

    def under(self, policy: str, video: Tensor) -> Tensor:
        """The mixer on each stream's own clips, each for its last element."""
        return self.after(torch.cat([self._row(policy, row) for row in self.conv(video).split(1)]))

    def _row(self, policy: str, y: Tensor) -> Tensor:
        elements = []
        for n in range(y.shape[2]):
            places = [n] * 8 if policy == "frame" else [max(0, place) for place in range(n - 7, n + 1)]
            elements.append(self.mixer(y[:, :, places])[:, :, -1:])
        return torch.cat(elements, 2)


def mixing(name: str) -> Mixing:
    torch.manual_seed(0)
    model = Mixing(name)
    make_alive(nn.Sequential(model.conv, nn.ReLU()), wandering_video(CLIP))
    return model.eval()


@pytest.mark.parametrize("policy", ["frame", "window"])
@pytest.mark.parametrize("name", MIXERS)
def test_a_mixture_is_made_from_a_frame_or_from_the_last_frames(name: str, policy: Any, tmp_path: Path) -> None:
    model = mixing(name)
    video = wandering_video((2, 3, FRAMES, 6, 6), seed=3)
    network = co3d_compile.compile(model, CLIP, policy={"mixer": policy})
    with torch.no_grad():
        wanted = model.under(policy, video)
    stream = network.stream(2)
    came = [stream.push(frame) for frame in video.unbind(2)] + stream.flush()

    (output,) = network.report.outputs
    assert len(output.approximations) == 1
    assert output.approximations[0].path.startswith("mixer")
    assert output.approximations[0].reason.endswith(
        {"frame": "made from each frame instead", "window": "made from the last 8 elements instead"}[policy]
    )
    assert output.delay == 2
    torch.testing.assert_close(torch.cat([one for one in came if one is not None], 2), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network.forward(video), wanted, atol=1e-4, rtol=1e-4)
    network.save(tmp_path / "net.pt")
    assert torch.equal(co3d_compile.load(tmp_path / "net.pt").forward(video), network.forward(video))


@pytest.mark.parametrize("policy", ["frame", "window"])
@pytest.mark.parametrize("name", ["non-local", "group norm", "attention of frames"])
def test_verify_makes_the_originals_mixtures_alike(name: str, policy: Any) -> None:
    model = mixing(name)
    network = co3d_compile.compile(model, CLIP, policy={"mixer": policy})

    right = network.verify(model)
    with torch.no_grad():
        network.weights.find("after.weight").mul_(1.01)
    wrong = network.verify(model)

    assert right.passed, str(right)
    assert "made under the same policy" in right.outputs[0].against
    assert not wrong.passed


def test_another_policy_is_not_taken_for_the_same() -> None:
    model = mixing("non-local")
    frame, window = (co3d_compile.compile(model, CLIP, policy={"mixer": one}) for one in ("frame", "window"))
    video = wandering_video((1, 3, FRAMES, 6, 6), seed=3)

    assert (frame.forward(video) - window.forward(video)).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["non-local", "softmax over time"])
def test_attention_without_a_policy_is_exact_on_windows(name: str) -> None:
    model = mixing(name)

    network = check_law(
        model,
        CLIP,
        reference=lambda video: windows_of(lambda y: model.after(model.mixer(y)), 8)(model.conv(video)),
        stacked=True,
        alive=False,
    )

    assert network.report.exact


def test_a_norm_without_a_policy_is_made_from_each_frame() -> None:
    report = co3d_compile.compile(mixing("group norm"), CLIP).report

    assert [entry.reason for entry in report.outputs[0].approximations] == [
        "a mixture of the whole clip's frames, made from each frame instead"
    ]


@pytest.mark.parametrize("name", ["group norm", "instance norm"])
def test_exact_is_a_policy_too(name: str) -> None:
    model = mixing(name)

    network = check_law(
        model,
        CLIP,
        reference=lambda video: windows_of(lambda y: model.after(model.mixer(y)), 8)(model.conv(video)),
        stacked=True,
        alive=False,
        policy={"mixer": "exact"},
    )

    assert network.report.last_resorts[0].path == "mixer"


COMPARED: dict[str, Callable[[Tensor], Tensor]] = {
    "centred": lambda y: y - y.mean(2, keepdim=True),
    "centred, the other way round": lambda y: torch.rsub(y, y.mean(2).unsqueeze(2)),
    "of its largest": lambda y: y / (y.amax(2, keepdim=True) + 9.0),
    "of its deviation": lambda y: y / (y.std(2, keepdim=True) + 0.1),
    "of its sum": lambda y: y.exp() / y.exp().sum(2, keepdim=True),
    "normed by hand": lambda y: (y - y.mean(2, True)) * (y.var(2, keepdim=True, correction=0) + 0.1).rsqrt(),
    "of its length": lambda y: y / y.norm(dim=2, keepdim=True),
    "instances of points": lambda y: (
        F.instance_norm(y.flatten(3).movedim(3, 1).flatten(0, 1))
        .view(-1, 36, 4, y.shape[2])
        .movedim(1, 3)
        .reshape(y.shape)
    ),
}


class Compared(nn.Module):
    """Elements set against a statistic of time alone."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, 1, 1)
        self.after = nn.Conv3d(4, 2, 3, 1, 1)
        self.compared = COMPARED[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.compared(self.conv(x)))


@pytest.mark.parametrize("name", COMPARED)
def test_a_statistic_of_time_alone_is_made_from_the_last_frames(name: str) -> None:
    """Of one frame nothing would be left: every video would give the same."""
    model = Compared(name)
    network = co3d_compile.compile(model, CLIP)
    video = wandering_video((1, 3, FRAMES, 6, 6), seed=3)
    with torch.no_grad():
        windows = model.conv(video).unfold(2, 8, 1).movedim(-1, 2).unbind(3)
        wanted = torch.cat([model.compared(window)[:, :, -1:] for window in windows], 2)
        made = network.forward(video)

    assert {one.reason.rpartition(", ")[2] for one in network.report.outputs[0].approximations} == {
        "made from the last 8 elements instead"
    }
    assert made.isfinite().all()
    # the first window is whole at element 7; the last convolution reads it from element 8 on
    torch.testing.assert_close(made[:, :, 8:-1], model.after(wanted)[:, :, 1:-1], atol=1e-4, rtol=1e-4)
    assert network.verify(model).passed


@pytest.mark.parametrize("name", ["centred", "instances of points"])
def test_one_frame_has_no_statistic_of_time_alone(name: str) -> None:
    with pytest.raises(
        InputError, match=r"the policy 'frame' has no meaning for it\n  try: one of window, cumulative, exact"
    ):
        co3d_compile.compile(Compared(name), CLIP, policy={"*": "frame"})


def test_a_gate_of_time_alone_that_weighs_is_made_from_each_frame() -> None:
    model = nn.Sequential(nn.Conv3d(3, 4, 1), Weighed()).eval()

    network = co3d_compile.compile(model, CLIP)

    video = wandering_video((1, 3, FRAMES, 6, 6), seed=3)
    with torch.no_grad():
        y = model[0](video)
        torch.testing.assert_close(network.forward(video), y * y.sigmoid())


class Weighed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean(2, keepdim=True).sigmoid()


def test_a_gate_can_be_exact() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 4, 3, 1, 1)
            self.after = nn.Conv3d(4, 2, 1)

        def tail(self, y: Tensor) -> Tensor:
            return self.after(y * y.mean((2, 3, 4), keepdim=True))

        def forward(self, x: Tensor) -> Tensor:
            return self.tail(self.conv(x))

    model = Gated()

    network = check_law(
        model,
        CLIP,
        reference=lambda video: windows_of(model.tail, 8)(model.conv(video)),
        stacked=True,
        policy={"*": "exact"},
    )

    assert (
        "needs a statistic of the whole clip, and is to be exact" in network.report.last_resorts[0].refusals[0].reason
    )


def test_strict_refuses_a_mixture_under_a_policy() -> None:
    with pytest.raises(ApproximationError, match="mixer: a mixture of the whole clip's frames, made from each frame"):
        co3d_compile.compile(mixing("group norm"), CLIP, strict=True)


def test_a_pattern_for_nothing_lists_what_there_is() -> None:
    with pytest.raises(InputError) as refused:
        co3d_compile.compile(mixing("non-local"), CLIP, policy={"after": "frame"})

    assert str(refused.value) == (
        "policy 'after' matches nothing that takes a whole clip\n  try: a pattern for one of: mixer"
    )


def test_two_mixtures_in_a_row_have_policies_of_their_own() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 4, 3, 1, 1)
            self.first = NonLocal()
            self.second = nn.GroupNorm(2, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(self.conv(x)))

    network = co3d_compile.compile(Twice().eval(), CLIP, policy={"first": "window", "second": "frame"})

    reasons = {entry.path: entry.reason.partition(", made ")[2] for entry in network.report.outputs[0].approximations}
    assert reasons == {"first": "from the last 8 elements instead", "second": "from each frame instead"}
    assert network.report.totals.gates == 2


def test_what_a_policy_changes_is_measured_on_a_clip() -> None:
    model = mixing("non-local")
    network = co3d_compile.compile(model, CLIP, policy={"mixer": "window"})
    video = wandering_video_of(network)
    with torch.no_grad():
        wanted, made = model(video), model.under("window", video)
    apart = [((made - wanted)[:, :, n].norm() / wanted[:, :, n].norm()).item() for n in range(8)]

    (before,) = network.report.outputs
    (deviation,) = network.deviation(model)
    (after,) = network.report.outputs

    assert before.deviation is None
    assert after.deviation == deviation
    assert deviation.largest == pytest.approx(max(apart), rel=1e-3)
    assert deviation.median == pytest.approx(median(apart), rel=1e-3)
    assert Report.from_dict(json.loads(json.dumps(network.report.to_dict()))) == network.report


def wandering_video_of(network: Network) -> Tensor:
    return verification_video(network.plan, 8, 0, torch.device("cpu"))[0]


def test_an_exact_network_does_not_deviate() -> None:
    model = mixing("non-local")

    (deviation,) = co3d_compile.compile(model, CLIP).deviation(model)

    assert deviation.largest < 1e-5


@pytest.mark.parametrize("policy", ["frame", "window", "cumulative"])
def test_verify_follows_gates_through_several_results(policy: Any) -> None:
    """A maximum comes with its places, a half of the channels with the other."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 4, 3, 1, 1)
            self.after = nn.Conv3d(2, 2, 3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            kept, gating = self.conv(x).chunk(2, 1)
            return self.after(kept * gating.max(2, keepdim=True).values.sigmoid())

    model = Halves().eval()
    network = co3d_compile.compile(model, CLIP, policy={"*": policy})

    right = network.verify(model)
    with torch.no_grad():
        network.weights.find("conv.weight").mul_(1.1)
    wrong = network.verify(model)

    assert right.passed, str(right)
    assert not wrong.passed


@pytest.mark.parametrize("policy", ["frame", "window", "cumulative"])
def test_verify_follows_a_gate_into_a_sum(policy: Any) -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            rows, columns = y.mean((2, 4)), y.mean((2, 3))
            return torch.einsum("nchw,ncthv->nctwv", (rows.unsqueeze(3) - columns.unsqueeze(2)).tanh(), y)

    model = Summed().eval()
    network = co3d_compile.compile(model, CLIP, policy={"*": policy})

    assert network.verify(model).passed
    video = wandering_video((2, 3, FRAMES, 6, 6), seed=3)
    torch.testing.assert_close(network.forward(video)[1:], network.forward(video[1:]))

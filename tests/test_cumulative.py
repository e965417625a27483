"""Gates and norms made from everything since the start of the video, against running statistics written out here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import co3d_compile
from co3d_compile.cli.values import policy
from co3d_compile.errors import ApproximationError, InputError, UnsupportedError
from co3d_compile.network import Network
from co3d_compile.ops.running import UPDATES
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.law import axes_of, check_ticks, check_video

CLIP = (1, 3, 8, 6, 6)
WIDTH = 8

Statistic = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def counts(x: Tensor) -> Tensor:
    return torch.arange(1, x.shape[2] + 1, dtype=x.dtype).view(1, 1, -1, 1, 1)


def running_mean(x: Tensor) -> Tensor:
    """(N, C, T, 1, 1): over space and all elements so far."""
    return x.mean((3, 4), keepdim=True).cumsum(2) / counts(x)


def running_variance(x: Tensor, correction: int = 1) -> Tensor:
    """As of a clip of the example's length."""
    spread = running_mean(x.square()) - running_mean(x).square()
    count = WIDTH * x.shape[3] * x.shape[4]
    return spread * count / (count - correction)


def running_logsumexp(x: Tensor) -> Tensor:
    return running_mean(x.double().exp()).log().to(x.dtype) + torch.tensor(float(WIDTH * x.shape[3] * x.shape[4])).log()


def running_max(x: Tensor) -> Tensor:
    return x.amax((3, 4), keepdim=True).cummax(2).values


ALL = (2, 3, 4)
STATISTICS: dict[str, tuple[Statistic, Statistic]] = {
    "mean": (lambda x: x.mean(ALL, keepdim=True), running_mean),
    "mean, dropped": (lambda x: x.mean(ALL)[:, :, None, None, None], running_mean),
    "sum": (lambda x: x.sum(ALL, keepdim=True) / 99, lambda x: running_mean(x) * (WIDTH * 36) / 99),
    "largest": (lambda x: x.amax(ALL, keepdim=True), running_max),
    "smallest": (lambda x: x.amin(ALL, keepdim=True), lambda x: -running_max(-x)),
    "largest along time": (lambda x: x.max(2, keepdim=True).values, lambda x: x.cummax(2).values),
    "smallest of all": (lambda x: x.min(), lambda x: x.amin((1, 3, 4), keepdim=True).cummin(2).values),
    "adaptive mean": (lambda x: F.adaptive_avg_pool3d(x, 1), running_mean),
    "adaptive maximum": (lambda x: F.adaptive_max_pool3d(x, 1), running_max),
    "average pool": (lambda x: F.avg_pool3d(x, (WIDTH, 6, 6)), running_mean),
    "maximum pool": (lambda x: F.max_pool3d(x, (WIDTH, 6, 6)), running_max),
    "variance": (lambda x: x.var(ALL, keepdim=True), running_variance),
    "variance, dropped": (lambda x: x.var(ALL, correction=0)[..., None, None, None], lambda x: running_variance(x, 0)),
    "variance along time": (
        lambda x: x.var(2, keepdim=True),
        lambda x: ((x.square().cumsum(2) / counts(x)) - (x.cumsum(2) / counts(x)).square()) * WIDTH / (WIDTH - 1),
    ),
    "deviation": (lambda x: x.std(ALL, keepdim=True), lambda x: running_variance(x).sqrt()),
    "logsumexp": (lambda x: x.logsumexp(ALL, keepdim=True), running_logsumexp),
}
ONE_STREAM = ("smallest of all",)


class Gated(nn.Module):
    """A convolution, and a gate on what it gives."""

    def __init__(self, statistic: Statistic) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, 1, 1)
        self.squeeze = nn.Conv3d(4, 4, 1)
        self.after = nn.Conv3d(4, 2, (3, 1, 1), padding=(1, 0, 0))
        self.statistic = statistic

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.after(y * self.gate(self.statistic(y)))

    def gate(self, statistic: Tensor) -> Tensor:
        return torch.sigmoid(self.squeeze(statistic) if statistic.dim() and statistic.shape[1] == 4 else statistic)


def check(network: Network, reference: nn.Module, streams: int = 2) -> None:
    """Stream, whole video and chunks give what the reference gives, and each element comes as soon as it can."""
    video = wandering_video((streams, 3, 13, 6, 6), seed=3)
    axes = axes_of(reference, wandering_video(CLIP))
    longest = check_video(network, reference, video, axes)
    check_ticks(reference, video, longest.ticks, axes)
    check_video(network, reference, video[:, :, :8], axes)


def gated(name: str) -> tuple[Gated, Gated]:
    """The model, and the same weights with the statistic written out for whole videos."""
    model, reference = (Gated(statistic) for statistic in STATISTICS[name])
    make_alive(nn.Sequential(model.conv, nn.ReLU()), wandering_video(CLIP))
    reference.load_state_dict(model.state_dict())
    return model.eval(), reference.eval()


@pytest.mark.parametrize("name", STATISTICS)
def test_a_cumulative_gate_is_made_from_everything_so_far(name: str) -> None:
    model, reference = gated(name)

    network = co3d_compile.compile(model, CLIP, policy={"*": "cumulative"})

    check(network, reference, streams=1 if name in ONE_STREAM else 2)

    (output,) = network.report.outputs
    assert output.delay == 2
    assert [entry.reason for entry in output.approximations] == [
        "a gate on the whole clip, made from all elements since the start instead"
    ]
    assert output.carried
    right = network.verify(model)
    assert right.passed, str(right)


class LayerNorm(nn.Module):
    """Of channels and time, at each place."""

    def forward(self, x: Tensor) -> Tensor:
        places = x.permute(0, 3, 4, 1, 2)
        return F.layer_norm(places, places.shape[-2:]).permute(0, 3, 4, 1, 2)


NORMS: dict[str, Callable[[], nn.Module]] = {
    "group norm": lambda: nn.GroupNorm(2, 4, eps=1e-3),
    "instance norm": lambda: nn.InstanceNorm3d(4, affine=True),
    "layer norm": LayerNorm,
    "norm of the clip": lambda: nn.BatchNorm3d(4, track_running_stats=False),
}


class Normed(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, 1, 1)
        self.norm = NORMS[name]()
        self.after = nn.Conv3d(4, 2, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.norm(self.conv(x)))


class NormedSoFar(Normed):
    """For whole videos."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.after(torch.cat([self.norm(y[:, :, : n + 1])[:, :, -1:] for n in range(y.shape[2])], 2))


@pytest.mark.parametrize("name", NORMS)
def test_a_cumulative_norm_has_the_statistics_of_everything_so_far(name: str) -> None:
    model, reference = Normed(name), NormedSoFar(name)
    make_alive(nn.Sequential(model.conv, nn.ReLU()), wandering_video(CLIP))
    reference.load_state_dict(model.state_dict())

    network = co3d_compile.compile(model.eval(), CLIP, policy={"norm": "cumulative"})

    check(network, reference.eval(), streams=1 if name == "norm of the clip" else 2)
    (output,) = network.report.outputs
    assert output.delay == 2
    assert [entry.reason for entry in output.approximations] == [
        "a mixture of the whole clip's frames, made from all elements since the start instead"
    ]
    assert output.carried
    right = network.verify(model)
    assert right.passed, str(right)


@pytest.mark.parametrize("name", ["mean", "variance"])
def test_verify_finds_wrong_weights_behind_a_cumulative_gate(name: str) -> None:
    model, _ = gated(name)
    network = co3d_compile.compile(model, CLIP, policy={"*": "cumulative"})
    with torch.no_grad():
        network.weights.find("squeeze.weight").mul_(1.1)

    wrong = network.verify(model)

    assert not wrong.passed
    assert "made under the same policy" in wrong.outputs[0].against


def test_two_gates_in_a_row_are_carried_on_one_by_one() -> None:
    class Twice(Gated):
        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            y = y * self.gate(self.statistic(y))
            return self.after(y * self.gate(self.statistic(y.relu())))

    model, reference = (Twice(statistic) for statistic in STATISTICS["mean"])
    reference.load_state_dict(model.state_dict())

    network = co3d_compile.compile(model.eval(), CLIP, policy={"*": "cumulative"})

    check(network, reference.eval())
    right = network.verify(model)
    assert right.passed, str(right)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_cumulative_gate_runs_in_other_dtypes(dtype: torch.dtype) -> None:
    model, reference = gated("deviation")
    network = co3d_compile.compile(model, CLIP, policy={"*": "cumulative"})
    video = wandering_video((1, 3, 13, 6, 6), seed=3)
    with torch.no_grad():
        wanted = reference(video)

    made = network.to(dtype).forward(video.to(dtype))

    assert made.dtype is dtype
    assert ((made.float() - wanted).norm() / wanted.norm()).item() < 2e-2


def test_a_mean_of_all_is_that_of_the_last_until_these_are_no_longer_all() -> None:
    model, _ = gated("mean")
    cumulative, window = (co3d_compile.compile(model, CLIP, policy={"*": one}) for one in ("cumulative", "window"))
    video = wandering_video((1, 3, 13, 6, 6), seed=3)

    made, other = cumulative.forward(video), window.forward(video)

    torch.testing.assert_close(made[:, :, :7], other[:, :, :7])
    assert (made[:, :, 9:] - other[:, :, 9:]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["mean", "logsumexp", "largest along time"])
def test_what_is_carried_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    model, _ = gated(name)
    network = co3d_compile.compile(model, CLIP, policy={"*": "cumulative"})
    video = wandering_video((2, 3, 13, 6, 6), seed=3)

    network.save(tmp_path / "net.pt")

    assert torch.equal(co3d_compile.load(tmp_path / "net.pt").forward(video), network.forward(video))


def test_after_a_reset_nothing_is_carried_on() -> None:
    model, _ = gated("variance")
    network = co3d_compile.compile(model, CLIP, policy={"*": "cumulative"})
    stream = network.stream()
    frames = wandering_video((1, 3, 9, 6, 6), seed=3).unbind(2)

    first = [stream.push(frame) for frame in frames]
    stream.reset()
    second = [stream.push(frame) for frame in frames]

    pairs = [(one, other) for one, other in zip(first, second, strict=True) if one is not None and other is not None]
    assert len(pairs) == 7
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_dense_rate_carries_every_phase_on_by_itself() -> None:
    class Strided(Gated):
        def __init__(self, statistic: Statistic) -> None:
            super().__init__(statistic)
            self.conv = nn.Conv3d(3, 4, 3, (2, 1, 1), (0, 1, 1))

    model, reference = Strided(STATISTICS["mean"][0]), Strided(running_mean)
    make_alive(nn.Sequential(model.conv, nn.ReLU()), wandering_video(CLIP))
    reference.load_state_dict(model.state_dict())
    network = co3d_compile.compile(model.eval(), (1, 3, 9, 6, 6), rate="dense", policy={"*": "cumulative"})
    video = wandering_video((1, 3, 16, 6, 6), seed=3)

    made = network.forward(video)

    with torch.no_grad():
        wanted = [reference.eval()(video[:, :, phase:]) for phase in range(2)]
    for phase in range(2):
        torch.testing.assert_close(made[:, :, phase::2], wanted[phase])
    right = network.verify(model)
    assert right.passed, str(right)


def test_a_long_stream_stays_in_range() -> None:
    """Scaled sums, and means that do not lose what comes late: 4000 elements of half precision."""
    values = torch.linspace(-2, 6, 4000, dtype=torch.float64)
    for name, wanted in (
        ("mean", values.mean()),
        ("logmeanexp", values.exp().mean().log()),
        ("amax", values.amax()),
        ("amin", values.amin()),
    ):
        carried: list[Tensor | None] = [None] * 3
        for value in values.half():
            made = UPDATES[name]({"self": value.reshape(1)}, carried)
            carried = list(made[1:] if len(made) > 1 else made)
        assert made[0].dtype is torch.float16
        torch.testing.assert_close(made[0].double()[0], wanted, atol=4e-3, rtol=0)


def test_a_variance_far_from_zero_does_not_cancel() -> None:
    values = 1e4 + torch.randn(2000, dtype=torch.float64)
    carried: list[Tensor | None] = [None] * 3
    for value in values.float():
        made = UPDATES["var"]({"self": torch.zeros(1), "frames": value.reshape(1), "correction": 2000 / 1999}, carried)
        carried = list(made[1:])

    torch.testing.assert_close(made[0].double()[0], values.var(), atol=0, rtol=1e-2)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "median": (
        lambda x: x.median(2, keepdim=True).values,
        "it cannot be carried on: median of a video does not follow from that of its frames",
    ),
    "places": (
        lambda x: x.max(2, keepdim=True).indices.float() + x.max(2, keepdim=True).values,
        "it cannot be carried on: the places of the extrema are those in a clip",
    ),
    "whole numbers": (
        lambda x: (x > 0).long().sum(ALL, keepdim=True).float(),
        "it cannot be carried on: a mean over the video of torch.int64 is rounded",
    ),
    "folded": (
        lambda x: x.flatten(1, 2).var(1)[:, None, None],
        "it cannot be carried on: time is folded with other axes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_carried_on_is_refused(name: str) -> None:
    statistic, reason = REFUSED[name]

    with pytest.raises(UnsupportedError) as refused:
        co3d_compile.compile(Gated(statistic), CLIP, policy={"*": "cumulative"})

    assert reason in str(refused.value)
    assert "try: " in str(refused.value)


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        frames = x.permute(0, 3, 4, 2, 1)
        return F.scaled_dot_product_attention(frames, frames, frames).permute(0, 4, 3, 1, 2)


class SoftTime(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.softmax(2)


UNBOUNDED = "it cannot be carried on: every element meets all those before it, without end"


@pytest.mark.parametrize(
    ("mixer", "reason"),
    [
        (Attention(), UNBOUNDED),
        (SoftTime(), UNBOUNDED),
        (nn.LayerNorm((8, 6, 6)), "it cannot be carried on: it has weights of their own for every frame of a clip"),
        (nn.RMSNorm((8, 6, 6), elementwise_affine=False), "it cannot be carried on: there is no cumulative rms_norm"),
    ],
    ids=["attention", "softmax", "layer norm with weights", "rms norm"],
)
def test_a_mixture_that_cannot_be_carried_on_is_refused(mixer: nn.Module, reason: str) -> None:
    model = nn.Sequential(nn.Conv3d(3, 4, 1), mixer)

    with pytest.raises(UnsupportedError) as refused:
        co3d_compile.compile(model, CLIP, policy={"1": "cumulative"})

    assert reason in str(refused.value)
    assert 'try: policy "frame", "window" or "exact"' in str(refused.value)


def test_the_statistics_of_a_batch_are_refused() -> None:
    model = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4, track_running_stats=False))

    with pytest.raises(UnsupportedError, match="its statistics are of all streams together"):
        co3d_compile.compile(model.eval(), (2, *CLIP[1:]), policy={"1": "cumulative"})


def test_strict_refuses_a_cumulative_gate() -> None:
    model, _ = gated("mean")

    with pytest.raises(ApproximationError, match="made from all elements since the start instead"):
        co3d_compile.compile(model, CLIP, policy={"*": "cumulative"}, strict=True)


@pytest.mark.parametrize("start", ["valid", "replicate"])
def test_what_is_carried_on_needs_the_start_of_the_video(start: Any) -> None:
    model, _ = gated("mean")

    with pytest.raises(InputError, match="what is carried on from the start stays"):
        co3d_compile.compile(model, CLIP, policy={"*": "cumulative"}, start=start)


def test_what_a_cumulative_gate_changes_is_measured() -> None:
    model, _ = gated("mean")
    network = co3d_compile.compile(model, CLIP, policy={"*": "cumulative"})

    (deviation,) = network.deviation(model)

    assert 0 < deviation.median <= deviation.largest


def test_the_command_line_knows_the_policy() -> None:
    assert policy("blocks.*.se=cumulative") == ("blocks.*.se", "cumulative")


def test_a_cumulative_gate_keeps_no_frames() -> None:
    """A mean and a count of four channels, beside what a gate from each frame keeps."""
    model, _ = gated("mean, dropped")
    frame, cumulative = (co3d_compile.compile(model, CLIP, policy={"*": one}).report for one in ("frame", "cumulative"))

    assert cumulative.totals.state_elements - frame.totals.state_elements == 2 * 4

"""Formulas in window, batch, height and width, evaluated, are the numbers of a compilation at those values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import InputError
from co3d_compile.network import Network
from co3d_compile.report.data import Report
from examples.networks.catalogue import EXAMPLES
from tests.functions import Function
from tests.layers import RandomNetwork
from tests.networks import networks
from tests.recurrent_networks import ConvLSTM, Neighbours
from tests.small_models import residual
from tests.test_random_networks import drawn, runs
from tests.test_upward import UNet
from tests.zoo_models import ZOO

EVERY_RUN = 6
WINDOW = 5


def numbers(report: Report) -> dict[str, Any]:
    """What a compilation says."""
    totals = report.totals
    return {
        "clip": totals.clip_macs,
        "frame": pytest.approx(totals.macs_per_frame),
        "state": totals.state_bytes,
        "outputs": [(output.delay, output.receptive_field, output.steady_tick) for output in report.outputs],
    }


def evaluated(report: Report, window: int, height: int, width: int) -> dict[str, Any]:
    """What the formulas of another compilation give."""
    turned = {"W": window, "B": 1, "H": height, "X": width}
    times = [output.formulas for output in report.outputs]
    return {
        "clip": int(report.clip_macs.subs(turned)),
        "frame": float(report.macs_per_frame.subs(turned)),
        "state": int(report.state_bytes.subs(turned)),
        "outputs": [
            tuple(int(time.subs(turned)) for time in (one.delay, one.receptive_field, one.steady_tick)) for one in times
        ],
    }


def hold(report: Report, compiled: Callable[[int, int], Report], sizes: list[tuple[int, int]]) -> None:
    """At each of these sizes another compilation, with a window of ``WINDOW``, has the numbers of the formulas."""
    wanted = {size: numbers(compiled(*size)) for size in sizes}

    assert report.frame.checked, report.frame
    assert {size: evaluated(report, WINDOW, *size) for size in sizes} == wanted


class Attention(nn.Module):
    """Pixel against pixel in every frame; sizes are read from the tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv3d(2, 4, 3, stride=(1, 2, 2), padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, h, w = (y := self.front(x)).shape
        pixels = y.transpose(1, 2).reshape(n * t, c, h * w)
        mixed = (pixels.mT @ pixels).softmax(-1) @ pixels.mT
        return mixed.mT.reshape(n, t, c, h, w).transpose(1, 2)


class Spread(nn.Module):
    """A path of half the size, stretched to that of the other one."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv3d(2, 3, 3, padding=1)
        self.coarse = nn.Conv3d(2, 3, 3, stride=(1, 2, 2), padding=1)
        self.last = nn.Conv3d(6, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine, coarse = self.fine(x), self.coarse(x)
        frames = coarse.transpose(1, 2).flatten(0, 1)
        large = F.interpolate(frames, size=fine.shape[3:]).unflatten(0, (len(x), -1)).transpose(1, 2)
        return self.last(torch.cat((fine, large), 1))


class Pooled(nn.Module):
    """Pools that are as large as the frame is, whatever it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, 3, stride=(1, 3, 2), padding=(1, 1, 1))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        frames = F.avg_pool3d(y, (1, *y.shape[3:]))
        return self.head(frames.mean(2).flatten(1))


SMALL: dict[str, Callable[[], nn.Module]] = {
    "residual": residual,
    "u-net": lambda: UNet("trilinear"),
    "attention": Attention,
    "stretched": Spread,
    "pooled": Pooled,
    "strides and ceils": lambda: nn.Sequential(
        nn.Conv3d(2, 3, (3, 5, 4), stride=(2, 3, 2), padding=(1, 2, 0)),
        nn.MaxPool3d((1, 3, 2), stride=(1, 2, 2), ceil_mode=True),
        nn.ConvTranspose3d(3, 2, (1, 3, 2), stride=(1, 2, 2)),
        nn.Conv3d(2, 2, 3, padding=1),
    ),
    "boxes": lambda: nn.Sequential(
        nn.Conv3d(2, 3, 3, padding=1), nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten(), nn.Linear(12, 3)
    ),
    "over lines": lambda: nn.Sequential(
        Function(
            lambda x, conv: (
                conv(x.permute(0, 3, 4, 1, 2).flatten(0, 2)).unflatten(0, (len(x), *x.shape[3:])).permute(0, 3, 4, 1, 2)
            ),
            conv=nn.Conv1d(2, 3, 3, padding=1),
        ),
        nn.Conv3d(3, 2, (3, 2, 2)),
    ),
    "a loop over frames": ConvLSTM,
    "a loop that keeps features": Neighbours,
    "frames first": lambda: Function(
        lambda x, conv: conv(x.transpose(1, 2)), conv=nn.Conv3d(2, 3, 3, stride=(1, 2, 2))
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_formulas_give_what_other_compilations_say(name: str) -> None:
    torch.manual_seed(0)
    model = SMALL[name]()
    sizes = [(16, 24), (12, 8)] if name == "u-net" else [(13, 10), (17, 24)]

    def compiled(height: int, width: int, window: int | None = None) -> Report:
        clip = (1, 8, 2, height, width) if name == "frames first" else (1, 2, 8, height, width)
        return co3d_compile.compile(model, clip, window=window, time_axis=1 if name == "frames first" else 2).report

    hold(compiled(12, 12), lambda *size: compiled(*size, WINDOW), sizes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet", "tsm", "encoder_decoder", "cnn_lstm", "lip_reading"])
def test_formulas_of_published_networks(name: str) -> None:
    example = EXAMPLES[name]
    model = example.build(small=True)
    side = example.clip(small=True)[-1]

    def compiled(height: int, width: int, window: int | None = None) -> Report:
        clip = (*example.clip(small=True)[:-2], height, width)
        return co3d_compile.compile(model, clip, window=window, **example.options).report

    other = (side + 16, side + 32) if name == "encoder_decoder" else (side + 7, side + 18)
    hold(compiled(side, side), lambda *size: compiled(*size, WINDOW), [other])


@pytest.mark.slow
def test_formulas_of_x3d() -> None:
    with torch.device("meta"):
        model = ZOO["x3d_s"].build()

    def compiled(height: int, width: int, window: int | None = None) -> Report:
        clip = torch.empty((1, 3, 13, height, width), device="meta")
        return co3d_compile.compile(model, clip, window=window).report

    report = compiled(160, 160)

    hold(report, lambda *size: compiled(*size, WINDOW), [(193, 171)])
    assert report.frame.least == (129, 129)


@pytest.mark.slow
@drawn(EVERY_RUN)
@given(networks())
def test_formulas_of_random_networks(network: RandomNetwork) -> None:
    trunk, clip = network.trunk(), torch.zeros(network.clip)
    other = torch.zeros((*clip.shape[:3], clip.shape[3] + 3, clip.shape[4] + 6))
    assume(runs(trunk, clip) and runs(trunk, other))
    report = co3d_compile.compile(trunk, clip, time_axis=2).report
    assume(report.frame.least is not None)
    wanted = co3d_compile.compile(trunk, other, time_axis=2).report

    assert evaluated(report, 1, *other.shape[3:]) == numbers(wanted)


def test_the_batch_turns_the_state_that_is_really_kept() -> None:
    network = co3d_compile.compile(residual(), (1, 2, 6, 6, 6))
    state = network.initial_state(3)
    for _ in range(network.plan.steady_tick + network.plan.period):
        _, state = network.step(torch.randn(3, 2, 6, 6), state)

    report = network.report
    formula = report.state_bytes.subs(W=3, H=6, X=6)

    assert formula.names == {"B"}
    assert int(formula.subs(B=3)) == 3 * report.totals.state_bytes == state.bytes


def test_a_compiled_file_has_the_same_formulas(tmp_path: Path) -> None:
    network = co3d_compile.compile(residual(), (1, 2, 6, 6, 6))
    network.save(tmp_path / "cont.pt")

    loaded = co3d_compile.load(tmp_path / "cont.pt")

    assert loaded.report == network.report
    assert loaded.report.state_bytes.names == {"W", "B", "H", "X"}
    assert Report.from_dict(network.report.to_dict()) == network.report


FIXED: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "flattened": (
        lambda: nn.Sequential(nn.Conv3d(2, 2, 3), nn.Flatten(), nn.Linear(2 * 6 * 6 * 6, 3)),
        "2",
        "must have same reduction dim",
    ),
    "by place": (
        lambda: Function(lambda x: F.conv3d(x, torch.ones(2, 2, 3, 1, 1)) * torch.arange(8.0)),
        "",
        "broadcast",
    ),
    "as the size asks for": (
        lambda: Function(lambda x, conv: conv(F.pad(x, (x.shape[4] % 3, 0))), conv=nn.Conv3d(2, 2, 3)),
        "",
        "the original's cost follows from the frame's size in another way",
    ),
}


@pytest.mark.parametrize("name", FIXED)
def test_a_network_that_fixes_its_frame_keeps_numbers_and_says_where(name: str) -> None:
    make, path, reason = FIXED[name]

    report = co3d_compile.compile(make(), (1, 2, 8, 8, 8)).report

    assert report.frame.size == (8, 8)
    assert report.frame.least is None
    assert not {"H", "X"} & report.state_bytes.names
    assert int(report.state_bytes.subs(W=1, B=1)) == report.totals.state_bytes
    assert report.frame.fixed_by.endswith(path)
    assert reason in report.frame.reason


def test_the_model_is_left_as_it_was() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 2, 3)
            self.seen: list[tuple[int, ...]] = []

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(tuple(x.shape))
            self.last = x
            return self.conv(x)

    model = Keeping().train()
    weights = dict(model.named_parameters())

    co3d_compile.compile(model, (1, 2, 8, 8, 8))

    assert {shape[3:] for shape in model.seen} == {(8, 8)}
    assert tuple(model.last.shape[3:]) == (8, 8)
    assert model.training
    assert all(weight is weights[name] for name, weight in model.named_parameters())


@cache
def small() -> Network:
    return co3d_compile.compile(residual(), (1, 2, 6, 6, 6))


def test_what_if_is_what_the_formulas_give() -> None:
    other = co3d_compile.compile(residual(), (1, 2, 6, 9, 12), window=WINDOW).report

    (found,) = small().what_if(windows=[WINDOW], sizes=[(9, 12)])

    assert (found.window, found.size, found.rate) == (WINDOW, (9, 12), "native")
    assert (found.clip_macs, found.state_bytes) == (other.totals.clip_macs, other.totals.state_bytes)
    assert found.macs_per_frame == pytest.approx(other.totals.macs_per_frame)
    assert found.outputs[0].delay == other.outputs[0].delay
    assert found.checked


def test_what_if_nothing_changes_is_the_report() -> None:
    (found,) = small().what_if()

    assert (found.window, found.size) == (3, (6, 6))
    assert found.state_bytes == small().report.totals.state_bytes


def test_what_if_refuses_a_size_that_leaves_nothing() -> None:
    network = co3d_compile.compile(nn.Conv3d(2, 2, (3, 5, 4)), (1, 2, 6, 8, 8))

    found = network.what_if(sizes=[(4, 8), (5, 4)])

    assert found[0].refusal == "frames of 5 x 4 are the smallest that leave something of every tensor"
    assert found[0].outputs == ()
    assert found[1].refusal == ""


def test_the_letters_of_a_formula_are_these_alone() -> None:
    with pytest.raises(InputError, match="try: one of W, B, H, X"):
        small().report.state_bytes.subs(S=3)

"""State held in a narrower dtype: half the bytes, named as approximate, measured, and never more than its rounding."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import co3d_compile
from co3d_compile.cli import compile as compile_command
from co3d_compile.cli import inspect as inspect_command
from co3d_compile.errors import ApproximationError, ArtifactError, InputError
from co3d_compile.network import Network
from co3d_compile.plan.encoding import decode_plan, encode_plan
from co3d_compile.plan.plan import Form
from co3d_compile.runtime.eager import engine
from co3d_compile.runtime.state import State, join_states
from co3d_compile.testing.alive import make_alive, wandering_video
from tests.small_models import residual as small_residual

CLIP = (1, 2, 12, 6, 6)
FRAMES = 41
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Every(nn.Module):
    """A residual block between strided pools, convolutions of both forms, and a head over the whole clip."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Sequential(nn.Conv3d(2, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU())
        self.pool = nn.MaxPool3d((3, 2, 2), stride=2, padding=(1, 0, 0))
        self.long = nn.Sequential(nn.Conv3d(6, 3, (5, 1, 1), padding=(2, 0, 0)), nn.BatchNorm3d(3))
        self.short = nn.Conv3d(6, 3, 1)
        self.mean = nn.AvgPool3d((3, 1, 1), (2, 1, 1), (1, 0, 0))
        self.head = nn.Linear(3, 5)

    def features(self, x: Tensor) -> Tensor:
        x = self.pool(self.widen(x))
        return self.mean(self.long(x) + self.short(x)).tanh()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.features(x)
        return y, self.head(y.mean((2, 3, 4)))


def every() -> nn.Module:
    torch.manual_seed(0)
    return make_alive(Every(), wandering_video(CLIP))


def convolution(channels: int, made: int) -> nn.Conv3d:
    """Of three taps over time, without padding."""
    torch.manual_seed(0)
    return nn.Conv3d(channels, made, (3, 1, 1)).eval()


def video(shape: tuple[int, ...] = CLIP, *, frames: int = FRAMES, seed: int = 5) -> Tensor:
    return wandering_video((*shape[:2], frames, *shape[3:]), seed=seed)


def stepped(net: Network, frames: Tensor, state: State) -> tuple[list[Any], State]:
    came = []
    for frame in frames.unbind(2):
        out, state = net.step(frame, state)
        came += [] if out is None else [out]
    return came, state


@cache
def compiled(state_dtype: str | None, **options: Any) -> Network:
    """For the tests that do not change it."""
    return co3d_compile.compile(every(), CLIP, state_dtype=state_dtype, **options)


@pytest.fixture
def net() -> Network:
    return compiled("bfloat16")


@pytest.fixture
def full() -> Network:
    return compiled(None)


def test_the_network_of_these_tests_has_every_kind_of_state(net: Network) -> None:
    transposed = {node.target.split(".")[1] for node in net.plan.nodes if node.form is Form.TRANSPOSED}

    assert transposed == {"max_pool3d", "conv3d", "avg_pool3d"}
    assert any(value.keep for value in net.plan.values.values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prefer", ["memory", "speed"])
def test_the_bytes_halve_exactly_and_are_those_of_the_report(dtype: str, prefer: Any) -> None:
    net, whole = compiled(dtype, prefer=prefer), compiled(None, prefer=prefer).report.totals
    _, state = stepped(net, video(), net.initial_state())
    totals = net.report.totals

    assert state.bytes == totals.state_bytes == whole.state_bytes // 2
    assert (totals.full_state_bytes, totals.state_elements) == (whole.state_bytes, whole.state_elements)
    assert (totals.state_dtype, whole.state_dtype) == (dtype, None)
    assert sum(layer.state_bytes for layer in net.report.layers) == totals.state_bytes
    assert totals.smallest_state_bytes * 2 == whole.smallest_state_bytes
    assert totals.earliest_state_bytes * 2 == whole.earliest_state_bytes
    assert {element.dtype for kept in state.histories.values() for element in kept if element is not None} == {
        DTYPES[dtype]
    }


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_kept_inputs_are_rounded_once_and_the_newest_is_not(dtype: torch.dtype) -> None:
    """The oracle: the three taps written out, on frames of which the older two are rounded."""
    model = convolution(2, 4)
    net = co3d_compile.compile(model, (1, 2, 6, 3, 3), state_dtype=dtype)
    frames = video((1, 2, 6, 3, 3), frames=9)
    came, _ = stepped(net, frames, net.initial_state())
    rounded = frames.to(dtype).float()
    taps = [model.weight[:, :, tap, None] for tap in range(3)]
    with torch.no_grad():
        parts = [F.conv3d(rounded[:, :, :7], taps[0]), F.conv3d(rounded[:, :, 1:8], taps[1])]
        wanted = parts[0] + parts[1] + F.conv3d(frames[:, :, 2:], taps[2], model.bias)

    assert net.plan.nodes[0].form is Form.DIRECT
    torch.testing.assert_close(torch.cat(came, 2), wanted)
    assert (torch.cat(came, 2) - model(frames)).abs().max() > 1e-4


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_partial_sums_are_rounded_at_every_tick_and_the_whole_is_not(dtype: torch.dtype) -> None:
    """The oracle: the sums written out. Elsewhere rounding may fall to the other side for a last digit."""
    model = convolution(6, 2)
    net = co3d_compile.compile(model, (1, 6, 6, 3, 3), state_dtype=dtype)
    frames = video((1, 6, 6, 3, 3), frames=9)
    came, _ = stepped(net, frames, net.initial_state())
    taps = [model.weight[:, :, tap, None] for tap in range(3)]
    with torch.no_grad():
        first = F.conv3d(frames[:, :, :7], taps[0]).to(dtype).float()
        second = (first + F.conv3d(frames[:, :, 1:8], taps[1])).to(dtype).float()
        wanted = second + F.conv3d(frames[:, :, 2:], taps[2], model.bias)

    assert net.plan.nodes[0].form is Form.TRANSPOSED
    off = (torch.cat(came, 2) - wanted).abs()
    assert off.median() < 1e-6
    assert off.max() <= torch.finfo(dtype).eps * second.abs().max()


@pytest.mark.parametrize("start", ["zeros", "valid", "replicate"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_law_holds_but_for_the_rounding(dtype: Any, start: Any) -> None:
    made = compiled(dtype, start=start).forward(video(), chunk=3)
    wanted = compiled(None, start=start).forward(video())

    for one, other in zip(made, wanted, strict=True):
        assert one.shape == other.shape
        # of numbers made alive; a wrong tick moves the answer by as much as frames differ
        moved = other.diff(dim=2 if other.dim() == 5 else 1).abs().max()
        assert 0 < (one - other).abs().max() < 4 * torch.finfo(DTYPES[dtype]).eps < 0.2 * moved


def test_within_a_chunk_nothing_is_rounded(net: Network, full: Network) -> None:
    """Rounded is what a later chunk reads: of one long chunk, whatever comes before the end is known."""
    made, state = net.advance(video(), net.initial_state(), chunk=100)
    wanted, _ = full.advance(video(), full.initial_state(), chunk=100)

    torch.testing.assert_close(made, wanted)
    assert state.bytes == net.report.totals.state_bytes


def test_single_steps_and_chunks_of_one_frame_give_the_same(net: Network) -> None:
    """Both ways to run round the same things at the same ticks; float32 orders sums in its own way."""
    came, state = stepped(net, video(), net.initial_state())
    made, other = net.advance(video(), net.initial_state(), chunk=1)

    torch.testing.assert_close(torch.cat([out[0] for out in came if out[0] is not None], 2), made[0], atol=2e-2, rtol=0)
    assert (torch.cat([out[0] for out in came if out[0] is not None], 2) - made[0]).abs().median() < 1e-3
    assert state.bytes == other.bytes


def test_steps_go_on_from_a_chunk_and_chunks_from_steps(net: Network, full: Network) -> None:
    (wanted, _), frames = full.forward(video()), video()
    first, state = net.advance(frames[:, :, :9], net.initial_state())
    middle, state = stepped(net, frames[:, :, 9:14], state)
    last, state = net.advance(frames[:, :, 14:], state)
    parts = [first[0], *(out[0] for out in middle if out[0] is not None), last[0]]
    made = torch.cat(parts, 2)

    assert (made - wanted[:, :, : made.shape[2]]).abs().max() < 4 * torch.finfo(torch.bfloat16).eps


def test_gradients_flow_through_rounded_states() -> None:
    net = co3d_compile.compile(convolution(6, 2), (1, 6, 6, 3, 3), state_dtype="bfloat16")
    frames = video((1, 6, 6, 3, 3), frames=9)
    weight, _ = net.parameters()
    (whole,) = torch.autograd.grad(net.forward(frames, chunk=9).square().sum(), weight)
    (stepwise,) = torch.autograd.grad(net.forward(frames, chunk=1).square().sum(), weight)

    torch.testing.assert_close(stepwise, whole, rtol=0.02, atol=0.02 * whole.abs().max().item())


def test_rows_join_and_move_as_others_do(net: Network) -> None:
    frames = torch.cat([video(), video(seed=6)])
    _, state = stepped(net, frames[:, :, :16], net.initial_state(2))
    swapped = join_states([state.rows([1]), state.rows([0])]).to("cpu").detach()
    wanted, _ = stepped(net, frames[:, :, 16:], state)
    came, after = stepped(net, frames[[1, 0], :, 16:], swapped)

    assert after.bytes == 2 * net.report.totals.state_bytes
    for one, two in zip(came, wanted, strict=True):
        torch.testing.assert_close(one[1][[1, 0]], two[1])


def test_the_report_names_what_was_rounded(net: Network) -> None:
    features, scores = net.report.outputs
    told = {(entry.path, entry.reason) for entry in features.approximations}

    assert not any((net.report.exact, features.exact, scores.exact))
    assert ("x", "histories are held in bfloat16") in told
    assert ("pool", "partial sums are held in bfloat16") in told
    assert set(features.approximations) < set(scores.approximations)
    assert net.report.layers[0].law == "exact"  # the input
    assert {layer.law for layer in net.report.layers[1:]} == {"affected"}


def test_an_output_that_reads_no_state_stays_exact() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 2, 3, padding=1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = x.relu()
            return y, self.conv(y)

    model = Both().eval()
    net = co3d_compile.compile(model, CLIP, state_dtype="bf16")
    at_once, kept = net.report.outputs
    made = net.verify(model).rounding

    assert (at_once.exact, kept.exact) == (True, False)
    assert made is not None
    assert made.outputs[0].difference == 0 < made.outputs[1].difference


def test_what_is_carried_on_stays_as_it_is() -> None:
    """Rounded at every frame, a running mean would stop running once it has seen some hundred frames."""

    class Remembering(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(2)

    net = co3d_compile.compile(Remembering().eval(), CLIP, state_dtype="bfloat16")
    frames = 1 + 0 * video(frames=600)

    assert net.report.exact
    assert net.report.totals.state_dtype is None
    assert torch.equal(net.forward(frames)[:, :, -1], 600 * frames[:, :, 0])


def test_other_dtypes_than_the_networks_own_stay() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 4, (3, 1, 1))

        def forward(self, pixels: Tensor) -> Tensor:
            bytes_kept = F.pad(pixels, (0, 0, 0, 0, 2, 0))[:, :, :-2]
            precise = F.avg_pool3d((pixels / 255).double(), (3, 1, 1), 1, (1, 0, 0))
            return self.conv(bytes_kept.float() / 255) + precise.float()[:, :1, 1:-1]

    pixels = torch.randint(0, 256, CLIP, dtype=torch.uint8)
    net = co3d_compile.compile(Mixed().eval(), pixels, state_dtype="bfloat16")
    _, state = stepped(net, pixels, net.initial_state())
    held = {net.plan.values[name.removesuffix(".sums")].dtype: kept for name, kept in state.histories.items()}

    assert state.bytes == net.report.totals.state_bytes
    assert all(element.dtype == torch.float64 for element in held[torch.float64] if element is not None)
    assert all(element.dtype == torch.uint8 for element in held[torch.uint8] if element is not None)


def test_a_network_that_is_as_narrow_itself_has_nothing_to_round() -> None:
    net = co3d_compile.compile(convolution(2, 4).to(torch.bfloat16), CLIP, state_dtype="float16")

    assert net.report.exact
    assert net.report.totals.state_dtype is None
    assert net.report.totals.state_bytes == net.report.totals.full_state_bytes


def test_a_network_that_moves_keeps_the_dtype_while_it_is_narrower() -> None:
    net = co3d_compile.compile(every(), CLIP, state_dtype="bfloat16")
    state_bytes = net.report.totals.state_bytes
    wide = net.to(torch.float64).report.totals
    _, state = stepped(net, video().double(), net.initial_state())

    assert (wide.state_bytes, wide.full_state_bytes) == (state_bytes, 4 * state_bytes)
    assert (wide.smallest_state_bytes, wide.state_dtype) == (state_bytes, "bfloat16")
    assert state.bytes == state_bytes

    narrow = net.to(torch.bfloat16).report

    assert narrow.exact
    assert (narrow.totals.state_bytes, narrow.totals.smallest_state_bytes) == (state_bytes, state_bytes)
    assert net.to(torch.float32).report.totals.state_dtype == "bfloat16"


@pytest.mark.parametrize("dtype", DTYPES)
def test_verification_holds_the_rounding_against_noise_of_its_size(dtype: Any) -> None:
    result = compiled(dtype).verify(every())

    assert result.passed, str(result)
    assert result.rounding is not None
    assert all(0 < one.difference <= one.tolerance < 0.2 * one.movement for one in result.rounding.outputs)
    assert all(one.elements == one.expected for one in result.rounding.all)
    assert str(result).startswith("equal to the original, but for its rounded state, on a random video")
    assert f"with its state in full; rounded to {dtype}, it is compared with that" in str(result)
    assert json.loads(json.dumps(result.to_dict()))["rounding"]["dtype"] == dtype


def test_verification_notices_what_rounding_does_not_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    """State that loses one bit in twenty of its size, where bfloat16 loses one in 256."""
    model = convolution(2, 4)
    net = co3d_compile.compile(model, CLIP, state_dtype="bfloat16")
    roundings = engine.roundings
    monkeypatch.setattr(
        engine,
        "roundings",
        lambda plan: {
            name: lambda element, change=change: None if element is None else change(element * 0.95)
            for name, change in roundings(plan).items()
        },
    )
    result = net.verify(model)

    assert not result.passed
    assert result.first_difference is not None
    assert str(result).startswith("DIFFERENT from the original")


def test_numbers_beyond_the_range_are_told() -> None:
    model = convolution(2, 4)
    net = co3d_compile.compile(nn.Sequential(Scaled(), model), CLIP, state_dtype="float16")

    assert not net.verify(nn.Sequential(Scaled(), model)).passed
    with pytest.raises(ApproximationError) as refused:
        net.deviation(nn.Sequential(Scaled(), model))
    assert str(refused.value) == (
        "output 0: the state's dtype is too narrow: numbers beyond its range have become infinite\n"
        "  try: state_dtype='bfloat16', which has the range of float32"
    )


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 1e6


def test_the_deviation_measures_the_rounding() -> None:
    measured = co3d_compile.compile(every(), CLIP, state_dtype="bfloat16")
    features, scores = measured.deviation(every())

    assert features.rounding is not None
    assert scores.rounding is not None
    # all that is not exact is rounding: the same, but for float32's own
    assert features.largest == pytest.approx(features.rounding, rel=1e-3)
    assert 0 < scores.rounding < 4 * torch.finfo(torch.bfloat16).eps
    assert measured.report.outputs[0].deviation == features


def test_policies_and_rounding_are_told_apart() -> None:
    model = make_alive(small_residual(), wandering_video((1, 2, 6, 6, 6)))
    gated = co3d_compile.compile(model, (1, 2, 6, 6, 6), policy={"*": "frame"}, state_dtype="bfloat16")
    (deviation,) = gated.deviation(model)

    assert deviation.rounding is not None
    assert 0 < deviation.rounding < 0.1 * deviation.largest


@pytest.mark.parametrize("given", ["float32", "int8", torch.float32, torch.int8, 16])
def test_other_dtypes_are_refused(given: Any) -> None:
    with pytest.raises(InputError) as refused:
        co3d_compile.compile(convolution(2, 4), CLIP, state_dtype=given)

    assert str(refused.value) == (
        f"state_dtype is {given!r}, and state is rounded to floating numbers of two bytes or not at all\n"
        "  try: one of bf16, bfloat16, fp16, float16, or the torch.dtype"
    )


def test_strict_refuses() -> None:
    with pytest.raises(ApproximationError) as refused:
        co3d_compile.compile(convolution(2, 4), CLIP, state_dtype="fp16", strict=True)

    assert str(refused.value) == (
        "strict, and 1 part(s) are approximate\n"
        "  input_1: histories are held in float16\n"
        "  try: without strict, and read in the report what that means"
    )


def test_a_saved_network_is_the_same(net: Network, tmp_path: Path) -> None:
    net.save(tmp_path / "cont.pt")
    loaded = co3d_compile.load(tmp_path / "cont.pt")
    came, state = stepped(loaded, video(), loaded.initial_state())
    wanted, _ = stepped(net, video(), net.initial_state())

    assert loaded.plan == net.plan
    assert loaded.report == net.report
    assert state.bytes == net.report.totals.state_bytes
    assert all(torch.equal(one[1], two[1]) for one, two in zip(came, wanted, strict=True) if one[1] is not None)


def test_a_file_with_a_dtype_that_does_not_exist_is_refused(net: Network) -> None:
    encoded: Any = encode_plan(net.plan)
    encoded["values"]["x"]["state_dtype"] = "float17"

    with pytest.raises(ArtifactError, match="float17"):
        decode_plan(encoded)


def on_the_command_line(folder: Path, *more: str) -> int:
    torch.save(small_residual().state_dict(), folder / "model.pt")
    named = ["--model", "tests.small_models:residual", "--clip", "1x2x6x6x6", "--out", str(folder / "cont.pt")]
    return compile_command.main([str(folder / "model.pt"), *named, *more])


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = on_the_command_line(tmp_path, "--state-dtype", "bf16")
    printed = capsys.readouterr().out

    assert code == 0
    assert "approximate: histories are held in bfloat16" in printed
    assert "its rounded state alone changes it by" in printed
    assert "equal to the original, but for its rounded state," in printed
    assert inspect_command.main([str(tmp_path / "cont.pt")]) == 0
    assert "bytes if nothing were rounded" in capsys.readouterr().out


def test_the_command_refuses_what_compile_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        on_the_command_line(tmp_path, "--state-dtype", "int8")
    assert "invalid choice: 'int8'" in capsys.readouterr().err

    assert on_the_command_line(tmp_path, "--state-dtype", "fp16", "--strict") == 1
    assert "histories are held in float16" in capsys.readouterr().err

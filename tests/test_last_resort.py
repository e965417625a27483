"""What cannot be streamed runs on whole windows, exactly as the original does on a clip; the rest streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import StateError, UnsupportedError
from co3d_compile.network import Network
from co3d_compile.report.data import Report
from co3d_compile.report.text import render_report
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.law import check_law, windows_of
from tests.functions import Function
from tests.zoo_models import published

CLIP = (1, 3, 8, 6, 6)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Attentive(nn.Module):
    """Attention of frames, behind a convolution."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, (stride, 1, 1), 1)
        self.query = nn.Linear(4, 4)

    def tail(self, y: Tensor) -> Tensor:
        frames = y.mean((3, 4)).transpose(1, 2)
        return (self.query(frames) @ frames.mT).softmax(-1) @ frames

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.conv(x))


class Decoder(nn.Module):
    """Two branches at strides 1 and 2 meet over time, and so does what one of them gives for the whole clip."""

    def __init__(self) -> None:
        super().__init__()
        self.fast = nn.Conv3d(3, 4, 3, 1, 1)
        self.slow = nn.Conv3d(3, 4, 3, (2, 1, 1), 1)
        self.mix = nn.Conv1d(4, 2, 3, padding=1)

    def tail(self, fast: Tensor, slow: Tensor, whole: Tensor) -> Tensor:
        frames = torch.cat([fast.mean((3, 4)), slow.mean((3, 4)).flip(2)], 2)
        return self.mix(frames * whole.flatten(1).unsqueeze(2))

    def forward(self, x: Tensor) -> Tensor:
        slow = self.slow(x)
        return self.tail(self.fast(x), slow, slow.mean((2, 3, 4), keepdim=True))

    def windows(self, video: Tensor) -> Tensor:
        fast, slow = self.fast(video), self.slow(video)
        answers = []
        for first in range(0, fast.shape[2] - 7, 2):
            part = slow[:, :, first // 2 : first // 2 + 4]
            if part.shape[2] == 4:
                answers.append(self.tail(fast[:, :, first : first + 8], part, part.mean((2, 3, 4), keepdim=True)))
        if not answers:
            raise IndexError("shorter than the window")
        return torch.stack(answers, 1)


class Front(nn.Module):
    """Something behind a convolution."""

    def __init__(self, tail: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, 1, 1)
        self.tail = tail

    def forward(self, x: Tensor) -> Any:
        return self.tail(self.conv(x))


def loud_frames(y: Tensor) -> Tensor:
    """Frames louder than the mean; how many, the values tell."""
    loudness = y.mean((0, 1, 3, 4))
    return y[:, :, loudness >= loudness.mean()]


def bidirectional() -> nn.Module:
    lstm = nn.LSTM(4, 3, bidirectional=True, batch_first=True)
    return Front(lambda y: lstm(y.mean((3, 4)).transpose(1, 2))[0])


TAILS: dict[str, Callable[[Tensor], Any]] = {
    "first frames": lambda y: y[:, :, :5],
    "flip": lambda y: F.relu(y.flip(2)),
    "two streams over time": lambda y: torch.cat([y, y * 2], 2),
    "adaptive pool": lambda y: F.adaptive_avg_pool3d(y, (3, 2, 2)),
    "sorted": lambda y: y.mean((3, 4)).sort(2).values,
    "softmax over time": lambda y: (y * y.softmax(2)).sum(2),
    "positions": lambda y: y + torch.arange(8.0).reshape(8, 1, 1),
    "some frames": lambda y: F.relu(loud_frames(y)).amax((2, 3, 4)),
    "size of what was chosen": lambda y: loud_frames(y).sum(2) / loud_frames(y).shape[2],
    "zeros of the clip's size": lambda y: torch.cat([y.new_zeros(y.shape), y.flip(2)], 1),
}


def tailed(name: str) -> Front:
    torch.manual_seed(0)
    return Front(TAILS[name])


@pytest.mark.parametrize("name", TAILS)
def test_a_tail_is_the_original_on_a_window(name: str) -> None:
    model = tailed(name)

    check_law(
        model,
        CLIP,
        lengths=(8, 9, 13),
        reference=lambda video: windows_of(model.tail, 8)(model.conv(video)),
        stacked=True,
        poison=name not in ("sorted", "some frames", "size of what was chosen"),
        # a window waits for all its elements, also for some that do not matter
        least_delay=name not in ("first frames", "some frames"),
    )


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_of_streams_takes_its_windows_row_by_row(stride: int, batch: int) -> None:
    model = Attentive(stride)

    network = check_law(
        model,
        CLIP,
        lengths=(8, 14),
        batch=batch,
        reference=lambda video: windows_of(model.tail, 8 // stride)(model.conv(video)),
        stacked=True,
    )

    assert network.report.outputs[0].stride == stride
    assert network.report.outputs[0].shape == (1, 8 // stride, 4)


def test_boundaries_at_several_strides_are_read_from_one_frame_on() -> None:
    model = Decoder()

    network = check_law(model, CLIP, lengths=(8, 11, 15), batch=2, reference=model.windows, stacked=True)

    assert network.report.outputs[0].stride == 2
    assert network.verify(model).passed


def test_a_recurrence_in_both_directions_runs_on_windows() -> None:
    model = bidirectional()

    network = check_law(
        model,
        CLIP,
        lengths=(8, 12),
        batch=2,
        reference=lambda video: windows_of(model.tail, 8)(model.conv(video)),
        stacked=True,
    )

    assert 0.5 < network.report.totals.share_streamed < 1


def test_at_a_dense_rate_there_is_a_window_at_every_frame() -> None:
    model = make_alive(Attentive(2), wandering_video(CLIP))
    network = co3d_compile.compile(model, CLIP, rate="dense")
    video = wandering_video((1, 3, 15, 6, 6))

    with torch.no_grad():
        made = network.forward(video)
        wanted = model.conv(video[:, :, 3:])

    assert made.shape[1] > 5
    torch.testing.assert_close(made[:, 5], model.tail(wanted[:, :, 1:5]), atol=1e-4, rtol=0)
    assert network.verify(model).passed


def test_what_each_part_of_the_output_needs_is_in_its_own_window() -> None:
    """Two tails between which nothing passes keep their own strides; what streams to the end stays out of both."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 4, 3, 1, 1)
            self.down = nn.Conv3d(4, 4, 1, (2, 1, 1))

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = self.conv(x)
            return {"map": y, "back": y.flip(2), "slow": self.down(y).flip(2)}

    model = make_alive(Parts(), wandering_video(CLIP))
    network = co3d_compile.compile(model, CLIP)

    targets = [node.target for node in network.plan.nodes]
    assert targets == ["aten.conv3d.default", "aten.conv3d.default", *["co3d_compile.window.default"] * 2]
    assert [output.stride for output in network.report.outputs] == [1, 1, 2]
    assert network.verify(model).passed


def test_a_gate_and_a_window_share_a_statistic_and_each_makes_it_its_way() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 4, 3, 1, 1)
            self.after = nn.Conv3d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            mean = y.mean((2, 3, 4), keepdim=True)
            return self.after(y * mean).flip(2) + mean

    model = make_alive(Shared(), wandering_video(CLIP))
    network = co3d_compile.compile(model, CLIP)
    video = wandering_video((1, 3, 12, 6, 6), seed=3)
    with torch.no_grad():
        y = model.conv(video)
        gated = model.after(y * y.mean((3, 4), keepdim=True))
        wanted = torch.stack(
            [gated[:, :, n : n + 8].flip(2) + y[:, :, n : n + 8].mean((2, 3, 4), keepdim=True) for n in range(5)], 1
        )

    assert [entry.path for entry in network.report.outputs[0].approximations] == ["mean"]
    torch.testing.assert_close(network.forward(video), wanted)


def test_a_gate_between_which_and_the_tail_nothing_multiplies_is_exact_in_the_tail() -> None:
    model = Front(lambda y: (y - y.mean(2, keepdim=True)).flip(2))

    network = check_law(model, CLIP, reference=lambda video: windows_of(model.tail, 8)(model.conv(video)), stacked=True)

    assert network.report.totals.gates == 0


def test_a_file_holds_the_window(tmp_path: Path) -> None:
    network = co3d_compile.compile(tailed("size of what was chosen"), CLIP)
    network.save(tmp_path / "net.pt")
    loaded = co3d_compile.load(tmp_path / "net.pt")
    video = wandering_video((2, 3, 11, 6, 6))

    assert loaded.plan == network.plan
    assert torch.equal(loaded.forward(video), network.forward(video))


def test_a_network_in_double_precision_has_windows_in_double_precision() -> None:
    model = tailed("positions")
    network = co3d_compile.compile(model, CLIP).double()
    video = wandering_video((1, 3, 9, 6, 6), dtype=torch.float64)

    made = network.forward(video)

    assert made.dtype is torch.float64
    torch.testing.assert_close(made[:, 1], model.double().tail(model.conv(video)[:, :, 1:9]))


def test_gradients_reach_the_weights_of_the_tail_and_before_it() -> None:
    network = co3d_compile.compile(Attentive(), CLIP)

    network.forward(torch.randn(2, 3, 10, 6, 6)).sum().backward()

    gradients = {name: weight.grad for name, weight in network.weights.named_parameters()}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values()), gradients


def test_the_report_says_what_is_streamed_and_what_to_do_about_the_rest() -> None:
    report = co3d_compile.compile(Attentive(), CLIP).report
    conv, query, products = 4 * 3 * 27 * 36 * 8, 8 * 16, 2 * 8 * 8 * 4

    (part,) = report.last_resorts
    assert part.macs == products
    assert report.totals.clip_macs == conv + query + products
    assert report.totals.share_streamed == pytest.approx((conv + query) / (conv + query + products))
    assert [refusal.operation for refusal in part.refusals] == ["matmul"]
    assert "every frame of the clip meets every other" in part.refusals[0].reason
    assert report.exact
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_the_report_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=100).print(render_report(co3d_compile.compile(tailed("flip"), CLIP).report))

    shown = capsys.readouterr().out
    assert "from there on everything runs on whole windows, exactly as on a clip" in shown
    assert "(top level): flip: time runs backwards" in shown
    assert "streamed" in shown
    assert "100.0%" in shown


def test_a_model_of_which_nothing_is_left_to_stream_is_refused() -> None:
    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 4, 3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(F.avg_pool3d(x, (1, 2, 2)).flip(2))

    with pytest.raises(UnsupportedError) as refused:
        co3d_compile.compile(Nothing(), CLIP)

    lines = str(refused.value).splitlines()
    assert lines[0] == "1 operation(s) cannot be streamed: 1 x flip"
    assert lines[-2] == "  nothing that multiplies comes before them, so no part of the model is left to stream"
    assert lines[-1] == "  try: what the hints say, or run the model clip by clip"


def test_an_output_of_a_size_that_the_values_tell_is_refused() -> None:
    with pytest.raises(UnsupportedError) as refused:
        co3d_compile.compile(Front(loud_frames), CLIP)

    assert "the size of what it gives depends on the values in the video" in str(refused.value)
    assert "has a shape that depends on the values in the video" in str(refused.value)


def test_a_clip_of_several_streams_fixes_the_batch() -> None:
    network: Network = co3d_compile.compile(tailed("flip"), (2, *CLIP[1:]))

    with pytest.raises(StateError) as refused:
        network.initial_state(3)

    assert "it runs on whole windows, with the sizes of a clip of batch 2" in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mvit", "swin"])
def test_video_transformers_stream_their_first_layers(name: str) -> None:
    model = {"mvit": small_mvit, "swin": small_swin}[name]()
    make_alive(model, wandering_video((1, 3, 8, 32, 32)))

    network = co3d_compile.compile(model, (1, 3, 8, 32, 32))
    result = network.verify(model, frames=16)  # no multiple of its windows is padded at the end

    assert result.passed, str(result)
    assert network.report.exact
    assert 0.05 < network.report.totals.share_streamed < 0.9


def small_mvit() -> nn.Module:
    mvit = published("torchvision.models.video.mvit")
    widths = {"kernel_q": [3, 3, 3], "kernel_kv": [3, 3, 3], "stride_q": [1, 1, 1]}
    blocks = [
        mvit.MSBlockConfig(num_heads=1, input_channels=8, output_channels=16, stride_kv=[1, 2, 2], **widths),
        mvit.MSBlockConfig(num_heads=2, input_channels=16, output_channels=16, stride_kv=[1, 1, 1], **widths),
    ]
    options = dict.fromkeys(("residual_pool", "residual_with_cls_embed", "rel_pos_embed", "proj_after_attn"), False)
    return mvit.MViT((32, 32), 8, blocks, num_classes=5, **options).eval()


def small_swin() -> nn.Module:
    swin = published("torchvision.models.video.swin_transformer")
    return swin.SwinTransformer3d([2, 4, 4], 8, [1, 1], [1, 2], [4, 4, 4], num_classes=5).eval()


def test_branches_that_never_meet_are_joined_in_a_window() -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fast = nn.Conv3d(3, 4, 1, (2, 1, 1))
            self.slow = nn.Conv3d(3, 4, 1, (4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.fast(x).unflatten(2, (2, 2)).amax(3) + self.slow(x)

    model = make_alive(Apart(), wandering_video(CLIP))
    network = co3d_compile.compile(model, CLIP)

    assert network.report.outputs[0].stride == 4
    assert network.verify(model).passed


class Diamonds(nn.Module):
    """Gates of a frame by itself, one after the other, behind what runs on windows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).flip(2)[:, :, 0]
        for _ in range(40):
            h = h.tanh() + h.sigmoid()
        return self.last(h)


def test_ways_that_part_and_meet_again_are_gone_once() -> None:
    """As many ways as 2 ** 40 lead through the gates."""
    assert co3d_compile.compile(Diamonds().eval(), (1, 3, 8, 6, 6)).report.last_resorts


def test_a_call_with_an_effect_on_order_stays_whole() -> None:
    """``tensorinv`` breaks down into an inverse and a check of it, which the graph would carry as a tensor."""

    def tail(y: Tensor) -> Tensor:
        rows = y.mean((0, 2, 4))
        return torch.linalg.tensorinv(rows @ rows.mT + torch.eye(4), 1) + y.mean((2, 3, 4))

    model = Front(tail).eval()

    assert co3d_compile.compile(model, CLIP).verify(model).passed


def test_a_loop_that_every_window_runs_anew_is_named() -> None:
    """A longer video may end one frame before its end, or at frame seven: nothing in the clip tells."""

    def all_but_the_last(x: Tensor, conv: nn.Conv2d, cell: nn.GRUCell) -> Tensor:
        h = x.new_zeros(len(x), 5)
        for t in range(x.shape[2] - 1):
            h = cell(conv(x[:, :, t]).mean((2, 3)), h)
        return h

    model = Function(all_but_the_last, conv=nn.Conv2d(3, 4, 3), cell=nn.GRUCell(4, 5)).eval()

    report = co3d_compile.compile(model, (1, 3, 8, 6, 6)).report

    (part,) = report.last_resorts
    assert part.path == "conv"
    assert part.refusals[0].reason == "2 layers are called on 7 frames of each window, by their places in it"
    assert part.macs == report.totals.clip_macs
    assert report.totals.share_streamed == 0


def test_heads_that_share_their_frames_are_no_loop() -> None:
    def first_and_last(x: Tensor, conv: nn.Conv2d, other: nn.Conv2d) -> Tensor:
        ends = torch.cat([x[:, :, 0], x[:, :, -1]], 1)
        return conv(ends) + other(ends)

    model = Function(first_and_last, conv=nn.Conv2d(6, 4, 3), other=nn.Conv2d(6, 4, 3)).eval()

    assert not co3d_compile.compile(model, (1, 3, 8, 6, 6)).report.last_resorts

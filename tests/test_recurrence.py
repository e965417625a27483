"""Recurrences: layers over time, running sums, loops over frames; the oracle is the original on the whole video."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import InputError
from co3d_compile.network import Network
from co3d_compile.ops.flow import Way
from co3d_compile.report.text import render_report
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.law import check_law
from tests.recurrent_networks import (
    CLIP,
    RCU,
    CellLoop,
    ConvLSTM,
    FrameNet,
    GatedAverage,
    LastOf,
    LastState,
    Looped,
    MeanOf,
    OfFrames,
    Written,
)

FRAMES = CLIP[2]


def ways(net: Network) -> list[Way]:
    return [node.way for node in net.plan.nodes if node.target == "co3d_compile.recurrence.default"]


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(6, 4, batch_first=True),
        nn.GRU(6, 4, num_layers=2, batch_first=True, dropout=0.5),
        nn.RNN(6, 4, batch_first=True),
        nn.RNN(6, 4, nonlinearity="relu", bias=False, batch_first=True),
        nn.LSTM(6, 4, num_layers=2, proj_size=3, batch_first=True),
        nn.LSTM(6, 4, proj_size=3, bias=False, batch_first=True),
    ],
    ids=str,
)
def test_layers_over_time_obey_the_law(layer: nn.Module) -> None:
    net = check_law(OfFrames(layer).eval(), CLIP, batch=2, alive=False)

    assert set(ways(net)) == {Way.RECURRENT}
    assert net.report.outputs[0].delay == 1


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_time_first(kind: type[nn.Module]) -> None:
    check_law(OfFrames(kind(6, 4), batch_first=False), CLIP, batch=2, alive=False)


@pytest.mark.parametrize(
    "model",
    [
        RCU(),
        RCU("cat"),
        ConvLSTM(),
        Written(),
        Looped(lambda h, x: 0.5 * h + x, lambda x: torch.zeros_like(x[:, :, 0])),
        Looped(lambda h, x: torch.maximum(0.9 * h, x), lambda x: x.new_full(x[:, :, 0].shape, -1.0)),
        Looped(lambda h, x: torch.where(x > 0, x, h), lambda x: torch.zeros(1, 1, 1, 1)),
    ],
    ids=["rcu", "rcu, cat", "convlstm", "written", "decay", "peak", "held"],
)
def test_loops_over_frames_obey_the_law(model: nn.Module) -> None:
    net = check_law(model, CLIP, batch=2, alive=False)

    assert set(ways(net)) == {Way.RECURRENT}


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "logcumsumexp"])
def test_running_sums_obey_the_law(name: str) -> None:
    class Running(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return getattr(x, name)(2)

    net = check_law(Running(), CLIP, batch=2)

    assert ways(net) == [Way.RECURRENT]


@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_running_extremes_obey_the_law(name: str) -> None:
    class Running(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return getattr(x.relu(), name)(2).values

    # a maximum is settled by chance before its time comes
    net = check_law(Running(), CLIP, batch=2, least_delay=False)

    assert ways(net) == [Way.RECURRENT]


def test_a_loop_that_carries_nothing_treats_frames_alone() -> None:
    net = check_law(FrameNet(), CLIP, batch=2)

    assert ways(net) == [Way.ALONE]
    assert net.report.totals.state_bytes == 0
    assert net.report.totals.macs_per_frame == 20 * (3 * 2 * 9 + 2 * 3)


@pytest.mark.parametrize(
    "model",
    [LastOf(nn.LSTM(6, 4, batch_first=True)), LastState(nn.GRU(6, 4, 2, batch_first=True)), CellLoop()],
    ids=["last element", "last state", "cells"],
)
def test_the_last_state_is_that_of_the_whole_past(model: nn.Module) -> None:
    """After every frame: what the original says of all frames so far (its features seen with their neighbours)."""
    video = wandering_video((2, 2, 13, 4, 5))
    delay = 1 if hasattr(model, "conv") else 0
    model.eval()

    def prefix(frames: int) -> Tensor:
        if not delay:
            return model(video[:, :, :frames])
        conv, features = model.conv, model.conv(video)[:, :, :frames]
        model.conv = nn.Identity()
        try:
            return model(features)
        finally:
            model.conv = conv

    with torch.no_grad():
        wanted = [prefix(frames) for frames in range(FRAMES, 14)]
    net = co3d_compile.compile(model, CLIP)
    stream = net.stream(2)

    came = [stream.push(frame) for frame in video.unbind(2)] + stream.flush()

    assert [tick for tick, one in enumerate(came) if one is not None] == list(range(FRAMES - 1 + delay, 13 + delay))
    for one, other in zip([one for one in came if one is not None], wanted, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(net(video), torch.stack(wanted, 1))


def test_a_mean_over_states_is_one_of_a_window() -> None:
    """The mean over the last elements, of states that know the whole past."""
    model = MeanOf(nn.GRU(6, 4, batch_first=True)).eval()
    video = wandering_video((1, 2, 13, 4, 5))
    with torch.no_grad():
        states = model.features(video)[0]
    wanted = torch.stack([states[:, n : n + FRAMES].mean(1) for n in range(13 - FRAMES + 1)], 1)

    with torch.no_grad():
        torch.testing.assert_close(co3d_compile.compile(model, CLIP)(video), wanted)


def test_a_sum_over_the_clip_is_no_recurrence() -> None:
    model = GatedAverage().eval()
    video = wandering_video((2, 2, 13, 4, 5))
    with torch.no_grad():
        wanted = torch.stack([model(video[:, :, n : n + FRAMES]) for n in range(13 - FRAMES + 1)], 1)

    net = co3d_compile.compile(model, CLIP)

    assert Way.RECURRENT not in ways(net)
    torch.testing.assert_close(net(video), wanted)


def test_a_weight_for_each_frame_of_the_clip_is_a_window() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Parameter(torch.randn(FRAMES))

        def forward(self, x: Tensor) -> Tensor:
            total = torch.zeros_like(x[:, :, 0])
            for t in range(FRAMES):
                total = total + self.weights[t] * x[:, :, t]
            return total

    model = Weighted()
    video = wandering_video((1, 2, 10, 4, 5))

    with torch.no_grad():
        wanted = torch.stack([model(video[:, :, n : n + FRAMES]) for n in range(3)], 1)
        torch.testing.assert_close(co3d_compile.compile(model, CLIP)(video), wanted)


def test_a_saved_network_remembers(tmp_path: Path) -> None:
    """The file runs without the model, streams can be joined and split, and the dtype can change."""
    model = ConvLSTM().eval()
    net = co3d_compile.compile(model, CLIP)
    net.save(tmp_path / "cont.pt")
    loaded = co3d_compile.load(tmp_path / "cont.pt")
    video = wandering_video((2, 2, 11, 4, 5))
    with torch.no_grad():
        wanted = model(video)
    states = [loaded.initial_state(1), loaded.initial_state(1)]
    for frame in video[:, :, :6].unbind(2):
        states = [loaded.step(frame[n : n + 1], state)[1] for n, state in enumerate(states)]
    state = co3d_compile.join_states(states)

    came = []
    for frame in video[:, :, 6:].unbind(2):
        element, state = loaded.step(frame, state)
        came.append(element)

    torch.testing.assert_close(torch.cat(came, 2), wanted[:, :, 6:])
    torch.testing.assert_close(loaded.double()(video.double()), wanted.double(), atol=1e-5, rtol=1e-5)


class Bidirectional(OfFrames):
    def __init__(self) -> None:
        super().__init__(nn.LSTM(6, 4, batch_first=True, bidirectional=True))


class Backward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, :, 0])
        made = []
        for t in reversed(range(x.shape[2])):
            h = torch.tanh(self.hidden(h) + x[:, :, t])
            made.append(h)
        return torch.stack(made[::-1], 2)


class Uneven(nn.Module):
    """The state is let go at one frame of the clip."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, :, 0])
        made = []
        for t in range(x.shape[2]):
            h = torch.tanh((h.relu() if t == 5 else self.hidden(h)) + x[:, :, t])
            made.append(h)
        return torch.stack(made, 2)


class BothWays(nn.Module):
    """A loop forward and one backward, over the same frames."""

    def __init__(self) -> None:
        super().__init__()
        self.forward_net = nn.Conv2d(2, 2, 1)
        self.backward_net = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = g = torch.zeros_like(x[:, :, 0])
        made, back = [], []
        for t in range(x.shape[2]):
            h = torch.tanh(self.forward_net(h) + x[:, :, t])
            made.append(h)
        for t in reversed(range(x.shape[2])):
            g = torch.tanh(self.backward_net(g) + x[:, :, t])
            back.append(g)
        return torch.stack(made, 2) + torch.stack(back[::-1], 2)


class FromTheClip(OfFrames):
    """The first state is made from the whole clip."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean((3, 4))
        begin = x.mean(2)[None, :, :4].contiguous()
        return self.layer(x.permute(0, 2, 1), begin)[0].transpose(1, 2)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            Bidirectional(),
            "layer: lstm: the backward direction needs the clip's end, which a stream has not seen\n"
            "    try: a layer of one direction",
        ),
        (
            Backward(),
            "the loop over 8 frames begins at the clip's end, which a stream has not seen\n"
            "    try: a loop from the first frame to the last",
        ),
        (
            Uneven(),
            "the loop over frames is not one function of the frame and the carried state: "
            "what follows frame 4 differs from what follows frame 2\n"
            "    try: make every iteration alike, or give the module a step rule (recurrences=, docs/recurrence.md)",
        ),
        (BothWays(), "8 frames are read beside it\n"),
        (FromTheClip(nn.GRU(6, 4, batch_first=True)), "it begins with a state that is made from the whole clip"),
    ],
    ids=["bidirectional", "backward", "uneven", "both ways", "from the clip"],
)
def test_what_cannot_be_carried_runs_on_windows_and_says_why(model: nn.Module, text: str) -> None:
    model.eval()
    net = co3d_compile.compile(model, CLIP)
    video = wandering_video((1, 2, 10, 4, 5))
    inner = model.conv(video) if hasattr(model, "conv") else video
    model.conv = nn.Identity()
    with torch.no_grad():
        wanted = torch.stack([model(inner[:, :, n : n + FRAMES]) for n in range(3)], 1)

    with torch.no_grad():
        torch.testing.assert_close(net(video), wanted)
    assert Way.RECURRENT not in ways(net)
    assert text in str(net.plan.last_resorts[0].refusals[0])


def test_networks_are_alive() -> None:
    """What is compared above moves with the video."""
    torch.manual_seed(0)
    model = make_alive(ConvLSTM(), wandering_video(CLIP))
    with torch.no_grad():
        one, other = (model(wandering_video(CLIP, seed=seed)) for seed in (1, 2))

    assert (one - other).abs().max() > 1e-2


def test_the_report_says_what_is_carried() -> None:
    net = co3d_compile.compile(LastOf(nn.LSTM(6, 4, batch_first=True)), CLIP)
    output = net.report.outputs[0]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_report(net.report))
    text = console.export_text()

    assert output.exact
    assert output.carried == ("layer",)
    assert re.search(r"carried on +layer +since the start, or the last reset", text)
    assert re.search(r"receptive field +unbounded", text)


@pytest.mark.parametrize("start", ["valid", "replicate"])
def test_what_is_carried_begins_at_the_first_frame(start: str) -> None:
    with pytest.raises(InputError, match=f"layer: start is '{start}', and what is carried on from the start stays"):
        co3d_compile.compile(LastOf(nn.LSTM(6, 4, batch_first=True)), CLIP, start=start)


def test_without_padding_every_state_is_valid() -> None:
    model = CellLoop().eval()
    net = co3d_compile.compile(model, CLIP, start="valid")
    video = wandering_video((1, 2, 10, 4, 5))

    with torch.no_grad():
        wanted = torch.stack([model(video[:, :, :n]) for n in range(8, 11)], 1)
        torch.testing.assert_close(net(video), wanted)


@pytest.mark.parametrize("model", [RCU(), ConvLSTM(), LastOf(nn.LSTM(6, 4, batch_first=True)), CellLoop(), FrameNet()])
def test_verify_holds_a_recurrence_against_the_original(model: nn.Module) -> None:
    result = co3d_compile.compile(model.eval(), CLIP).verify(model)

    assert result.passed
    assert result.outputs[0].elements == result.outputs[0].expected > 1


def test_verify_finds_a_recurrence_that_differs() -> None:
    model = LastOf(nn.LSTM(6, 4, batch_first=True)).eval()
    net = co3d_compile.compile(model, CLIP)
    with torch.no_grad():
        model.layer.weight_hh_l0.mul_(1.5)

    assert not net.verify(model).passed

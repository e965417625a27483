"""Counts of frames that meet what is carried on since the start of the video; the oracle is the original."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import UnsupportedError
from co3d_compile.ops.flow import Way
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.law import check_law, windows_of
from examples.networks.catalogue import EXAMPLES
from tests.paper_networks import alive

CLIP = (1, 2, 8, 4, 5)
FRAMES = CLIP[2]
LENGTHS = (3, 8, 13, 21)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Counted(nn.Module):
    """A convolution, what ``join`` makes of its running sum, a convolution."""

    def __init__(self, join: Callable[[Tensor], Tensor], stride: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv3d(2, 3, 3, (stride, 1, 1), 1)
        self.join = join
        self.head = nn.Conv3d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.join(self.stem(x)))


def counts(x: Tensor, start: int = 1, step: int = 1) -> Tensor:
    stop = start + step * x.shape[2]
    return torch.arange(start, stop, step, dtype=x.dtype, device=x.device).view(1, 1, -1, 1, 1)


def mean_before(x: Tensor) -> Tensor:
    """Of the frames before each: the sum of none is divided by one."""
    return (x.cumsum(2) - x) / counts(x, 0).clamp(min=1)


def by_integers(x: Tensor) -> Tensor:
    return x.cumsum(2) / torch.arange(1, x.shape[2] + 1)[:, None, None]


def by_range(x: Tensor) -> Tensor:
    """The deprecated one, which counts up to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x.cumsum(2) / torch.range(1, x.shape[2])[:, None, None] + torch.range(0, 2 * x.shape[3] - 1, 2)[:, None]


def by_reciprocals(x: Tensor) -> Tensor:
    return x.cumsum(2) * (1 / torch.arange(1, x.shape[2] + 1)).view(-1, 1, 1)


def by_powers(x: Tensor) -> Tensor:
    return x.cumsum(2) * counts(x) ** -1 + x.cumsum(2) / counts(x, 3, 2).sqrt()


def by_ones(x: Tensor) -> Tensor:
    return x.cumsum(2) / torch.ones(x.shape[2]).cumsum(0)[:, None, None]


def corrected(x: Tensor) -> Tensor:
    """Adam's correction of what begins with zeros: 1 - b^n."""
    return x.cumsum(2) / (1 - 0.9 ** counts(x))


def later(x: Tensor) -> Tensor:
    """Without its first frame, which has been counted."""
    return x.cumsum(2)[:, :, 1:] / counts(x)[:, :, 1:]


def expanded(x: Tensor) -> Tensor:
    return x.cumsum(2) / counts(x).expand(-1, 3, -1, 4, 5)


def twice(x: Tensor) -> Tensor:
    """A running mean of running means."""
    once = (x.cumsum(2) / counts(x)).relu()
    return once.cumsum(2) / counts(x)


def of_states(x: Tensor) -> Tensor:
    """A loop's states, with the number of each."""
    h = x[:, :, 0]
    states = [h]
    for t in range(1, x.shape[2]):
        h = (h.tanh() + x[:, :, t]) / 2
        states.append(h)
    return torch.stack(states, 2) + 0.25 * counts(x)


JOINS = (
    mean_before,
    by_integers,
    by_range,
    by_reciprocals,
    by_powers,
    by_ones,
    corrected,
    expanded,
    twice,
    of_states,
)


@pytest.mark.parametrize("join", JOINS, ids=lambda join: join.__name__)
def test_counts_go_on_behind_the_clip(join: Callable[[Tensor], Tensor]) -> None:
    net = check_law(Counted(join), CLIP, batch=2, lengths=LENGTHS)

    assert not net.plan.last_resorts
    assert net.report.totals.share_streamed == 1
    assert net.report.outputs[0].delay == 1


def test_counts_behind_a_cut() -> None:
    net = check_law(Counted(later), CLIP, batch=2, lengths=(8, 13, 21))

    assert not net.plan.last_resorts


def test_counts_of_a_strided_stream() -> None:
    net = check_law(Counted(by_integers, stride=2), (1, 2, 16, 4, 5), lengths=(9, 16, 29))

    assert not net.plan.last_resorts


def test_counts_at_a_dense_rate_are_those_of_each_phase() -> None:
    """The copy of the network that starts at frame 1 counts from its own start."""
    model = Counted(by_integers, stride=2).eval()
    model.stem.padding = (0, 1, 1)
    clip = (1, 2, 16, 4, 5)
    make_alive(model, wandering_video(clip))
    video = wandering_video((1, 2, 24, 4, 5))

    net = co3d_compile.compile(model, clip, rate="dense")

    with torch.no_grad():
        made = net(video)
        torch.testing.assert_close(made[:, :, 0::2], model(video), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(made[:, :, 1::2], model(video[:, :, 1:]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("time_axis", [0, 1])
def test_counts_along_another_axis(time_axis: int) -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            count = torch.arange(1, x.shape[time_axis] + 1).view(-1, *[1] * (x.dim() - time_axis - 1))
            return x.cumsum(time_axis) / count

    net = check_law(Mean(), (8, 2, 4, 5) if time_axis == 0 else (1, 8, 2, 4, 5), time_axis=time_axis, lengths=LENGTHS)

    assert not net.plan.last_resorts


class Buffered(nn.Module):
    """Counts that were made once, for as many frames as anyone will see."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frames", torch.arange(1.0, 101.0))

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(2) / self.frames[: x.shape[2]].view(1, 1, -1, 1, 1)


def test_a_buffer_that_counts() -> None:
    net = check_law(Buffered(), CLIP, batch=2, lengths=LENGTHS)

    assert not net.plan.last_resorts


def test_verification_compares_what_is_counted() -> None:
    model = make_alive(Counted(twice).eval(), wandering_video(CLIP))
    net = co3d_compile.compile(model, CLIP)

    result = net.verify(model, frames=21)

    assert result.passed, str(result)
    assert "on the whole video" in str(result)


def test_streams_that_begin_apart_have_counts_of_their_own() -> None:
    model = Counted(by_integers).eval()
    net = co3d_compile.compile(model, CLIP)
    video = wandering_video((2, 2, 12, 4, 5))
    with torch.no_grad():
        early, late = model(video[:1]), model(video[1:, :, 4:])
    first, second = net.initial_state(1), net.initial_state(1)
    for frame in video[:1, :, :7].unbind(2):
        _, first = net.step(frame, first)
    for frame in video[1:, :, 4:7].unbind(2):
        _, second = net.step(frame, second)

    state = co3d_compile.join_states([first, second])
    came = []
    for frame in video[:, :, 7:].unbind(2):
        element, state = net.step(frame, state)
        came.append(element)

    made = torch.cat(came, 2)
    torch.testing.assert_close(made[:1], early[:, :, 6:11])
    torch.testing.assert_close(made[1:], late[:, :, 2:7])


def test_counts_need_no_numbers() -> None:
    with torch.device("meta"):
        net = co3d_compile.compile(Counted(by_integers), torch.zeros(CLIP))

    assert not net.plan.last_resorts


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_counts_take_the_dtype_of_the_network(dtype: torch.dtype, tmp_path: Path) -> None:
    """And stay exact: a running count of bfloat16 would not come beyond 256."""

    class Signed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sign = nn.Parameter(torch.tensor([-1.0]))

        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x.cumsum(2) > 0, counts(x), 0) * self.sign

    model = Signed()
    co3d_compile.compile(model, (1, 1, 8, 1, 1)).save(tmp_path / "cont.pt")
    net = co3d_compile.load(tmp_path / "cont.pt").to(dtype)
    video = wandering_video((1, 1, 300, 1, 1)).abs().to(dtype)

    with torch.no_grad():
        made, wanted = net(video), model.to(dtype)(video)

    assert made.dtype == dtype
    assert wanted.min() == -300
    # arange itself rounds otherwise beyond 256
    torch.testing.assert_close(made, wanted, atol=0, rtol=torch.finfo(dtype).eps)


def test_movinet_streams_from_its_first_frame() -> None:
    example = EXAMPLES["movinet"]
    model = alive("movinet")
    net = check_law(
        model,
        example.clip(small=True),
        lengths=(1, 5, 8, 19),
        alive=False,
        reference=model,
    )

    assert net.report.exact
    assert not net.plan.last_resorts
    assert net.report.totals.share_streamed == 1
    assert net.report.outputs[0].delay == 0


class Embedded(nn.Module):
    """Positions, by number or learned, on frames that carry nothing; then attention between frames."""

    def __init__(self, *, learned: bool) -> None:
        super().__init__()
        self.stem = nn.Conv3d(2, 4, 3, padding=1)
        self.places = nn.Parameter(torch.randn(FRAMES, 4)) if learned else None

    def tail(self, x: Tensor) -> Tensor:
        frames = x.mean((3, 4)).transpose(1, 2)
        frames = frames + (0.1 * torch.arange(FRAMES)[:, None] if self.places is None else self.places)
        return (frames @ frames.mT).softmax(-1) @ frames

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.stem(x))


@pytest.mark.parametrize("learned", [False, True])
def test_positions_of_what_carries_nothing_are_those_of_a_window(learned: bool) -> None:
    model = make_alive(Embedded(learned=learned).eval(), wandering_video(CLIP))
    video = wandering_video((1, 2, 13, 4, 5))
    with torch.no_grad():
        wanted = windows_of(model.tail, FRAMES)(model.stem(video))

    net = co3d_compile.compile(model, CLIP)

    assert not [node for node in net.plan.nodes if node.way is Way.RECURRENT]
    assert net.plan.last_resorts
    with torch.no_grad():
        torch.testing.assert_close(net(video), wanted)


def test_a_count_beside_a_sum_that_it_does_not_meet_stays() -> None:
    """One branch carries a sum on, the other attends to numbered frames of each window."""

    class Branches(Embedded):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.stem(x)
            return x.cumsum(2), self.tail(x)

    model = make_alive(Branches(learned=False).eval(), wandering_video(CLIP))
    video = wandering_video((1, 2, 13, 4, 5))
    with torch.no_grad():
        features = model.stem(video)
        wanted = windows_of(model.tail, FRAMES)(features)

    net = co3d_compile.compile(model, CLIP)
    sums, attended = net(video)

    assert len([node for node in net.plan.nodes if node.way is Way.RECURRENT]) == 1
    torch.testing.assert_close(sums, features.cumsum(2))
    torch.testing.assert_close(attended, wanted)


@pytest.mark.parametrize("learned", [False, True])
def test_a_running_mean_of_numbered_frames_is_that_of_a_window(learned: bool) -> None:
    """All of it runs on windows, so that all of it begins with them."""

    class Running(Embedded):
        def tail(self, x: Tensor) -> Tensor:
            return super().tail(x).cumsum(1) / torch.arange(1, FRAMES + 1)[:, None]

    model = make_alive(Running(learned=learned).eval(), wandering_video(CLIP))
    video = wandering_video((1, 2, 13, 4, 5))
    with torch.no_grad():
        wanted = windows_of(model.tail, FRAMES)(model.stem(video))

    with torch.no_grad():
        torch.testing.assert_close(co3d_compile.compile(model, CLIP)(video), wanted)


class OverStates(nn.Module):
    """Attention between the states of a recurrent layer."""

    def __init__(self, *, width: int = 4, joined: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.layer = nn.GRU(2, width, batch_first=True)
        self.scale = nn.Parameter(torch.rand(width))
        self.places = nn.Parameter(torch.randn(FRAMES, width))
        self.scores = nn.Parameter(torch.randn(FRAMES, FRAMES))
        self.joined = joined

    def forward(self, x: Tensor) -> Tensor:
        states = self.layer(x.mean((3, 4)).transpose(1, 2))[0]
        if self.joined is not None:
            states = self.joined(states, self.places)
            return (states @ states.mT).softmax(-1) @ states
        return (states @ states.mT).softmax(-1) @ states * self.scale


@pytest.mark.parametrize("width", [4, FRAMES])
def test_attention_between_states_needs_no_positions(width: int) -> None:
    """Also where a weight of each channel has as many numbers as the clip has frames."""
    model = OverStates(width=width).eval()
    video = wandering_video((1, 2, 13, 4, 5))
    with torch.no_grad():
        states = model.layer(video.mean((3, 4)).transpose(1, 2))[0]
        windows = [states[:, n : n + FRAMES] for n in range(6)]
        wanted = torch.stack([(h @ h.mT).softmax(-1) @ h * model.scale for h in windows], 1)

    with torch.no_grad():
        torch.testing.assert_close(co3d_compile.compile(model, CLIP)(video), wanted)


def behind_scores(states: Tensor, places: Tensor) -> Tensor:
    """A bias for each pair of positions."""
    return (states @ states.mT + places @ places.mT) @ states


def under_a_mask(states: Tensor, places: Tensor) -> Tensor:
    """Each frame attends to those before it."""
    return torch.nn.functional.scaled_dot_product_attention(states, states, states, attn_mask=places @ places.mT)


def behind_attention(states: Tensor, places: Tensor) -> Tensor:
    """Numbers that count, but beside what runs on windows."""
    return ((states @ states.mT).softmax(-1) @ states) / torch.arange(1, FRAMES + 1)[:, None]


def with_numbered_branch(states: Tensor, places: Tensor) -> Tensor:
    """States meet something else that has its place in the clip."""
    return states + (states.new_ones(1, FRAMES, 4) + places).softmax(1)


@pytest.mark.parametrize(
    "joined",
    [
        lambda states, places: states + places,
        lambda states, places: states * torch.linspace(0, 1, FRAMES)[:, None],
        lambda states, places: states / torch.arange(FRAMES, 0, -1)[:, None],
        lambda states, places: states * (torch.arange(FRAMES) / FRAMES)[:, None],
        lambda states, places: states * (torch.arange(FRAMES) - FRAMES // 2)[:, None],
        lambda states, places: states * torch.arange(FRAMES).roll(1)[:, None],
        lambda states, places: states * torch.arange(FRAMES)[:, None] * torch.arange(FRAMES).flip(0)[:, None],
        lambda states, places: torch.cat([states, places[None]], 2),
        behind_scores,
        under_a_mask,
        behind_attention,
        with_numbered_branch,
    ],
    ids=[
        "learned",
        "part",
        "countdown",
        "by the length",
        "centred",
        "rolled",
        "both",
        "channels",
        "scores",
        "mask",
        "behind",
        "branch",
    ],
)
def test_positions_that_meet_what_is_carried_are_refused(joined: Callable[[Tensor, Tensor], Tensor]) -> None:
    model = nn.Sequential(nn.Conv3d(2, 2, 3, padding=1), OverStates(joined=joined))

    with pytest.raises(UnsupportedError) as refused:
        co3d_compile.compile(model.eval(), CLIP, time_axis=2)

    told = str(refused.value)
    assert "1: " in told
    assert "values for each position in the clip (1" in told
    assert "meet what is carried since the start of the video (1.layer), so that no window of frames" in told
    assert (
        "try: count from the start of the video (an arange from 0 or 1 that the clip's length does not change)" in told
    )

"""Frames taken by their places in the clip, such as ``linspace`` gives them: taken at one step, under a policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import ApproximationError, InputError, UnsupportedError
from co3d_compile.testing.alive import make_alive, wandering_video

CLIP = (1, 3, 15, 4, 5)
M = TypeVar("M", bound=nn.Module)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Picked(nn.Module):
    def __init__(self, places: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.places = places

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(2, self.places(x.shape[2]))


class Sampled(nn.Module):
    """A slow pathway that picks its frames from all over the clip, as PySlowFast does."""

    def __init__(self, places: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 4, 3, padding=1)
        self.slow = Picked(places)
        self.after = nn.Conv3d(4, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.slow(self.stem(x).relu()))

    def at_a_step(self, x: Tensor, start: int, step: int) -> Tensor:
        return self.after(self.stem(x).relu()[:, :, start::step])


class Pooled(Sampled):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((2, 3, 4))


def alive(model: M, clip: tuple[int, ...] = CLIP) -> M:
    make_alive(model, wandering_video(clip))
    model.eval()
    return model


def spread(count: int, first: int = 0) -> Callable[[int], Tensor]:
    return lambda frames: torch.linspace(first, frames - 1, count).long()


EVEN = {
    "five of fifteen": (spread(5), 0, 3),  # 0, 3, 7, 10, 14
    "four of fifteen": (spread(4), 0, 4),  # 0, 4, 9, 14
    "from the second on": (spread(4, 1), 1, 4),  # 1, 5, 9, 14
    "a list": (lambda frames: torch.tensor([1, 3, 6, 9, 12]), 1, 3),
}


@pytest.mark.parametrize(("places", "start", "step"), EVEN.values(), ids=EVEN.keys())
def test_frames_are_taken_at_one_step(places: Callable[[int], Tensor], start: int, step: int, tmp_path: Path) -> None:
    model = alive(Sampled(places))
    network = co3d_compile.compile(model, CLIP, policy={"slow": "uniform"})
    video = wandering_video((2, 3, 23, 4, 5), seed=3)
    with torch.no_grad():
        wanted = model.at_a_step(video, start, step)
    stream = network.stream(2)
    came = [stream.push(frame) for frame in video.unbind(2)] + stream.flush()

    (output,) = network.report.outputs
    assert [str(one.path) for one in output.approximations] == ["slow"]
    assert output.approximations[0].reason == (
        f"frames {', '.join(map(str, places(15).tolist()))} of each clip, "
        f"taken as [{start or ''}::{step}] of the video instead"
    )
    assert not network.plan.last_resorts
    assert (output.stride, output.delay) == (step, start + step + 1)
    assert next(tick for tick, one in enumerate(came) if one is not None) == output.delay
    torch.testing.assert_close(torch.cat([one for one in came if one is not None], 2), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network.forward(video), wanted, atol=1e-4, rtol=1e-4)
    network.save(tmp_path / "net.pt")
    assert torch.equal(co3d_compile.load(tmp_path / "net.pt").forward(video), network.forward(video))


@pytest.mark.parametrize("rate", ["native", "dense"])
@pytest.mark.parametrize("pooled", [False, True])
def test_verify_takes_the_originals_frames_alike(rate: Any, pooled: bool) -> None:
    model = alive(Pooled(spread(5)) if pooled else Sampled(spread(5)))
    network = co3d_compile.compile(model, CLIP, policy={"slow": "uniform"}, rate=rate)

    right = network.verify(model)
    with torch.no_grad():
        network.weights.find("after.weight").mul_(1.01)
    wrong = network.verify(model)

    assert right.passed, str(right)
    assert "its frames taken under the same policy" in right.outputs[0].against
    assert not right.notes
    assert not wrong.passed


def test_verify_tells_another_choice_of_frames() -> None:
    model = alive(Sampled(spread(5)))
    network = co3d_compile.compile(model, CLIP, policy={"slow": "uniform"})
    model.slow.places = spread(5, 1)

    assert not network.verify(model).passed


def test_what_is_a_slice_is_verified_as_such() -> None:
    model = alive(Sampled(lambda frames: torch.arange(0, frames, 3)))
    result = co3d_compile.compile(model, CLIP, strict=True).verify(model)

    assert result.passed, str(result)
    assert "policy" not in result.outputs[0].against


def test_without_the_policy_windows_are_exact_and_the_hint_names_it() -> None:
    network = co3d_compile.compile(alive(Sampled(spread(5))), CLIP)
    (refusal,) = network.plan.last_resorts[0].refusals

    assert network.report.exact
    assert refusal.reason == ("it takes frames 0, 3, 7, 10, 14 of 15: from 3 to 7 it is 4 frames, from 0 to 3 it is 3")
    assert refusal.hint == 'x[:, :, ::3], or another uniform step; policy "uniform" takes it so'


def test_exact_is_a_policy_too() -> None:
    network = co3d_compile.compile(alive(Sampled(spread(5))), CLIP, policy={"slow": "exact"}, strict=True)

    assert network.plan.last_resorts[0].refusals[0].path == "slow"


def test_strict_refuses_it() -> None:
    with pytest.raises(ApproximationError) as refused:
        co3d_compile.compile(Sampled(spread(5)), CLIP, policy={"slow": "uniform"}, strict=True)

    assert "slow: frames 0, 3, 7, 10, 14 of each clip, taken as [::3] of the video instead" in str(refused.value)


@pytest.mark.parametrize("places", [[0, 1, 2], [0, 0, 1, 1, 2], [9, 4, 2]])
def test_frames_that_are_at_no_step(places: list[int]) -> None:
    with pytest.raises(UnsupportedError) as refused:
        co3d_compile.compile(Sampled(lambda _: torch.tensor(places)), CLIP, policy={"slow": "uniform"})

    assert f"slow: index_select: it takes frames {', '.join(map(str, places))} of 15" in str(refused.value)
    assert (
        'the policy "uniform" asks for a slice ::s of the clip that gives as many frames, each less than a step away'
        in str(refused.value)
    )


def test_a_policy_that_has_no_meaning_there() -> None:
    with pytest.raises(InputError) as refused:
        co3d_compile.compile(Sampled(spread(5)), CLIP, policy={"slow": "window"})

    assert str(refused.value) == "slow: the policy 'window' has no meaning for it\n  try: one of exact, uniform"


def test_a_gate_is_not_sampled() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x * x.mean((2, 3, 4), keepdim=True)

    with pytest.raises(InputError) as refused:
        co3d_compile.compile(Gated(), CLIP, policy={"*": "uniform"})

    assert str(refused.value) == (
        "mean: the policy 'uniform' has no meaning for it\n  try: one of frame, window, cumulative, exact"
    )


def test_each_part_takes_the_first_policy_that_fits_it() -> None:
    class Both(Sampled):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.after(self.slow(x * x.mean((2, 3, 4), keepdim=True)))

    network = co3d_compile.compile(Both(spread(5)), CLIP, policy={"*": "window", "slow": "uniform"})

    reasons = [one.reason for one in network.report.outputs[0].approximations]
    assert reasons == [
        "a gate on the whole clip, made from the last 15 elements instead",
        "frames 0, 3, 7, 10, 14 of each clip, taken as [::3] of the video instead",
    ]


def test_two_pathways_from_one_video_meet() -> None:
    """What PySlowFast packs by linspace, with its lateral convolution of the same step."""

    class Pathways(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pick = Picked(lambda frames: torch.linspace(0, frames - 1, frames // 4).long())
            self.slow, self.fast = nn.Conv3d(3, 4, (1, 3, 3), padding=(0, 1, 1)), nn.Conv3d(3, 2, 3, padding=1)
            self.lateral = nn.Conv3d(2, 4, (5, 1, 1), stride=(4, 1, 1), padding=(2, 0, 0))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.slow(self.pick(x)), self.lateral(self.fast(x))], 1)

    model = alive(Pathways(), (1, 3, 32, 4, 5))
    network = co3d_compile.compile(model, (1, 3, 32, 4, 5), policy={"pick": "uniform"})
    video = wandering_video((1, 3, 40, 4, 5), seed=3)
    with torch.no_grad():
        wanted = torch.cat([model.slow(video[:, :, ::4]), model.lateral(model.fast(video))], 1)

    torch.testing.assert_close(network.forward(video), wanted, atol=1e-4, rtol=1e-4)
    assert network.verify(model).passed

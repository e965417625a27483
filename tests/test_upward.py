"""Networks whose rate goes up again: decoders, skip connections, frames in channels and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import RateError, UnsupportedError
from co3d_compile.runtime.start import still_ticks
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.law import check_law, windows_of
from tests.functions import Function

CLIP = (1, 2, 8, 8, 8)


class UNet(nn.Module):
    """Two levels down and up again, with a skip connection at each."""

    def __init__(self, up: str) -> None:
        super().__init__()
        self.up = up
        self.fine, self.middle, self.coarse = (nn.Conv3d(c, 4, 3, padding=1) for c in (2, 4, 4))
        self.norm = nn.BatchNorm3d(4)
        self.up_coarse = nn.ConvTranspose3d(4, 4, 2, stride=2)
        self.up_middle = nn.ConvTranspose3d(4, 4, 4, stride=2, padding=1)
        self.join_middle, self.join_fine = nn.Conv3d(8, 4, 3, padding=1), nn.Conv3d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.norm(self.fine(x)).relu()
        middle = self.middle(F.max_pool3d(fine, 2)).relu()
        coarse = self.coarse(F.avg_pool3d(middle, 2)).relu()
        middle = self.join_middle(torch.cat([self.rise(coarse, middle, self.up_coarse), middle], 1)).relu()
        return self.join_fine(torch.cat([self.rise(middle, fine, self.up_middle), fine], 1))

    def rise(self, x: Tensor, like: Tensor, layer: nn.Module) -> Tensor:
        return layer(x) if self.up == "transposed" else F.interpolate(x, like.shape[2:], mode=self.up)


@pytest.mark.parametrize("up", ["transposed", "nearest", "trilinear"])
def test_skip_connections_join_bursts(up: str) -> None:
    torch.manual_seed(0)
    model = UNet(up)
    net = check_law(model, CLIP, lengths=(8, 12, 20), multiple=4, poison=up != "trilinear", batch=2)

    output = net.report.outputs[0]
    assert (output.stride, output.elements) == (4, 4)
    assert net.verify(model).passed


def test_a_saved_decoder_gives_the_same(tmp_path: object) -> None:
    torch.manual_seed(0)
    net = co3d_compile.compile(UNet("transposed"), CLIP)
    net.save(f"{tmp_path}/decoder.pt")
    video = wandering_video((1, 2, 16, 8, 8))

    with torch.no_grad():
        assert torch.equal(co3d_compile.load(f"{tmp_path}/decoder.pt")(video), net(video))


def test_frames_in_channels_come_back_as_frames() -> None:
    torch.manual_seed(0)
    net = check_law(PairsInChannels(), CLIP, lengths=(8, 14), multiple=2)

    output = net.report.outputs[0]
    assert (output.stride, output.elements, output.delay) == (2, 2, 3)


class PairsInChannels(nn.Module):
    """Works on pairs of frames as channels, then beside the frames again."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = nn.Conv3d(4, 4, 3, padding=1)
        self.frames = nn.Conv3d(2, 3, (2, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, h, w = x.shape
        pairs = x.view(n, c, t // 2, 2, h, w).permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * c, t // 2, h, w)
        made = self.pairs(pairs).view(n, c, 2, t // 2, h, w).permute(0, 1, 3, 2, 4, 5).reshape(n, c, t, h, w)
        return self.frames(made + x)[:, :, 1:]


class Behind(nn.Module):
    """A join behind something that cannot be streamed."""

    def __init__(self, refused: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.refused = Function(refused)

    def forward(self, x: Tensor) -> Tensor:
        return self.refused(F.avg_pool3d(x, (2, 1, 1))) + x


def test_a_refusal_wins_over_the_rates_that_follow_from_it() -> None:
    model = Behind(lambda x: F.interpolate(x, scale_factor=(2, 1, 1), mode="trilinear", align_corners=True))

    with pytest.raises(UnsupportedError) as refused:
        co3d_compile.compile(model, CLIP)

    assert [refusal.path for refusal in refused.value.refusals] == ["refused"]
    assert "align_corners puts its 8 elements 0.429 of the clip's 4 apart" in str(refused.value)


def test_rates_that_do_not_meet_are_still_told() -> None:
    model = Function(lambda x: F.interpolate(x, scale_factor=2)[:, :, :8, :8, :8] + x)

    with pytest.raises(UnsupportedError, match="takes frames by their place"):
        co3d_compile.compile(model, CLIP)
    with pytest.raises(RateError, match="strides 1 and 2"):
        co3d_compile.compile(Function(lambda x: F.pad(x[:, :, ::2], (0, 0, 0, 0, 2, 2)) + x), CLIP)


def test_a_pool_over_the_clip_spread_over_it_again_is_a_gate() -> None:
    model = Function(lambda x: x + F.interpolate(x.mean((2, 3, 4), keepdim=True), x.shape[2:], mode="trilinear"))
    net = co3d_compile.compile(model, CLIP)
    video = wandering_video(CLIP)

    approximation = net.report.outputs[0].approximations[0]
    assert "a gate on the whole clip" in approximation.reason
    torch.testing.assert_close(net(video), video + video.mean((3, 4), keepdim=True))


def test_adaptive_pools_are_verified_as_pools_of_the_clip_s_size() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1), nn.AdaptiveAvgPool3d((4, 2, 2)), nn.Flatten(), nn.Linear(64, 3)
    )
    net = co3d_compile.compile(model, CLIP)

    checked = net.verify(model)
    assert checked.passed
    assert len(checked.outputs) == 1
    with torch.no_grad():
        model[0].bias += 1.0
    assert not net.verify(model).passed


@pytest.mark.parametrize("factor", [2, 3])
def test_windows_over_bursts_are_those_of_clips(factor: int) -> None:
    """A clip begins with the first element of a burst, so no window begins within one."""
    torch.manual_seed(0)
    up = nn.ConvTranspose3d(2, 4, (factor, 1, 1), stride=(factor, 1, 1))
    model = nn.Sequential(up, nn.Flatten(), nn.Linear(4 * 5 * factor * 9, 3))
    net = check_law(model, (1, 2, 5, 3, 3), lengths=(5, 9), reference=windows_of(model, 5), stacked=True)

    output = net.report.outputs[0]
    assert (output.stride, output.elements, output.delay) == (1, 1, 4)
    assert net.verify(model).passed


@pytest.mark.parametrize("start", ["valid", "replicate"])
def test_a_decoder_starts_in_each_way(start: Literal["valid", "replicate"]) -> None:
    torch.manual_seed(0)
    model = UNet("nearest")
    make_alive(model, wandering_video(CLIP))
    net = co3d_compile.compile(model, CLIP, start=start)
    video = wandering_video((1, 2, 60, 8, 8))
    timing = net.plan.timing(net.plan.outputs[0].value)
    still = still_ticks(net.plan)
    first = timing.clock.count_through(still - 1) if still else timing.lo.count_through(-1)
    frames = (60 + still) // 4 * 4
    with torch.no_grad():
        whole = model(torch.cat([video[:, :, :1].expand(-1, -1, still, -1, -1), video], 2)[:, :, :frames])
    stream = net.stream()
    came = [stream.push(frame) for frame in video.unbind(2)]

    assert (came[0] is not None) == (start == "replicate")
    made = torch.cat([part for part in came if part is not None], 2)[:, :, :24]
    assert made.shape[2] == 24
    torch.testing.assert_close(made, whole[:, :, first : first + 24], rtol=1e-4, atol=1e-4)


def test_a_state_taken_in_the_middle_of_bursts_goes_on() -> None:
    torch.manual_seed(0)
    net = co3d_compile.compile(UNet("transposed"), CLIP)
    video = wandering_video((2, 2, 24, 8, 8))
    with torch.no_grad():
        whole = net(video)
        first, state = net.advance(video[:, :, :13], net.initial_state(2))
        rest, state = net.advance(video[:, :, 13:], state)
        last, state = [], net.end(state)
        while not net.is_finished(state):
            made, state = net.step(None, state)
            last += [] if made is None else [made]

    torch.testing.assert_close(torch.cat([first, rest, *last], 2), whole, rtol=1e-4, atol=1e-4)


def test_no_dense_rate_for_what_comes_in_bursts() -> None:
    with pytest.raises(UnsupportedError, match="it makes several elements of one"):
        co3d_compile.compile(UNet("transposed"), CLIP, rate="dense")

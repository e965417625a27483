"""State is a value: kept, joined, taken apart and put back, it gives the numbers of one uninterrupted stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import FrameError, StateError
from co3d_compile.network import Network
from co3d_compile.runtime.state import join_states
from co3d_compile.testing.alive import make_alive, wandering_video
from tests.functions import Function

CLIP = (1, 2, 12, 5, 5)
FRAMES = 19


class Residual(nn.Module):
    """Strided branches of unequal delay, and time folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(2, 3, 3, stride=(2, 1, 1), padding=1)
        self.second = nn.Conv3d(3, 3, (3, 1, 1), padding=(1, 0, 0))
        self.shortcut = nn.Conv3d(2, 3, 1, stride=(2, 1, 1))
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = (self.second(self.first(x).relu()) + self.shortcut(x)).transpose(1, 2)
        return self.norm(y.flatten(0, 1)).reshape(y.shape).transpose(1, 2)


def residual(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return make_alive(Residual(), wandering_video(CLIP)).to(dtype)


@pytest.fixture(scope="module")
def net() -> Network:
    return co3d_compile.compile(residual(), CLIP)


def video(batch: int = 1, seed: int = 5) -> Tensor:
    return wandering_video((batch, *CLIP[1:2], FRAMES, *CLIP[3:]), seed=seed)


def steps(net: Network, frames: Tensor, state: Any) -> tuple[list[Tensor], Any]:
    came = []
    for frame in frames.unbind(2):
        out, state = net.step(frame, state)
        if out is not None:
            came.append(out)
    return came, state


def test_an_old_state_stays_valid(net: Network) -> None:
    frames = video()
    _, middle = steps(net, frames[:, :, :8], net.initial_state())
    once, _ = steps(net, frames[:, :, 8:], middle)
    other, _ = steps(net, video(seed=6)[:, :, 8:], middle)
    again, _ = steps(net, frames[:, :, 8:], middle)

    assert all(torch.equal(one, two) for one, two in zip(once, again, strict=True))
    assert not torch.equal(once[-1], other[-1])


def test_a_step_keeps_no_hold_on_the_users_frame(net: Network) -> None:
    frames = video()
    wanted, _ = steps(net, frames, net.initial_state())
    state, buffer, came = net.initial_state(), torch.empty_like(frames[:, :, 0]), []
    for frame in frames.unbind(2):
        out, state = net.step(buffer.copy_(frame), state)
        buffer.fill_(torch.nan)
        came += [] if out is None else [out]

    assert all(torch.equal(one, two) for one, two in zip(came, wanted, strict=True))


def test_two_streams_of_one_network_do_not_meet(net: Network) -> None:
    first, second = net.stream(), net.stream()
    wanted = [net.forward(video(seed=seed)) for seed in (5, 6)]
    came: list[list[Tensor]] = [[], []]
    for one, two in zip(video(seed=5).unbind(2), video(seed=6).unbind(2), strict=True):
        for place, out in enumerate((first.push(one), second.push(two))):
            came[place] += [] if out is None else [out]
    for place, stream in enumerate((first, second)):
        came[place] += [out for out in stream.flush() if out is not None]

    for place in (0, 1):
        torch.testing.assert_close(torch.cat(came[place], 2), wanted[place])


def test_a_stream_goes_back_to_a_kept_state(net: Network) -> None:
    stream = net.stream()
    for frame in video()[:, :, :9].unbind(2):
        stream.push(frame)
    kept = stream.state
    ahead = [stream.push(frame) for frame in video()[:, :, 9:].unbind(2)]
    stream.state = kept
    again = [stream.push(frame) for frame in video()[:, :, 9:].unbind(2)]

    assert all(one is two or torch.equal(one, two) for one, two in zip(ahead, again, strict=True))


def test_reset_starts_over(net: Network) -> None:
    stream = net.stream()
    once = [stream.push(frame) for frame in video().unbind(2)] + stream.flush()
    stream.reset()
    again = [stream.push(frame) for frame in video().unbind(2)] + stream.flush()

    assert all(one is two or torch.equal(one, two) for one, two in zip(once, again, strict=True))


def test_rows_are_streams(net: Network) -> None:
    frames = video(batch=3)
    _, state = steps(net, frames[:, :, :8], net.initial_state(3))
    wanted, _ = steps(net, frames[:, :, 8:], state)
    came, _ = steps(net, frames[[2, 0], :, 8:], state.rows([2, 0]))

    for one, two in zip(came, wanted, strict=True):
        torch.testing.assert_close(one, two[[2, 0]])


def test_streams_that_began_at_other_times_share_their_steps_once_warm(net: Network) -> None:
    early, late = video(seed=5), video(seed=6)
    _, one = steps(net, early[:, :, :12], net.initial_state())
    _, two = steps(net, late[:, :, :10], net.initial_state())
    wanted = [steps(net, early[:, :, 12:18], one)[0], steps(net, late[:, :, 10:16], two)[0]]
    came, _ = steps(net, torch.cat([early[:, :, 12:18], late[:, :, 10:16]]), join_states([one, two]))

    for place in (0, 1):
        torch.testing.assert_close(torch.cat(came, 2)[place], torch.cat(wanted[place], 2)[0])


def test_states_at_other_phases_do_not_join(net: Network) -> None:
    _, one = steps(net, video()[:, :, :1], net.initial_state())

    with pytest.raises(StateError, match="hold different elements"):
        join_states([one, net.initial_state()])


def test_there_are_no_rows_beyond_the_batch(net: Network) -> None:
    with pytest.raises(StateError, match="streams 0 to 1, not"):
        net.initial_state(2).rows([2])


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-12), (torch.bfloat16, 0.1)])
def test_other_dtypes_stream_as_they_are(dtype: torch.dtype, allowed: float) -> None:
    model = residual(dtype)
    frames = video().to(dtype)
    with torch.no_grad():
        wanted = model(frames)

    came = co3d_compile.compile(model, CLIP).forward(frames)

    assert came.dtype == dtype
    torch.testing.assert_close(came, wanted, rtol=0.0, atol=allowed)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_chunks_change_no_number(net: Network, chunk: int) -> None:
    with torch.no_grad():
        torch.testing.assert_close(net.forward(video(2), chunk=chunk), residual()(video(2)))


def test_valid_holds_back_what_has_seen_padding() -> None:
    """The oracle: elements of the whole run that a change of nothing but the padding leaves alone."""
    model = residual()
    with torch.no_grad():
        wanted = model(video())

    came = co3d_compile.compile(model, CLIP, start="valid").forward(video())

    # lo(n) = 2n - 3 >= 0 and hi(n) = 2n + 3 < 19 (design.md, section 3)
    torch.testing.assert_close(came, wanted[:, :, 2:8])


def test_valid_holds_back_what_has_seen_padding_where_a_frame_was_cut_off() -> None:
    """Element 0 reads no frame before the first, yet a zero in place of frame 0."""
    conv = nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0))
    model = Function(lambda x, conv: conv(x[:, :, 1:]), conv=conv).eval()
    net = co3d_compile.compile(model, CLIP, start="valid")
    with torch.no_grad():
        wanted = model(video())

        torch.testing.assert_close(net.forward(video()), wanted[:, :, 1:-1])
    assert net.report.outputs[0].steady_tick == 3


def test_valid_holds_back_what_has_seen_padding_where_the_last_frame_was_cut_off() -> None:
    """The last element reads a zero in place of the last frame."""
    conv = nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0))
    model = Function(lambda x, conv: conv(x[:, :, :-1])[:, :, 1:], conv=conv).eval()
    net = co3d_compile.compile(model, CLIP, start="valid")
    with torch.no_grad():
        wanted = model(video())

        torch.testing.assert_close(net.forward(video()), wanted[:, :, :-1])
    # a clip of 12 frames gives 11 elements, of which the first and the last have seen padding
    assert [layer.padded_share for layer in net.report.layers if layer.path == "conv"] == [2 / 11]


def test_replicate_answers_from_the_first_frame_as_after_a_still_video() -> None:
    model = residual()
    still = video()[:, :, :1].expand(-1, -1, 21, -1, -1)
    with torch.no_grad():
        # element 9 stands at tick 2 * 9 + 3 = 21, where the still part ends
        wanted = model(torch.cat([still, video()], 2))[:, :, 9:]

    stream = co3d_compile.compile(model, CLIP, start="replicate").stream()
    came = [stream.push(frame) for frame in video().unbind(2)] + stream.flush()
    outs = [out for out in came if out is not None]

    assert came[0] is not None
    torch.testing.assert_close(torch.cat(outs, 2), wanted, rtol=1e-4, atol=1e-5)


def test_what_comes_out_is_the_users_to_write_to() -> None:
    """An output that a shortcut reads again later: writing to it must not reach the state."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 2, 3, padding=1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = torch.relu(x)
            return y, y + self.conv(y)

    net = co3d_compile.compile(Twice().eval(), (1, 2, 6, 4, 4))
    video = torch.randn(1, 2, 9, 4, 4)
    wanted = net.forward(video)[1]
    stream, sums = net.stream(), []
    for t in range(9):
        first, second = stream.push(video[:, :, t])
        first.fill_(1e6)
        sums += [] if second is None else [second]
    sums += [out[1] for out in stream.flush()]

    assert torch.allclose(torch.cat(sums, 2), wanted, atol=1e-5)


def test_a_part_of_a_tensor_in_the_state_holds_no_more_than_itself() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            half, _ = torch.relu(x).chunk(2, 1)
            return nn.functional.avg_pool3d(half, (3, 1, 1), 1)

    net = co3d_compile.compile(Half().eval(), (1, 8, 6, 4, 4))
    stream = net.stream()
    for _ in range(5):
        stream.push(torch.randn(1, 8, 4, 4))

    assert stream.state.bytes == net.report.totals.state_bytes == 2 * 4 * 4 * 4 * 4


@pytest.mark.parametrize("start", ["zeros", "replicate"])
def test_chunks_of_random_sizes_and_single_steps_give_the_numbers_of_one_stream(start: Any) -> None:
    sizes = np.random.default_rng(0).integers(1, 8, size=40).tolist()
    net = co3d_compile.compile(residual(), CLIP, start=start)
    clip = video(2)
    wanted = net.forward(clip)
    parts, state, at = [], net.initial_state(2), 0
    while at < FRAMES:
        size = min(sizes.pop(), FRAMES - at)
        if size == 1:
            output, state = net.step(clip[:, :, at], state)
            parts += [] if output is None else [output]
        else:
            outputs, state = net.advance(clip[:, :, at : at + size], state)
            parts.append(outputs)
        at += size
    state = net.end(state)
    while not net.is_finished(state):
        output, state = net.step(None, state)
        parts += [] if output is None else [output]

    torch.testing.assert_close(torch.cat(parts, 2), wanted)


def test_a_video_of_another_batch_than_the_states_is_refused() -> None:
    net = co3d_compile.compile(residual(), CLIP)

    with pytest.raises(FrameError, match=r"the video holds 2 stream\(s\), the state 1"):
        net.advance(video(2), net.initial_state(1))

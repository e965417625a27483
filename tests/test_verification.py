"""verify tells right from wrong: it passes what is equal, and names the first tensor of what is not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

import co3d_compile
from co3d_compile.errors import InputError, VerificationError
from co3d_compile.network import Network
from co3d_compile.testing.alive import make_alive, wandering_video
from tests.functions import Function

CLIP = (1, 3, 8, 8, 8)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Block(nn.Module):
    """A residual block with temporal stride in both branches."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, out, 3, (stride, 1, 1), 1)
        self.bn1 = nn.BatchNorm3d(out)
        self.conv2 = nn.Conv3d(out, out, 3, 1, 1)
        self.shortcut = nn.Conv3d(channels, out, 1, (stride, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.bn1(self.conv1(x)))
        return torch.relu(self.conv2(y) + self.shortcut(x))


class FixedHead(nn.Module):
    """A head that only takes the clip's own length."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(3, 4, 2)
        self.fc = nn.Linear(4 * 4 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc(self.block(x).view(-1, 1024))
        return result


class Gated(nn.Module):
    """A gate on the clip's mean that loses the dimensions of time and space on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(3, 4, 1)
        self.fc = nn.Linear(4, 4)
        self.last = nn.Conv3d(4, 2, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        gate = torch.sigmoid(self.fc(y.mean((2, 3, 4))))
        return self.last(y * gate.view(-1, 4, 1, 1, 1))


class Context(nn.Module):
    """The clip's mean expanded over it again and joined along channels, made from the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv3d(3, 4, 3, padding=1)
        self.far = nn.Conv3d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        context = self.far(nn.functional.adaptive_avg_pool3d(x, 1))
        return torch.cat([self.near(x), context.expand(-1, -1, *x.shape[2:])], 1)


class Recurrent(nn.Module):
    """A loop over the clip's frames, unrolled by the capture."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x[:, :, 0]
        for t in range(1, x.shape[2]):
            h = (self.mix(h) + x[:, :, t]) / 2
        return h


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 4, 2), Block(4, 4, 2))
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.blocks(x)
        return {"map": y, "scores": self.fc(nn.functional.adaptive_avg_pool3d(y, 1).flatten(1))}


def _compiled(model: nn.Module, **options: Any) -> tuple[nn.Module, Network]:
    torch.manual_seed(0)
    make_alive(model.eval(), wandering_video(CLIP, seed=1))
    return model, co3d_compile.compile(model, CLIP, **options)


def test_several_outputs_are_compared_on_the_whole_video_and_on_every_window() -> None:
    model, net = _compiled(Pooled())

    result = net.verify(model)

    assert result.passed, str(result)
    assert [output.against.split(",")[0] for output in result.outputs] == [
        "the original on the whole video",
        "the original on every window",
    ]
    assert all(output.movement > 0.01 and output.elements >= 3 for output in result.outputs)
    assert "equal to the original" in str(result)


def test_a_head_for_one_length_is_replayed_on_every_window() -> None:
    model, net = _compiled(FixedHead())

    result = net.verify(model)

    assert result.passed, str(result)
    assert "stops on a longer video" in str(result)
    assert result.outputs[0].elements == 3


@pytest.mark.parametrize("policy", ["frame", "window"])
def test_gates_are_compared_with_the_original_gated_alike(policy: Any) -> None:
    model, net = _compiled(Gated(), policy={"*": policy})
    video = wandering_video((1, 3, 13, 8, 8), seed=2)

    result = net.verify(model)
    with torch.no_grad():
        made = net.forward(video)
        wanted = _gated_by_hand(model, video, policy)

    assert result.passed, str(result)
    assert "its gates made under the same policy" in result.outputs[0].against
    assert torch.allclose(made, wanted, atol=1e-5)


def _gated_by_hand(model: Any, video: Tensor, policy: str) -> Tensor:
    y = model.block(video)
    means = []
    for n in range(y.shape[2]):
        first = n if policy == "frame" else max(0, n - 7)
        means.append(y[:, :, first : n + 1].mean((2, 3, 4)))
    gates = torch.sigmoid(model.fc(torch.stack(means, 1))).movedim(1, 2)[..., None, None]
    return model.last(y * gates)  # type: ignore[no-any-return]


@pytest.mark.parametrize("model", [Context(), Recurrent()], ids=["context", "recurrent"])
def test_what_reads_the_input_itself_is_compared_too(model: nn.Module) -> None:
    model, net = _compiled(model)

    result = net.verify(model)

    assert result.passed, str(result)
    assert result.outputs[0].movement > 0.1


def test_a_wider_window_is_compared_with_the_original_on_a_longer_clip() -> None:
    model, net = _compiled(Pooled(), window=3)

    result = net.verify(model)

    assert result.passed, str(result)
    assert result.frames > 12


def test_changed_weights_are_found_and_the_first_tensor_is_named() -> None:
    model, net = _compiled(Pooled())
    changed = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    changed["blocks.1.conv2.bias"] += 0.01
    net.load_state_dict(changed)

    result = net.verify(model)

    assert not result.passed
    assert result.first_difference is not None
    assert result.first_difference.path == "blocks.1.conv2"
    assert "DIFFERENT" in str(result)
    assert "first difference: blocks.1.conv2" in str(result)


def test_taps_in_the_wrong_order_are_found() -> None:
    """Values of the right shape and size from the wrong ticks."""
    model, net = _compiled(Pooled())
    changed = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    changed["blocks.0.conv1.weight"] = changed["blocks.0.conv1.weight"].flip(2)
    net.load_state_dict(changed)

    result = net.verify(model)

    assert result.first_difference is not None
    assert result.first_difference.path in ("blocks.0.conv1", "blocks.0.bn1")


def test_another_model_is_refused() -> None:
    _, net = _compiled(Pooled())

    with pytest.raises(VerificationError, match="not the one that this network was compiled from"):
        net.verify(Gated().eval())


@pytest.mark.parametrize("wrapped", [partial(torch.compile, backend="eager"), nn.DataParallel, nn.Sequential])
def test_a_wrapper_is_verified_as_the_model_in_it(wrapped: Callable[[nn.Module], nn.Module]) -> None:
    """Weights have the wrapper's attribute before their names; nothing is compiled to be compared."""
    model, net = _compiled(Pooled())
    wrapper = wrapped(model)
    counters.clear()
    of_wrapper = co3d_compile.compile(wrapper, CLIP)

    results = [net.verify(wrapper), of_wrapper.verify(model), of_wrapper.verify(wrapper)]
    deviations = [net.deviation(wrapper), of_wrapper.deviation(model)]

    assert [result.passed for result in results] == [True] * 3
    assert max(one.largest for found in deviations for one in found) < 1e-5
    assert list(of_wrapper.state_dict()) == list(wrapper.state_dict())
    assert counters["frames"]["total"] == 0


def test_a_video_shorter_than_the_clip_is_refused() -> None:
    model, net = _compiled(Pooled())

    with pytest.raises(InputError, match="a video of 5 frames is shorter than the window of 8"):
        net.verify(model, frames=5)


def test_a_model_in_double_precision_agrees_to_its_own_rounding() -> None:
    torch.manual_seed(0)
    model = make_alive(Pooled().eval().double(), wandering_video(CLIP, seed=1, dtype=torch.float64))
    net = co3d_compile.compile(model, CLIP)

    result = net.verify(model)

    assert result.passed, str(result)
    assert max(output.difference for output in result.outputs) < 1e-12


class Deep(nn.Module):
    """Layers that magnify the rounding of what they read, layer by layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.first(x))
        for _ in range(9):
            y = torch.sin(3 * y)
        return y


def test_rounding_that_a_network_magnifies_is_told_from_a_difference_in_double_precision() -> None:
    model, net = _compiled(Deep())
    changed = {name: tensor * 1.001 for name, tensor in model.state_dict().items()}

    result = net.verify(model)
    net.load_state_dict(changed)
    wrong = net.verify(model)

    assert result.passed, str(result)
    assert result.in_double is not None
    assert "in float64 the largest difference is" in str(result)
    assert not wrong.passed


class MixedPrecision(nn.Module):
    """Convolutions in two bytes per number, a head in four."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.Conv3d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 6, 3))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.convs(x)
        result: Tensor = self.head(y.float().mean((3, 4)).movedim(1, 2))
        return result


def test_what_follows_from_two_bytes_per_number_agrees_to_their_rounding() -> None:
    model, net = _compiled(MixedPrecision())

    result = net.verify(model)
    changed = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    changed["convs.0.weight"] = changed["convs.0.weight"].flip(2)
    net.load_state_dict(changed)
    wrong = net.verify(model)

    assert result.passed, str(result)
    assert result.outputs[0].tolerance > 100 * torch.finfo(torch.float32).eps * result.outputs[0].largest
    assert wrong.first_difference is not None
    assert wrong.first_difference.name == "conv3d"


class DeepInSingle(Deep):
    """Fails in double precision, as it asks for single itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def test_a_model_that_fails_in_double_precision_keeps_its_result_in_single() -> None:
    model, net = _compiled(DeepInSingle())

    result = net.verify(model)

    assert not result.passed
    assert result.in_double is None
    assert "note: float64 could not tell a difference from rounding: the model fails in it (" in str(result)


def test_an_output_that_hardly_moves_is_said_to_tell_little() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 2, 3, padding=1), nn.AdaptiveAvgPool3d(1)).eval()
    with torch.no_grad():
        model[0].bias.fill_(1e5)
    net = co3d_compile.compile(model, CLIP)

    assert "says little about time" in str(net.verify(model))


class LiteralSizes(nn.Module):
    """Takes clips of 8 frames alone: its sizes are written out before what reads neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(2, 4, 3, padding=1)
        self.lines = nn.Conv1d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.lines(x.permute(0, 3, 4, 1, 2).reshape(16, 4, 8)).relu()
        y = self.lines(y)
        return self.head(y.view(1, 4, 4, 4, 8).mean((1, 2, 4)))


def test_what_reads_neighbours_behind_literal_sizes_is_put_together_from_windows() -> None:
    torch.manual_seed(0)
    model = make_alive(LiteralSizes(), wandering_video((1, 2, 8, 4, 4)))
    result = co3d_compile.compile(model, (1, 2, 8, 4, 4)).verify(model, frames=12)

    assert result.passed, str(result)
    assert result.outputs[0].elements == 5
    assert {"lines"} <= {one.path for one in result.intermediates}


def test_a_difference_behind_literal_sizes_is_found() -> None:
    torch.manual_seed(0)
    model = make_alive(LiteralSizes(), wandering_video((1, 2, 8, 4, 4)))
    net = co3d_compile.compile(model, (1, 2, 8, 4, 4))
    with torch.no_grad():
        model.lines.weight[..., 2] *= 1.01

    assert not net.verify(model, frames=12).passed


class Chomped(nn.Module):
    """Padded at both ends and cut to its length again, as in a temporal convolutional network, before a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(3, 4, 3, padding=4, dilation=2)
        self.conv2 = nn.Conv1d(4, 4, 3, padding=4, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((3, 4))
        for conv in (self.conv1, self.conv2):
            x = torch.relu_(conv(x)[:, :, 2:-2].contiguous())
        return x.mean(2)


def test_what_a_slice_cuts_off_is_not_missed_and_a_copy_of_it_is_followed() -> None:
    model = make_alive(Chomped(), wandering_video(CLIP))
    net = co3d_compile.compile(model, CLIP)

    result = net.verify(model)

    assert result.passed, str(result)
    assert result.outputs[0].elements >= 3


class ClipSizedPool(nn.Module):
    """A head whose pool is as large as what it is given, whatever that is."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(3, 4, 2)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.block(x))
        x = F.avg_pool3d(x, x.data.size()[-3:])
        result: Tensor = self.fc(x.view(x.size(0), -1))
        return result


@pytest.mark.parametrize("frames", [2, 8])
def test_a_pool_that_grows_with_the_video_is_compared_on_windows(frames: int) -> None:
    model = make_alive(ClipSizedPool().eval(), wandering_video(CLIP))
    net = co3d_compile.compile(model, (1, 3, frames, 8, 8))

    result = net.verify(model)

    assert result.passed, str(result)
    assert result.outputs[0].against.startswith("the original on every window")


class Looped(nn.Module):
    """A longer video makes more calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        states = [x[:, :, 0]]
        for t in range(1, x.shape[2]):
            states.append((states[-1] + x[:, :, t]) / 2)
        return torch.stack(states, 2)


@pytest.mark.parametrize(
    ("model", "runs"), [(nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU()), 1), (Looped(), 2)]
)
def test_the_original_runs_on_the_whole_video_once_unless_that_makes_other_calls(model: nn.Module, runs: int) -> None:
    """Once for its numbers, once with NaN for its ticks; a loop over frames needs as many more to tell its calls."""
    network = co3d_compile.compile(model.eval(), (1, 3, 8, 4, 5))
    lengths: list[int] = []
    model.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[2]))

    result = network.verify(model, frames=13)

    assert result.passed, str(result)
    assert lengths.count(13) == 2 * runs


@pytest.mark.parametrize(
    "tail",
    [
        lambda y: F.normalize(y, dim=1),
        lambda y: F.normalize(y, dim=1).mean((2, 3, 4)),
        lambda y: y.mean(1, keepdim=True).expand_as(y),
        lambda y: y.mean((3, 4), keepdim=True).expand(-1, -1, -1, 8, 8).sum((3, 4)),
    ],
    ids=["normalised", "normalised, pooled", "expanded over channels", "expanded over space"],
)
def test_what_is_kept_at_size_one_is_compared_at_full_size(tail: Callable[[Tensor], Tensor]) -> None:
    model = Function(lambda x, conv: tail(conv(x)), conv=nn.Conv3d(3, 4, 3)).eval()

    result = co3d_compile.compile(model, CLIP).verify(model)

    assert result.passed
    assert all(one.elements == one.expected for one in (*result.outputs, *result.intermediates))


def test_a_default_device_of_the_users_changes_nothing() -> None:
    """What we draw and make ourselves lies where the model's weights are: here the default holds no numbers at all."""
    model = make_alive(Pooled().eval(), wandering_video(CLIP, seed=1))

    with torch.device("meta"):
        net = co3d_compile.compile(model, CLIP, state_dtype="bfloat16")
        result = net.verify(model)
        net.deviation(model)

    assert result.passed, str(result)


@pytest.mark.parametrize(
    "tail",
    [
        lambda frames: F.one_hot(frames.argmax(1), 4).float(),
        lambda frames: frames[:, :, :, None].expand(-1, -1, -1, 2, -1).reshape(len(frames), 4, 12, 6),
    ],
    ids=["with a check of values", "expanded with time in the batch"],
)
def test_frames_in_the_batch_are_compared(tail: Callable[[Tensor], Tensor]) -> None:
    model = Function(lambda x, conv: tail(conv(x).transpose(1, 2).flatten(0, 1)), conv=nn.Conv3d(3, 4, 3)).eval()

    result = co3d_compile.compile(model, CLIP).verify(model)

    assert result.passed, str(result)


class LastStates(nn.Module):
    """Recurrent layers, each behind a convolution that pads, and the states with which they end."""

    def __init__(
        self, layer: type[nn.RNNBase], head: Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor]]
    ) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv3d(3, 4, 3, padding=1), nn.Conv3d(3, 4, 3, padding=1)
        self.memory, self.other_memory = layer(4, 5, 2, batch_first=True), layer(4, 5, batch_first=True)
        self.head = head

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        states, last = self.memory(self.conv(x).mean((3, 4)).transpose(1, 2))
        others, _ = self.other_memory(self.other(x).mean((3, 4)).transpose(1, 2))
        return self.head(states + others, last[0] if isinstance(last, tuple) else last)


HEADS = {
    "last state": lambda states, last: last[-1] * 2,
    "of all layers": lambda states, last: last.transpose(0, 1).flatten(1),
    "all states": lambda states, last: states,
    "both": lambda states, last: (states, last[-1]),
    "last of both layers": lambda states, last: states[:, -1],
    "mean of a window": lambda states, last: states.mean(1),
}


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_recurrent_layers_one_after_the_other_are_compared_with_their_last_states(
    layer: type[nn.RNNBase], head: Callable[[Tensor, Tensor], Tensor]
) -> None:
    model = LastStates(layer, head).eval()
    network = co3d_compile.compile(model, CLIP)

    result = network.verify(model)

    assert result.passed, str(result)
    with torch.no_grad():
        model.memory.weight_hh_l0 *= 1.5
    assert not network.verify(model).passed


class SamePadding(nn.Module):
    """Pads by what its strides leave over, as networks that come from TensorFlow do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(3, 4, 3, 2), nn.Conv3d(4, 4, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.first, self.second):
            over = [1 if size % 2 == 0 else 2 for size in reversed(x.shape[2:])]
            x = conv(F.pad(x, [side for pad in over for side in (pad // 2, pad - pad // 2)]))
        return x


def test_padding_that_follows_from_the_length_is_compared_where_it_is_as_on_the_clip() -> None:
    model = SamePadding().eval()
    network = co3d_compile.compile(model, CLIP, rate="dense")

    result = network.verify(model, frames=24)

    assert result.passed, str(result)
    assert not result.notes
    assert result.outputs[0].elements > 6, "those of other phases than the first too"
    with torch.no_grad():
        model.second.bias += 0.1
    assert not network.verify(model).passed


def test_of_frames_that_look_alike_the_one_of_the_same_place_is_compared() -> None:
    """Both padded frames of the clip are zeros; in the middle of a video they are its own."""

    def backwards(x: Tensor, conv: nn.Conv2d) -> Tensor:
        p = F.pad(x, (0, 0, 0, 0, 1, 1))
        h = p[:, :, -1]
        for t in reversed(range(p.shape[2] - 1)):
            h = conv(h + p[:, :, t])
        return h

    model = Function(backwards, conv=nn.Conv2d(3, 3, 3, padding=1)).eval()

    result = co3d_compile.compile(model, CLIP).verify(model)

    assert result.passed, str(result)

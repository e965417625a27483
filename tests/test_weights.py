"""The weights stay the original's: keys, new values, other dtypes, gradients."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.testing.alive import make_alive, wandering_video

CLIP = (1, 2, 8, 6, 6)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, 3, (2, 1, 1), 1)
        self.norm = nn.BatchNorm3d(4)
        self.last = nn.Conv3d(4, 3, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv(x)))
        padding = torch.zeros(y.shape[0], 1, *y.shape[2:], dtype=y.dtype)
        result: Tensor = self.last(torch.cat([y[:, :3], padding], 1))
        return result


def _alive(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make_alive(Small(), wandering_video(CLIP, seed=1), seed=seed)


def _streamed(net: co3d_compile.Network, video: Tensor) -> Tensor:
    stream = net.stream()
    outputs = [stream.push(video[:, :, t]) for t in range(video.shape[2])] + stream.flush()
    return torch.cat([output for output in outputs if output is not None], 2)


def test_the_keys_are_the_originals_and_other_weights_take_effect_at_once() -> None:
    model, other = _alive(), _alive(seed=5)
    net = co3d_compile.compile(model, CLIP)
    video = wandering_video((1, 2, 11, 6, 6), seed=2)
    _streamed(net, video)

    net.load_state_dict(other.state_dict())

    assert list(net.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        assert torch.allclose(_streamed(net, video), other(video), atol=1e-5)
        assert torch.allclose(net(video), other(video), atol=1e-5)


def test_a_weight_that_an_optimiser_changes_takes_effect_at_the_next_step() -> None:
    model = _alive()
    net = co3d_compile.compile(model, CLIP)
    video = wandering_video((1, 2, 11, 6, 6), seed=2)
    _streamed(net, video)

    with torch.no_grad():
        for parameter in (*net.parameters(), *model.parameters()):
            parameter.mul_(1.5)

        assert torch.allclose(_streamed(net, video), model(video), atol=1e-4)


def test_gradients_are_those_of_the_original_on_the_whole_video() -> None:
    model = _alive()
    net = co3d_compile.compile(model, CLIP)
    video = wandering_video((1, 2, 13, 6, 6), seed=2)

    model(video).pow(2).sum().backward()
    net(video, chunk=4).pow(2).sum().backward()

    wanted = dict(model.named_parameters())
    made = {name: tensor for name, tensor in net.weights.named() if isinstance(tensor, nn.Parameter)}
    assert wanted.keys() == made.keys()
    for name, parameter in wanted.items():
        assert parameter.grad is not None
        assert made[name].grad is not None
        assert torch.allclose(made[name].grad, parameter.grad, rtol=1e-3, atol=1e-4), name


def test_a_network_moves_to_another_dtype_as_its_model_does() -> None:
    model = _alive()
    net = co3d_compile.compile(model, CLIP)
    video = wandering_video((1, 2, 11, 6, 6), seed=2)

    net.double()

    with torch.no_grad():
        wanted = copy.deepcopy(model).double()(video.double())
        assert (_streamed(net, video.double()) - wanted).abs().max() < 1e-12
        assert (net(video.double()) - wanted).abs().max() < 1e-12


def test_compiling_leaves_the_model_in_its_own_modes() -> None:
    model = _alive()
    model.train()
    model.norm.eval()  # type: ignore[union-attr]

    net = co3d_compile.compile(model, CLIP)

    assert model.training
    assert not model.norm.training  # type: ignore[union-attr]
    video = wandering_video((1, 2, 9, 6, 6), seed=2)
    with torch.no_grad():
        assert torch.allclose(net(video), model.eval()(video), atol=1e-5)


def test_what_is_compiled_or_loaded_under_inference_mode_streams_anywhere_and_is_trained_outside(
    tmp_path: Path,
) -> None:
    model = _alive()
    video = wandering_video((1, 2, 11, 6, 6), seed=2)
    with torch.no_grad():
        expected = model(video)
    co3d_compile.compile(model, CLIP).save(tmp_path / "network.pt")
    with torch.inference_mode():
        nets = [
            co3d_compile.compile(model, CLIP),
            co3d_compile.load(tmp_path / "network.pt"),
            co3d_compile.load(tmp_path / "network.pt").double().float(),
        ]
        copied = copy.deepcopy(nets[0])

        for net in (*nets, copied):
            torch.testing.assert_close(_streamed(net, video), expected, atol=1e-5, rtol=1e-5)

    for net in nets:
        torch.testing.assert_close(_streamed(net, video), expected, atol=1e-5, rtol=1e-5)
        net(video).sum().backward()
    torch.testing.assert_close(_streamed(copied, video), expected, atol=1e-5, rtol=1e-5)


def test_networks_and_streams_are_pickled_before_and_after_their_first_frame() -> None:
    net = co3d_compile.compile(_alive(), CLIP)
    video = wandering_video((1, 2, 11, 6, 6), seed=2)
    fresh = pickle.loads(pickle.dumps(net))
    stream = net.stream()
    for frame in video[:, :, :6].unbind(2):
        stream.push(frame)

    halfway = pickle.loads(pickle.dumps(stream))

    for frame in video[:, :, 6:].unbind(2):
        assert _equal(halfway.push(frame), stream.push(frame))
    for one in (fresh, pickle.loads(pickle.dumps(net))):
        assert torch.equal(_streamed(one, video), _streamed(net, video))


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other if one is None or other is None else torch.equal(one, other)

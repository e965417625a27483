"""Published networks obey the law: their trunks element by element, whole networks on every window.

``CO3D_ZOO=full`` takes larger frames and longer videos.
"""

from __future__ import annotations

import copy
import os
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.law import axes_of, check_video, tolerance
from tests.zoo_models import ZOO, trunk

FULL = os.environ.get("CO3D_ZOO") == "full"
SIZES = {"s3d": 64, "x3d_xs": 64, "x3d_s": 64, "x3d_m": 64}
TRUNKS = {
    "r3d_18": 16,
    "mc3_18": 8,
    "r2plus1d_18": 16,
    "s3d": 16,
    "slow": 8,
    "c2d": 8,
    "i3d": 8,
    "csn": 16,
    "r2plus1d": 8,
}
WHOLE = {"r3d_18": 16, "mc3_18": 8, "r2plus1d_18": 16, "slow": 8, "i3d": 8, "x3d_xs": 4}
if FULL:
    WHOLE |= {"x3d_s": 13, "x3d_m": 16, "c2d": 8, "csn": 32, "r2plus1d": 16}

pytestmark = pytest.mark.slow


def _built(name: str, frames: int) -> tuple[nn.Module, tuple[int, ...]]:
    size = SIZES.get(name, 32) * (2 if FULL else 1)
    torch.manual_seed(0)
    model, clip = ZOO[name].build(frames, size), ZOO[name].clip(frames, size)
    return model, clip


def _sample(clip: tuple[int, ...]) -> Tensor:
    """Longer than any clip: statistics measured on frames that see padding let a long video explode layer by layer."""
    return wandering_video((2, 3, max(24, clip[2]), *clip[3:]), seed=1)


def _make_alive(model: nn.Module, clip: tuple[int, ...]) -> None:
    """With gates per frame, as in the stream."""
    gated = _with_gates_per_frame(model)
    make_alive(gated, _sample(clip))
    model.load_state_dict(gated.state_dict())


@pytest.mark.parametrize("name", TRUNKS)
def test_a_trunk_gives_what_the_original_gives_on_the_whole_video(name: str) -> None:
    whole, clip = _built(name, TRUNKS[name])
    model = make_alive(trunk(whole).eval(), _sample(clip))
    # large frames in double precision: deep untrained trunks magnify float32's rounding to the law's tolerance
    dtype = torch.float64 if FULL else torch.float32
    model.to(dtype)
    net = co3d_compile.compile(model, clip)

    with torch.no_grad():
        for frames in (clip[2], clip[2] + 5):
            video = wandering_video((1, 3, frames, *clip[3:]), seed=frames).to(dtype)
            check_video(net, model, video, axes_of(model, video))


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_network_gives_what_the_original_gives_on_every_window(name: str) -> None:
    model, clip = _built(name, WHOLE[name])
    _drop_softmax(model)
    _make_alive(model, clip)
    net = co3d_compile.compile(model, clip)

    result = net.verify(model)

    assert result.passed, str(result)
    assert len(result.intermediates) > 40
    assert all(output.elements >= 3 and output.movement > 1e-2 for output in result.outputs), str(result)


def test_the_gates_of_x3d_are_those_of_the_original_made_per_frame() -> None:
    model, clip = _built("x3d_xs", 4)
    _make_alive(model, clip)
    # double precision: the gates of an untrained network magnify float32's rounding beyond the law's tolerance
    model.double()
    net = co3d_compile.compile(trunk(model), clip)
    reference = _with_gates_per_frame(trunk(model))
    video = wandering_video((1, 3, 11, *clip[3:]), seed=3).double()

    with torch.no_grad():
        check_video(net, reference, video, axes_of(reference, video))
        moved = tolerance(reference(video), 2)
        clip_gates = trunk(model)(video)

    assert len(net.plan.outputs[0].approximations) > 10
    assert (reference(video) - clip_gates).abs().max() > 100 * moved, "the gates make a difference"


def _with_gates_per_frame(model: nn.Module) -> nn.Module:
    """A copy whose squeeze-and-excitation squeezes space alone."""
    changed = copy.deepcopy(model)
    for module in changed.modules():
        if module._get_name() == "SqueezeExcitation":
            module.forward = MethodType(_gate_per_frame, module)  # type: ignore[method-assign]
    return changed


def _gate_per_frame(gate: Any, x: Tensor) -> Tensor:
    result: Tensor = x * gate.block(x.mean((3, 4), keepdim=True))
    return result


def _drop_softmax(model: nn.Module) -> None:
    """A saturated softmax hides differences and magnifies rounding."""
    for module in model.modules():
        if isinstance(getattr(module, "activation", None), nn.Softmax):
            module.activation = None  # type: ignore[assignment]

"""The networks of ``examples/networks`` obey the law, and what any stream must hold, at a small size."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

import co3d_compile
from co3d_compile.network import Network
from co3d_compile.testing.alive import wandering_video
from co3d_compile.testing.law import axes_of, check_video
from examples.networks.catalogue import EXAMPLES
from tests.paper_networks import Trunk, alive, on_any_video, time_axis
from tests.properties import check_properties

pytestmark = pytest.mark.slow

WINDOWED = ("c3d", "nonlocal_i3d", "nonlocal_i3d_frame", "atfr_sgs", "cnn_lstm_last")
"""Networks whose trunk answers for windows: something in it looks at the whole clip (C3D's last pool spans it)."""

ENDLESS = ("rcu", "cnn_lstm", "cnn_lstm_last", "movinet")
"""Networks that remember from the first frame on."""

APPROXIMATE = ("unet", "nonlocal_i3d_frame")


@cache
def made(name: str) -> tuple[nn.Module, Network]:
    """A network and its stream, for the tests that change neither."""
    model = alive(name)
    return model, compiled(name, model)


def compiled(name: str, model: nn.Module) -> Network:
    return co3d_compile.compile(model, EXAMPLES[name].clip(small=True), **EXAMPLES[name].options)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_stream_gives_what_the_original_gives(name: str) -> None:
    example = EXAMPLES[name]
    model, net = made(name)
    frames = example.small.frames + 2 * net.plan.period + 1

    result = net.verify(model, frames=-(-frames // example.lengths) * example.lengths)

    assert result.passed, str(result)
    assert all(output.elements >= 2 and output.movement > 1e-3 for output in result.outputs), str(result)
    assert net.report.exact is (name not in APPROXIMATE)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in (*WINDOWED, *APPROXIMATE)])
def test_a_trunk_gives_what_the_original_gives_on_the_whole_video(name: str) -> None:
    """By an oracle that knows nothing of the compiler: the same layers, built for a clip as long as the video."""
    example = EXAMPLES[name]
    # double precision: deep untrained trunks magnify float32's rounding to the law's tolerance
    model, axis = alive(name).double(), time_axis(example)
    net = compiled(name, Trunk(model))
    reference = on_any_video(name, model)
    lengths = [example.small.frames * 3, example.small.frames * 3 + 5]

    with torch.no_grad():
        for frames in (-(-length // example.lengths) * example.lengths for length in lengths):
            shape = example.shape(frames, example.small.pixels)
            video = wandering_video(shape, time_axis=axis, seed=frames, dtype=torch.float64)
            check_video(net, reference, video, axes_of(reference, video, time_axis=axis), time_axis=axis)


# frames of NaN fill no bin of similarity-guided sampling, so that the original itself fails on them
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in (*ENDLESS, "atfr_sgs")])
def test_a_network_keeps_time(name: str) -> None:
    _, net = made(name)

    check_properties(net)


@pytest.mark.parametrize("name", ["d3d", "tsm_online", "rcu", "cnn_lstm", "movinet"])
def test_a_causal_network_answers_at_once(name: str) -> None:
    net = compiled(name, Trunk(alive(name)))
    example = EXAMPLES[name]
    frame = wandering_video(example.clip(small=True), time_axis=time_axis(example)).select(time_axis(example), 0)

    answer, _ = net.step(frame, net.initial_state())

    assert answer is not None
    assert net.report.outputs[0].delay == 0


@pytest.mark.parametrize("name", ["c3d", "resnext"])
def test_a_strided_network_answers_at_every_frame(name: str) -> None:
    example = EXAMPLES[name]
    model = alive(name).double()
    net = co3d_compile.compile(model, example.clip(small=True), rate="dense", **example.options)

    result = net.verify(model, frames=example.small.frames + 19)

    assert result.passed, str(result)
    assert net.report.outputs[0].stride == 1
    check_properties(net)

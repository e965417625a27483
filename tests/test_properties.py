"""The black-box properties hold of published networks, and are no empty words: each finds what breaks it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.clock.periodic import affine
from co3d_compile.clock.timing import Timing
from co3d_compile.network import Network
from co3d_compile.testing.alive import make_alive, wandering_video
from tests.properties import check_promptness, check_properties, check_shift, check_spans
from tests.small_models import CLIP, Residual
from tests.zoo_models import ZOO

PUBLISHED = {"slow": 8, "x3d_xs": 4}
if os.environ.get("CO3D_ZOO") == "full":
    PUBLISHED |= {"r3d_18": 16, "mc3_18": 8, "r2plus1d_18": 16, "i3d": 8, "csn": 16}


def strided() -> Network:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(2, 3, 3, (2, 1, 1), 1), nn.Conv3d(3, 2, 3, padding=1))
    make_alive(model, wandering_video((1, 2, 8, 5, 5)))
    return co3d_compile.compile(model, (1, 2, 8, 5, 5))


def retold(net: Network, change: Callable[[Timing], Timing]) -> Network:
    """The same network with another story of when its output's elements come and what they depend on."""
    name = net.plan.outputs[0].value
    value = net.plan.values[name]
    assert value.timing is not None
    values = {**net.plan.values, name: replace(value, timing=change(value.timing))}
    return Network(replace(net.plan, values=values), net.weights)


def test_a_residual_network_with_a_gate_and_a_head_holds_them() -> None:
    torch.manual_seed(0)
    model = make_alive(Residual(), wandering_video(CLIP))

    check_properties(co3d_compile.compile(model, CLIP))


def test_a_span_that_is_told_too_narrow_is_found() -> None:
    net = retold(strided(), lambda timing: replace(timing, lo=affine(2, timing.lo(0) + 1)))

    with pytest.raises(AssertionError, match="frames before the first matter"):
        check_spans(net)


def test_a_span_that_is_told_too_wide_is_found() -> None:
    net = retold(strided(), lambda timing: replace(timing, lo=affine(2, timing.lo(0) - 1)))

    with pytest.raises(AssertionError, match="the first does not matter"):
        check_spans(net)


def test_a_last_frame_that_is_told_too_early_is_found() -> None:
    net = retold(strided(), lambda timing: replace(timing, hi=affine(2, timing.hi(0) - 1)))

    with pytest.raises(AssertionError, match="frames after the last matter"):
        check_spans(net)


def test_an_output_that_comes_later_than_it_must_is_found() -> None:
    net = co3d_compile.compile(_Cut(), (1, 2, 8, 4, 4))

    check_shift(net)
    check_spans(net)
    with pytest.raises(AssertionError, match="could have come before tick"):
        check_promptness(net)


def test_an_output_that_knows_the_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    net = strided()
    step = net.step

    def aging(frame: Any, state: Any) -> Any:
        output, after = step(frame, state)
        return (None if output is None else output + state.tick), after

    monkeypatch.setattr(net, "step", aging)

    with pytest.raises(AssertionError, match="knows the time"):
        check_shift(net)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_hold_them(name: str) -> None:
    torch.manual_seed(0)
    model = ZOO[name].build(PUBLISHED[name], 32 if name != "x3d_xs" else 64)
    clip = ZOO[name].clip(PUBLISHED[name], 32 if name != "x3d_xs" else 64)
    make_alive(model, wandering_video((2, 3, max(24, clip[2]), *clip[3:])))

    check_properties(co3d_compile.compile(model, clip))


class _Cut(nn.Module):
    """Without its last frame: whether a frame is the last is known when the next one comes."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :-1].exp()

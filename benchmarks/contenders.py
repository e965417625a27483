"""What is timed: one prediction of the clip model, of the compiled network, and of the peer library."""

from __future__ import annotations

from collections.abc import Callable

import torch

import co3d_compile
from benchmarks.peer import peer_network, warmed_up
from tests.zoo_models import ZOO

Predict = Callable[[], object]


def clip(name: str) -> Predict:
    """The original on one clip, in eager torch."""
    model, video = ZOO[name].build(), torch.randn(ZOO[name].clip())
    return lambda: model(video)


def step(name: str) -> Predict:
    """One frame pushed into the compiled network, warm."""
    network = co3d_compile.compile(ZOO[name].build(), ZOO[name].clip())
    stream, frame = network.stream(), _frame(name)
    while stream.tick <= max(output.steady_tick for output in network.report.outputs):
        stream.push(frame)
    return lambda: stream.push(frame)


def peer(name: str) -> Predict:
    """One frame into the same network, built by hand from the modules of ``continual-inference``, warm."""
    frame = _frame(name)
    network = warmed_up(peer_network(ZOO[name].build()), frame)
    return lambda: network.forward_step(frame)


def _frame(name: str) -> torch.Tensor:
    batch, channels, _, height, width = ZOO[name].clip()
    return torch.randn(batch, channels, height, width)


CONTENDERS: dict[str, Callable[[str], Predict]] = {"clip": clip, "step": step, "peer": peer}

"""The networks of ``examples/networks`` at their small size, alive, and what the original gives on any video."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from co3d_compile.testing.alive import make_alive, wandering_video
from examples.networks.catalogue import EXAMPLES, Example

LONGER = 4
"""Clips that networks are made alive on are so many times as long: statistics measured on frames that see padding let
a long video explode layer by layer."""


class Trunk(nn.Module):
    """A network up to its head, or all of it if it has none over the whole clip."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        return self.network.features(x) if hasattr(self.network, "features") else self.network(x)


def alive(name: str) -> nn.Module:
    """The network for its small clip."""
    example = EXAMPLES[name]
    torch.manual_seed(0)
    model = example.build(small=True)
    frames = LONGER * example.small.frames
    longer = example.build(small=True, frames=frames)
    if not _same_weights(longer, model):
        return make_alive(model, _sample(example, example.small.frames))
    model.load_state_dict(make_alive(longer, _sample(example, frames)).state_dict())
    return model


def on_any_video(name: str, model: nn.Module) -> Callable[[Tensor], Any]:
    """The trunk with the model's weights, built for each video as if that were its clip."""
    example = EXAMPLES[name]

    def run(video: Tensor) -> Any:
        network = example.build(small=True, frames=video.shape[time_axis(example)]).to(video.dtype)
        if not _same_weights(network, model):
            return Trunk(model)(video)  # a head that fits one length, behind a trunk that fits all
        network.load_state_dict(model.state_dict())
        return Trunk(network)(video)

    return run


def time_axis(example: Example) -> int:
    return int(example.options.get("time_axis", 2))


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    shapes = [{key: weight.shape for key, weight in network.state_dict().items()} for network in (one, other)]
    return shapes[0] == shapes[1]


def _sample(example: Example, frames: int) -> Tensor:
    shape = example.shape(frames, example.small.pixels)
    return wandering_video((2, *shape[1:]), time_axis=time_axis(example), seed=1)

"""Verification where the original takes no longer video, and gates or norms come behind what stops it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import co3d_compile

CLIP = (1, 3, 8, 5, 6)
pytestmark = pytest.mark.slow

STOPS = "the original stops on a longer video (shape '[1, 4, 8, 30]' is invalid for input of size 1200)"


class Squeeze(nn.Module):
    def __init__(self, *, in_place: bool = False) -> None:
        super().__init__()
        self.gate = nn.Conv3d(4, 4, 1)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x.mean((2, 3, 4), keepdim=True)).sigmoid()
        return x.mul_(gate) if self.in_place else x * gate


class Halves(nn.Module):
    """The gate is made from one result of a call that has two, and joined with the other."""

    def forward(self, x: Tensor) -> Tensor:
        kept, gating = x.chunk(2, 1)
        return torch.cat([kept * gating.amax((2, 3, 4), keepdim=True).sigmoid(), gating], 1)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3, 4)))


def conv() -> nn.Module:
    return nn.Conv3d(4, 4, 3, padding=1)


class LiteralSizes(nn.Module):
    def __init__(self, *behind: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 4, 3, padding=1)
        self.behind = nn.Sequential(*behind)

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.stem(x).view(1, 4, 8, 30).relu().view(1, 4, 8, 5, 6))


BEHIND: dict[str, Callable[[], list[nn.Module]]] = {
    "at once": lambda: [Squeeze(), conv()],
    "at the end": lambda: [conv(), Squeeze()],
    "two": lambda: [Squeeze(), conv(), Squeeze(), conv()],
    "one after the other": lambda: [Squeeze(), nn.Hardswish(inplace=True), Squeeze()],
    "in place": lambda: [nn.Conv3d(4, 4, 1), nn.ReLU(inplace=True), Squeeze(in_place=True), conv()],
    "of several results": lambda: [conv(), Halves(), conv()],
    "before a head": lambda: [Squeeze(), conv(), Head()],
    "a norm": lambda: [nn.GroupNorm(2, 4), conv()],
}


@pytest.mark.parametrize("policy", ["frame", "window", "cumulative"])
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND.keys())
def test_a_gate_is_made_from_what_windows_give(behind: Callable[[], list[nn.Module]], policy: Any) -> None:
    torch.manual_seed(0)
    model = LiteralSizes(*behind()).eval()
    network = co3d_compile.compile(model, CLIP, policy={"*": policy})

    right = network.verify(model)
    with torch.no_grad():
        network.weights.find("stem.weight").mul_(1.2)
    wrong = network.verify(model)

    assert right.passed, str(right)
    assert right.outputs[0].elements == right.outputs[0].expected > 1
    assert "made under the same policy" in right.outputs[0].against
    assert right.notes == (f"{STOPS}; compared up to there",)
    assert not wrong.passed


@pytest.mark.parametrize("policy", ["frame", "window", "cumulative"])
def test_another_gate_is_found(policy: Any) -> None:
    torch.manual_seed(0)
    model = LiteralSizes(Squeeze(), conv()).eval()
    network = co3d_compile.compile(model, CLIP, policy={"*": policy})
    with torch.no_grad():
        network.weights.find("behind.0.gate.weight").mul_(1.2)

    result = network.verify(model)

    assert not result.passed
    assert result.first_difference is not None
    assert result.first_difference.path == "behind.0"
    assert str(result).startswith("DIFFERENT from the original")


def test_what_is_not_compared_is_not_called_different() -> None:
    """On a video of other length than whole periods beyond the clip, no window reaches the end."""

    class Strided(LiteralSizes):
        def forward(self, x: Tensor) -> Tensor:
            return self.behind(self.stem(x).view(1, 4, 8, 30).view(1, 4, 8, 5, 6)[:, :, ::2])

    model = Strided(conv(), Squeeze()).eval()
    result = co3d_compile.compile(model, CLIP).verify(model, frames=11)

    assert not result.passed
    assert str(result).startswith("NOT COMPARED with the original")
    assert any(note.endswith("could not be compared") for note in result.notes)

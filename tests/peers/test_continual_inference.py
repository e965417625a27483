"""Our streams against containers of ``continual-inference``, the library of the paper's authors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from co3d_compile.testing.law import assert_same, check_law
from tests.peers.agreement import Answer, alive, assert_agrees, video_like
from tests.peers.networks import Joined, add, cat
from tests.peers.stepping import co, flushed, stepped, with_weights

pytestmark = pytest.mark.peers

VIDEO = (1, 2, 16, 6, 6)


class Plain:
    """The words of a network, in torch."""

    Conv3d, AvgPool3d, MaxPool3d, Sequential = nn.Conv3d, nn.AvgPool3d, nn.MaxPool3d, nn.Sequential

    @staticmethod
    def Sum(*branches: nn.Module) -> nn.Module:
        return Joined(add, *branches)

    @staticmethod
    def Cat(*branches: nn.Module) -> nn.Module:
        return Joined(cat, *branches)

    @staticmethod
    def Residual(module: nn.Module) -> nn.Module:
        return Joined(add, nn.Identity(), module)


class Continual:
    """The same words in ``continual-inference``."""

    Conv3d, AvgPool3d, MaxPool3d = co.Conv3d, co.AvgPool3d, co.MaxPool3d
    Sequential, Residual = co.Sequential, co.Residual

    @staticmethod
    def Sum(*branches: nn.Module) -> nn.Module:
        return co.BroadcastReduce(*branches, reduce="sum", auto_delay=True)

    @staticmethod
    def Cat(*branches: nn.Module) -> nn.Module:
        return co.BroadcastReduce(*branches, reduce="concat", auto_delay=True)


Build = Callable[[Any], nn.Module]


def conv(
    k: Any, channels: int, out: int, time: int = 3, *, s: int = 1, p: int | None = None, groups: int = 1
) -> nn.Module:
    before = (time - 1) // 2 if p is None else p
    return k.Conv3d(channels, out, (time, 3, 3), stride=(s, 1, 1), padding=(before, 1, 1), groups=groups)


def main_branch(k: Any, s: int = 1) -> nn.Module:
    return k.Sequential(conv(k, 2, 4, s=s), nn.BatchNorm3d(4), nn.ReLU(), conv(k, 4, 2))


def point(k: Any, s: int = 1) -> nn.Module:
    return k.Conv3d(2, 2, 1, stride=(s, 1, 1))


AGREED: dict[str, Build] = {
    "padded": lambda k: k.Sequential(conv(k, 2, 3), nn.BatchNorm3d(3), nn.ReLU(), conv(k, 3, 2, 5)),
    "valid": lambda k: k.Sequential(conv(k, 2, 3, p=0), nn.ReLU(), conv(k, 3, 2, 5, p=0)),
    "even kernels": lambda k: k.Sequential(conv(k, 2, 3, 4, p=2), nn.ReLU(), conv(k, 3, 2, 2, p=0)),
    "depthwise": lambda k: k.Sequential(conv(k, 2, 4, 1), conv(k, 4, 4, groups=4), nn.Hardswish(), conv(k, 4, 2, 1)),
    "residual": lambda k: k.Sequential(k.Residual(main_branch(k)), nn.ReLU(), conv(k, 2, 2)),
    "residual in residual": lambda k: k.Residual(k.Sequential(k.Residual(main_branch(k)), nn.ReLU(), conv(k, 2, 2))),
    "branches": lambda k: k.Sequential(k.Cat(conv(k, 2, 3, 1), conv(k, 2, 3), conv(k, 2, 2, 5)), conv(k, 8, 2)),
    "shortcut with a layer": lambda k: k.Sequential(k.Sum(point(k), main_branch(k)), conv(k, 2, 2)),
    "average pool": lambda k: k.Sequential(conv(k, 2, 3), k.AvgPool3d((4, 2, 2), stride=(1, 2, 2))),
    "padded average pool": lambda k: k.Sequential(conv(k, 2, 3), k.AvgPool3d(3, stride=1, padding=1), conv(k, 3, 2)),
    "max pool": lambda k: k.Sequential(conv(k, 2, 3), k.MaxPool3d((4, 2, 2), stride=(1, 2, 2))),
    "strided": lambda k: k.Sequential(conv(k, 2, 3, s=2), nn.ReLU(), conv(k, 3, 3), conv(k, 3, 2, 4, s=3, p=1)),
    "strided valid": lambda k: k.Sequential(conv(k, 2, 3, s=2, p=0), nn.ReLU(), conv(k, 3, 2, p=0)),
    "strided pools": lambda k: k.Sequential(
        conv(k, 2, 3), k.MaxPool3d(2, stride=2), conv(k, 3, 2), k.AvgPool3d((2, 1, 1))
    ),
    "strided residual": lambda k: k.Sequential(
        k.Sum(point(k, 2), main_branch(k, 2)), k.Sum(point(k, 2), main_branch(k, 2))
    ),
}

AMISS: dict[str, Build] = {
    "strided without a window": lambda k: k.Sequential(k.Conv3d(2, 3, 1, stride=(2, 1, 1)), conv(k, 3, 3)),
    "padded max pool": lambda k: k.Sequential(conv(k, 2, 3), k.MaxPool3d(3, stride=1, padding=1)),
    "dilated max pool": lambda k: k.Sequential(conv(k, 2, 3), k.MaxPool3d((3, 1, 1), stride=1, dilation=(2, 1, 1))),
    "strided branches that reach unequally far": lambda k: k.Cat(conv(k, 2, 4, s=2), main_branch(k, 2)),
    "strided branches of unequal kernels": lambda k: k.Cat(conv(k, 2, 4, s=2), conv(k, 2, 2, 5, s=2)),
}


def both(build: Build) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    model = alive(build(Plain), VIDEO)
    return model, with_weights(build(Continual), model)


@pytest.mark.parametrize("name", AGREED)
def test_elements_and_ticks_are_those_of_the_library_and_so_is_the_end(name: str) -> None:
    model, peer = both(AGREED[name])
    video = video_like(VIDEO)

    ours = assert_agrees(model, VIDEO, video, stepped(peer, video))
    assert_same(ours, flushed(peer, video), 2, "our stream through flush against the library's")


@pytest.mark.parametrize("name", AMISS)
def test_where_the_library_is_wrong_in_silence_we_obey_the_law(name: str) -> None:
    model, peer = both(AMISS[name])
    video = video_like(VIDEO)
    with torch.no_grad():
        wanted = model(video)

    assert is_amiss(stepped(peer, video), wanted)
    check_law(model, VIDEO, alive=False)


def is_amiss(answer: Answer, wanted: Tensor) -> bool:
    """Nothing comes, or more than the original has, or something else."""
    count = len(answer.ticks)
    if not 0 < count <= wanted.shape[2]:
        return True
    return (answer.elements - wanted[:, :, :count]).abs().max().item() > 1e-2

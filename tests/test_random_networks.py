"""Random networks obey the law. ``CO3D_FUZZ=N`` draws N others than those of every run."""

import os

import torch
from hypothesis import HealthCheck, assume, given, settings
from torch import Tensor, nn

from tests.law import check_law, leaves_of, make_alive, wandering_video, windows_of
from tests.layers import RandomNetwork
from tests.networks import networks

FUZZ = int(os.environ.get("CO3D_FUZZ", "0"))
EVERY_RUN = 200
HEADS_EVERY_RUN = 100


def drawn(count: int) -> settings:
    return settings(
        max_examples=FUZZ or count,
        derandomize=not FUZZ,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )


def runs(model: nn.Module, clip: Tensor) -> bool:
    """The original takes the clip and gives at least one element, of finite values."""
    try:
        leaves = leaves_of(model.eval(), clip)
    except (RuntimeError, IndexError, ValueError):
        return False
    return all(leaf.numel() > 0 and bool(leaf.isfinite().all()) for leaf in leaves)


def check_trunk(network: RandomNetwork) -> None:
    """Elements, ticks and counts of a network whose time survives to its outputs."""
    torch.manual_seed(0)
    model = network.trunk()
    clip = wandering_video(network.clip)
    frames = max(1, network.frames + network.longer)
    shorter = clip[:, :, :frames]
    assume(runs(model, clip) and runs(model, shorter))
    check_law(model, network.clip, lengths=(frames, network.frames + 6), batch=network.batch)


def check_head(network: RandomNetwork) -> None:
    """The answer for every window of the features of the whole video."""
    torch.manual_seed(0)
    trunk = network.trunk()
    clip = wandering_video(network.clip)
    assume(runs(trunk, clip))
    (features,) = leaves_of(trunk, clip)
    # time of size 1 in the clip is no window: whether a flattened axis holds it cannot be told
    assume(features.shape[2] > 1)
    head = network.head_module(features.shape)
    model = nn.Sequential(trunk, head)
    assume(runs(model, clip))
    make_alive(model, wandering_video(network.clip, seed=1))
    windows = windows_of(head, features.shape[2])
    check_law(
        model,
        network.clip,
        lengths=(network.frames + abs(network.longer) % 4, network.frames + 6),
        batch=network.batch,
        reference=lambda video: windows(trunk(video)),
        stacked=True,
        alive=False,
    )


@drawn(EVERY_RUN)
@given(networks())
def test_networks_that_keep_time_obey_the_law(network: RandomNetwork) -> None:
    check_trunk(network)


@drawn(HEADS_EVERY_RUN)
@given(networks(head=True))
def test_heads_answer_every_window(network: RandomNetwork) -> None:
    check_head(network)

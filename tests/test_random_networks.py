"""Random networks obey the law. ``CO3D_FUZZ=N`` draws N others than those of every run."""

import os
import re
from collections.abc import Callable

import torch
from hypothesis import HealthCheck, assume, given, settings
from torch import Tensor, nn

from co3d_compile.errors import UnsupportedError
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.dense import check_dense_law
from co3d_compile.testing.law import check_law, leaves_of, windows_of
from tests.layers import RandomNetwork
from tests.networks import networks, upward_networks
from tests.shifts import KEEPING, ONE_DELAY, RESIZING

FUZZ = int(os.environ.get("CO3D_FUZZ", "0"))
EVERY_RUN = 240
HEADS_EVERY_RUN = 110
DENSE_EVERY_RUN = 75
UPWARD_EVERY_RUN = 75


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
    """The original takes the clip, gives finite values, and has at least two elements everywhere.

    Of one element nobody can tell whether an axis of size 1 is time, or whether a pool spans the whole clip.
    """
    counts: list[int] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        counts.extend(x.shape[2] for x in (*inputs, output) if isinstance(x, Tensor) and x.dim() == 5)

    hooks = [layer.register_forward_hook(note) for layer in model.modules()]
    try:
        leaves = leaves_of(model.eval(), clip)
    except (RuntimeError, IndexError, ValueError):
        return False
    finally:
        for hook in hooks:
            hook.remove()
    return min(counts) > 1 and all(leaf.numel() > 0 and bool(leaf.isfinite().all()) for leaf in leaves)


def has_one_delay(network: RandomNetwork) -> bool:
    """Whether a tensor's elements are settled when its clock says so, not before.

    A shift moves some channels alone, also such as come from a branch of less delay than the others; and where the
    end is cut off, an element waits for the video to be long enough, which a maximum over it seldom shows.
    """
    uneven = (KEEPING | RESIZING).keys() - set(ONE_DELAY)
    return not any(f"Reindex(kind='{kind}'" in repr(network) for kind in uneven)


def holds_copies_alone(network: RandomNetwork, refused: UnsupportedError) -> bool:
    """Shifts by more frames than a clip has at that depth leave copies of its last or first frame and no stream."""
    return "repeated'" in repr(network) and "by their place in the clip" in str(refused)


def obeys_to_its_outputs(network: RandomNetwork) -> bool:
    """Elements, ticks and counts of a network whose time survives; False where the original has no answer."""
    torch.manual_seed(0)
    model = network.trunk()
    clip = wandering_video(network.clip)
    frames = max(1, network.frames + network.longer)
    shorter = clip[:, :, :frames]
    if not (runs(model, clip) and runs(model, shorter)):
        return False
    try:
        check_law(
            model,
            network.clip,
            lengths=(frames, network.frames + 6),
            batch=network.batch,
            least_delay=has_one_delay(network),
        )
    except UnsupportedError as refused:
        if not holds_copies_alone(network, refused):
            raise
        return False
    return True


def obeys_in_every_window(network: RandomNetwork) -> bool:
    """The answer for every window of the features of the whole video; False where the original has none."""
    torch.manual_seed(0)
    trunk = network.trunk()
    clip = wandering_video(network.clip)
    if not runs(trunk, clip):
        return False
    (features,) = leaves_of(trunk, clip)
    head = network.head_module(features.shape)
    model = nn.Sequential(trunk, head)
    make_alive(model, wandering_video(network.clip, seed=1))
    windows = windows_of(head, features.shape[2])
    check_law(
        model,
        network.clip,
        lengths=(network.frames + abs(network.longer) % 4, network.frames + 6),
        batch=network.batch,
        least_delay=has_one_delay(network),
        reference=lambda video: windows(trunk(video)),
        stacked=True,
        alive=False,
    )
    return True


def has_dilated_rise(network: RandomNetwork) -> bool:
    """Whether some output of a strided and dilated transposed convolution needs less than the one before it.

    Elements come in order, so that it waits; a reader of it alone, and of none before it, could come earlier.
    """
    return re.search(r"Up\([^()]*\bd=[23]", repr(network)) is not None


def may_repeat_a_constant(network: RandomNetwork) -> bool:
    """Whether a maximum may see elements of a transposed convolution that no frame goes into, its bias, twice.

    Then it is settled before the second is there, which its index map does not tell.
    """
    gaps = any(
        {int(d) * tap % int(factor) for tap in range(int(k))} != set(range(int(factor)))
        for factor, k, d in re.findall(
            r"kind='(?:transposed|lines)', channels=\d+, factor=(\d), k=(\d), d=(\d)", repr(network)
        )
    )
    return gaps and re.search(r"kind='max", repr(network)) is not None


def obeys_upward(network: RandomNetwork) -> bool:
    """A network whose rate goes up, on videos that it takes; False where the original has no answer."""
    torch.manual_seed(0)
    trunk = network.trunk()
    shape = network.clip
    frames = network.frames + network.longer
    if not all(runs(trunk, wandering_video((*shape[:2], t, *shape[3:]))) for t in (network.frames, frames)):
        return False
    model, clip = trunk, shape
    if network.time_axis == 1:
        model, clip = FramesFirst(trunk), (shape[0], shape[2], shape[1], *shape[3:])
    check_law(
        model,
        clip,
        lengths=(network.frames, frames),
        batch=network.batch,
        time_axis=network.time_axis,
        least_delay=has_one_delay(network) and not has_dilated_rise(network) and not may_repeat_a_constant(network),
        poison="linear" not in repr(network),
        multiple=network.multiple,
    )
    return True


class FramesFirst(nn.Module):
    """Takes ``(N, T, C, H, W)``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(1, 2))


def obeys_at_a_dense_rate(network: RandomNetwork) -> bool:
    """Every phase of a network whose time survives; False where the original has no answer."""
    torch.manual_seed(0)
    model = network.trunk()
    clip = wandering_video(network.clip)
    frames = network.frames + 8
    if not runs(model, clip) or not runs(model, wandering_video((*network.clip[:2], frames, *network.clip[3:]))):
        return False
    make_alive(model, wandering_video(network.clip, seed=1))
    check_dense_law(model, network.clip, frames=frames)
    return True


def settled(obeys: Callable[[RandomNetwork], bool], network: RandomNetwork) -> bool:
    """In double precision where single differs: a norm over values that are nearly equal magnifies rounding."""
    try:
        return obeys(network)
    except AssertionError as failure:
        if not re.search("off by|are settled", str(failure)):
            raise
    torch.set_default_dtype(torch.float64)
    try:
        return obeys(network)
    finally:
        torch.set_default_dtype(torch.float32)


@drawn(EVERY_RUN)
@given(networks())
def test_networks_that_keep_time_obey_the_law(network: RandomNetwork) -> None:
    assume(settled(obeys_to_its_outputs, network))


@drawn(HEADS_EVERY_RUN)
@given(networks(head=True))
def test_heads_answer_every_window(network: RandomNetwork) -> None:
    assume(settled(obeys_in_every_window, network))


@drawn(DENSE_EVERY_RUN)
@given(networks())
def test_networks_at_a_dense_rate_obey_the_law_at_every_phase(network: RandomNetwork) -> None:
    assume(settled(obeys_at_a_dense_rate, network))


@drawn(UPWARD_EVERY_RUN)
@given(upward_networks())
def test_networks_whose_rate_goes_up_obey_the_law(network: RandomNetwork) -> None:
    assume(settled(obeys_upward, network))

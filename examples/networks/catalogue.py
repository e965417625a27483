"""The networks of this folder by name, at their published size and at a size to test on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from examples.networks.c3d import C3D
from examples.networks.cnn_lstm import CNNLSTM
from examples.networks.d3d import DissectedResNet
from examples.networks.encoder_decoder import EncoderDecoder
from examples.networks.i3d import InceptionI3d
from examples.networks.lip_reading import Lipreading
from examples.networks.mobilenet import MobileNet, MobileNetV2
from examples.networks.movinet import MoViNet
from examples.networks.nonlocal_i3d import NonLocalI3D
from examples.networks.rcu import RecurrentResNet
from examples.networks.resnet import ResNetA, ResNeXt
from examples.networks.shufflenet import ShuffleNet, ShuffleNetV2
from examples.networks.similarity_sampling import AdaptiveResNet
from examples.networks.squeezenet import SqueezeNet
from examples.networks.temporal_shift import ShiftResNet
from examples.networks.unet import UNet3D


def channels_first(frames: int, size: int) -> tuple[int, ...]:
    return (1, 3, frames, size, size)


def frames_first(frames: int, size: int) -> tuple[int, ...]:
    return (1, frames, 3, size, size)


def grey(frames: int, size: int) -> tuple[int, ...]:
    return (1, 1, frames, size, size)


@dataclass(frozen=True)
class Size:
    """Frames of a clip, their height and width, and the channels of the network's first stage."""

    frames: int
    pixels: int
    width: int


@dataclass(frozen=True)
class Example:
    """One network.

    Attributes:
        make: frames, their height and width, channels of the first stage, to a network.
        published, small: its sizes.
        shape: frames and their height and width, to the shape of a clip.
        shallow: what else makes the small one small.
        options: for ``co3d_compile.compile``.
        lengths: videos whose number of frames is a multiple of this are padded as the clip is.
    """

    make: Callable[..., nn.Module]
    published: Size
    small: Size
    shape: Callable[[int, int], tuple[int, ...]] = channels_first
    shallow: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    lengths: int = 1

    def build(self, *, small: bool = False, frames: int | None = None) -> nn.Module:
        """The network in eval mode, for clips of another number of frames if told."""
        size = self.small if small else self.published
        return self.make(frames or size.frames, size.pixels, size.width, **(self.shallow if small else {})).eval()

    def clip(self, *, small: bool = False) -> tuple[int, ...]:
        size = self.small if small else self.published
        return self.shape(size.frames, size.pixels)


def _sized(network: Callable[..., nn.Module], **options: Any) -> Callable[..., nn.Module]:
    """A network whose layers depend on the clip's size."""
    return lambda frames, size, width, **more: network(frames=frames, size=size, width=width, **options, **more)


def _timed(network: Callable[..., nn.Module], **options: Any) -> Callable[..., nn.Module]:
    """A network that knows how many frames a clip has."""
    return lambda frames, size, width, **more: network(frames=frames, width=width, **options, **more)


def _free(network: Callable[..., nn.Module], **options: Any) -> Callable[..., nn.Module]:
    """A network that takes clips of any size."""
    return lambda frames, size, width, **more: network(width=width, **options, **more)


_FRAMES_FIRST: dict[str, Any] = {"shape": frames_first, "options": {"time_axis": 1}}

EXAMPLES: dict[str, Example] = {
    "i3d_inception": Example(_sized(InceptionI3d), Size(64, 224, 64), Size(16, 32, 4), lengths=8),
    "c3d": Example(_sized(C3D), Size(16, 112, 64), Size(16, 32, 4)),
    "squeezenet": Example(_sized(SqueezeNet), Size(16, 112, 64), Size(16, 32, 8)),
    "mobilenet": Example(_free(MobileNet), Size(16, 112, 32), Size(16, 32, 4)),
    "mobilenet_v2": Example(_free(MobileNetV2), Size(16, 112, 32), Size(16, 32, 4)),
    "shufflenet": Example(_free(ShuffleNet), Size(32, 112, 24), Size(24, 48, 6), shallow={"repeats": (2, 2, 2)}),
    "shufflenet_v2": Example(_free(ShuffleNetV2), Size(16, 112, 116), Size(16, 32, 12), shallow={"repeats": (2, 2, 2)}),
    "resnet_a": Example(_sized(ResNetA), Size(16, 112, 64), Size(16, 32, 4)),
    "resnext": Example(
        _sized(ResNeXt), Size(16, 112, 64), Size(16, 32, 4), shallow={"layers": (1, 2, 1, 1), "cardinality": 4}
    ),
    "tsm": Example(_timed(ShiftResNet), Size(8, 224, 64), Size(8, 32, 8), **_FRAMES_FIRST),
    "tsm_online": Example(_timed(ShiftResNet, online=True), Size(8, 224, 64), Size(8, 32, 8), **_FRAMES_FIRST),
    "nonlocal_i3d": Example(_free(NonLocalI3D), Size(32, 224, 64), Size(8, 32, 4), shallow={"layers": (1, 2, 2, 1)}),
    "nonlocal_i3d_frame": Example(
        _free(NonLocalI3D),
        Size(32, 224, 64),
        Size(8, 32, 4),
        shallow={"layers": (1, 2, 2, 1)},
        options={"policy": {"*": "frame"}},
    ),
    "unet": Example(_free(UNet3D), Size(16, 112, 32), Size(8, 16, 4), shallow={"levels": 3}, lengths=8),
    "unet_batch_norm": Example(
        _free(UNet3D, norm="batch"), Size(16, 112, 32), Size(8, 16, 4), shallow={"levels": 3}, lengths=8
    ),
    "unet_trilinear": Example(
        _free(UNet3D, norm="batch", upsampling="trilinear"),
        Size(16, 112, 32),
        Size(8, 16, 4),
        shallow={"levels": 3},
        lengths=8,
    ),
    "encoder_decoder": Example(_free(EncoderDecoder), Size(16, 112, 32), Size(8, 16, 4), shallow={"levels": 2}),
    "encoder_decoder_k2": Example(
        _free(EncoderDecoder, kernel=2), Size(16, 112, 32), Size(8, 16, 4), shallow={"levels": 2}
    ),
    "d3d": Example(_free(DissectedResNet), Size(16, 112, 64), Size(8, 32, 4)),
    "rcu": Example(_free(RecurrentResNet), Size(8, 112, 64), Size(4, 32, 4), shallow={"layers": (1, 1, 1, 1)}),
    "atfr_sgs": Example(_free(AdaptiveResNet), Size(16, 112, 64), Size(8, 32, 4)),
    "lip_reading": Example(_free(Lipreading), Size(29, 88, 64), Size(8, 32, 4), shape=grey),
    "cnn_lstm": Example(_free(CNNLSTM), Size(16, 112, 32), Size(6, 16, 4), shallow={"hidden": 8}, **_FRAMES_FIRST),
    "cnn_lstm_last": Example(
        _free(CNNLSTM, last=True), Size(16, 112, 32), Size(6, 16, 4), shallow={"hidden": 8}, **_FRAMES_FIRST
    ),
    "movinet": Example(_free(MoViNet), Size(16, 172, 16), Size(8, 32, 4)),
}

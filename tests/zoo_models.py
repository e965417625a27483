"""Published networks by name, without trained weights, at the published size or at any other."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class ZooModel:
    """One network.

    Attributes:
        make: the model for clips of so many frames of such a size (a head's pool may depend on both).
        frames, size: as published.
        slower: of two pathways, how much slower the first one is; the second takes every frame.
    """

    make: Callable[[int, int], nn.Module]
    frames: int
    size: int
    slower: int | None = None

    def build(self, frames: int | None = None, size: int | None = None) -> nn.Module:
        return self.make(frames or self.frames, size or self.size).eval()

    def clip(self, frames: int | None = None, size: int | None = None) -> tuple[int, ...]:
        side = size or self.size
        return (1, 3, frames or self.frames, side, side)

    def clips(self, frames: int | None = None, size: int | None = None) -> tuple[int, ...] | list[tuple[int, ...]]:
        """What the model takes: one clip, or one for each pathway."""
        clip = self.clip(frames, size)
        return clip if self.slower is None else [(*clip[:2], clip[2] // self.slower, *clip[3:]), clip]


def trunk(model: nn.Module) -> nn.Module:
    """The network up to its head: what stands before the pool over the whole clip."""
    if hasattr(model, "blocks"):
        return nn.Sequential(*list(model.blocks)[:-1])
    if hasattr(model, "features"):
        return model.features
    return nn.Sequential(model.stem, model.layer1, model.layer2, model.layer3, model.layer4)


def _torchvision(name: str) -> Callable[[int, int], nn.Module]:
    def make(frames: int, size: int) -> nn.Module:
        return getattr(published("torchvision.models.video"), name)(weights=None)

    return make


def published(module: str) -> Any:
    """A module of torchvision or pytorchvideo, quietly: importing them warns of torch.jit.

    torchvision's compiled part is for other builds of torch; its Python part misses these operators at import.
    """
    if not _library:
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library.append(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


_library: list[torch.library.Library] = []


def _x3d(depth_factor: float) -> Callable[[int, int], nn.Module]:
    def make(frames: int, size: int) -> nn.Module:
        return published("pytorchvideo.models.x3d").create_x3d(
            input_clip_length=frames, input_crop_size=size, depth_factor=depth_factor, model_num_class=400
        )

    return make


def _resnet(temporal_stride: int = 1, **options: Any) -> Callable[[int, int], nn.Module]:
    def make(frames: int, size: int) -> nn.Module:
        side = ceil(size / 32)
        pool = (frames // temporal_stride, side, side)
        return published("pytorchvideo.models.resnet").create_resnet(
            model_num_class=400, head_pool_kernel_size=pool, **options
        )

    return make


def _csn(frames: int, size: int) -> nn.Module:
    side = ceil(size / 16)
    return published("pytorchvideo.models.csn").create_csn(
        model_num_class=400, head_pool_kernel_size=(ceil(frames / 8), side, side)
    )


def _r2plus1d(frames: int, size: int) -> nn.Module:
    side = ceil(size / 32)
    return published("pytorchvideo.models.r2plus1d").create_r2plus1d(
        model_num_class=400, head_pool_kernel_size=(ceil(frames / 4), side, side)
    )


def _slowfast(slower: int, fusion_kernel: int) -> Callable[[int, int], nn.Module]:
    def make(frames: int, size: int) -> nn.Module:
        side = ceil(size / 32)
        return published("pytorchvideo.models.slowfast").create_slowfast(
            model_num_class=400,
            slowfast_fusion_conv_kernel_size=(fusion_kernel, 1, 1),
            slowfast_fusion_conv_stride=(slower, 1, 1),
            head_pool_kernel_sizes=((frames // slower, side, side), (frames, side, side)),
        )

    return make


# temporal kernels as in the SlowFast repository's I3D_8x8_R50
_I3D = _resnet(
    temporal_stride=2,
    stem_conv_kernel_size=(5, 7, 7),
    stage1_pool=nn.MaxPool3d,
    stage_conv_a_kernel_size=(
        (3, 1, 1),
        [(3, 1, 1), (1, 1, 1)],
        [(3, 1, 1), (1, 1, 1)],
        [(1, 1, 1), (3, 1, 1)],
    ),
)
_C2D = _resnet(
    temporal_stride=2,
    stem_conv_kernel_size=(1, 7, 7),
    stage1_pool=nn.MaxPool3d,
    stage_conv_a_kernel_size=((1, 1, 1),) * 4,
)

ZOO: dict[str, ZooModel] = {
    "r3d_18": ZooModel(_torchvision("r3d_18"), 16, 112),
    "mc3_18": ZooModel(_torchvision("mc3_18"), 16, 112),
    "r2plus1d_18": ZooModel(_torchvision("r2plus1d_18"), 16, 112),
    "s3d": ZooModel(_torchvision("s3d"), 64, 224),
    "x3d_xs": ZooModel(_x3d(2.2), 4, 160),
    "x3d_s": ZooModel(_x3d(2.2), 13, 160),
    "x3d_m": ZooModel(_x3d(2.2), 16, 224),
    "x3d_l": ZooModel(_x3d(5.0), 16, 312),
    "slow": ZooModel(_resnet(stem_conv_kernel_size=(1, 7, 7)), 8, 256),
    "c2d": ZooModel(_C2D, 8, 224),
    "i3d": ZooModel(_I3D, 8, 224),
    "slowfast_4x16": ZooModel(_slowfast(8, 5), 32, 224, slower=8),
    "slowfast_8x8": ZooModel(_slowfast(4, 7), 32, 224, slower=4),
    "mvit_v1_b": ZooModel(_torchvision("mvit_v1_b"), 16, 224),
    "swin3d_t": ZooModel(_torchvision("swin3d_t"), 32, 224),
    "csn": ZooModel(_csn, 32, 224),
    "r2plus1d": ZooModel(_r2plus1d, 16, 224),
}

"""3D-ResNet with shortcut A and 3D-ResNeXt: Hara et al., "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs
and ImageNet?", CVPR 2018."""

from __future__ import annotations

from functools import partial
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def downsample_basic_block(x: Tensor, planes: int, stride: int) -> Tensor:
    """Shortcut A: every ``stride``-th element, new channels of zeros."""
    out = F.avg_pool3d(x, kernel_size=1, stride=stride)
    zero_pads = torch.zeros(
        out.size(0), planes - out.size(1), out.size(2), out.size(3), out.size(4), dtype=x.dtype, device=x.device
    )
    return torch.cat([out.data, zero_pads], dim=1)


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv3d(planes, planes, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.downsample = None
        if stride != 1 or inputs != planes:
            self.downsample = partial(downsample_basic_block, planes=planes, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            residual = self.downsample(x)
        out += residual
        return self.relu(out)


class ResNeXtBottleneck(nn.Module):
    """A grouped 3x3x3 convolution between two 1x1x1, shortcut B."""

    def __init__(self, inputs: int, planes: int, stride: int, cardinality: int) -> None:
        super().__init__()
        mid = planes
        outputs = 2 * planes
        self.conv1 = nn.Conv3d(inputs, mid, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm3d(mid)
        self.conv2 = nn.Conv3d(mid, mid, kernel_size=3, stride=stride, padding=1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm3d(mid)
        self.conv3 = nn.Conv3d(mid, outputs, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm3d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            residual = self.downsample(x)
        out += residual
        return self.relu(out)


def stem(width: int) -> list[nn.Module]:
    return [
        nn.Conv3d(3, width, kernel_size=7, stride=(1, 2, 2), padding=(3, 3, 3), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool3d(kernel_size=(3, 3, 3), stride=2, padding=1),
    ]


class Head(nn.Module):
    """An average pool of the clip's size, and a classifier."""

    def __init__(self, channels: int, classes: int, frames: int, size: int) -> None:
        super().__init__()
        last_duration = ceil(frames / 16)
        last_size = ceil(size / 32)
        self.avgpool = nn.AvgPool3d((last_duration, last_size, last_size), stride=1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(x)
        x = x.view(x.size(0), -1)
        return self.fc(x)


class ResNetA(nn.Sequential):
    """Clips ``(N, 3, frames, size, size)`` to ``(N, classes)``: 18 layers without parameters in the shortcuts."""

    def __init__(
        self,
        *,
        frames: int = 16,
        size: int = 112,
        width: int = 64,
        layers: tuple[int, ...] = (2, 2, 2, 2),
        classes: int = 400,
    ) -> None:
        blocks: list[nn.Module] = []
        inputs = width
        for stage, repeats in enumerate(layers):
            planes = width * 2**stage
            for i in range(repeats):
                blocks.append(BasicBlock(inputs, planes, 2 if stage and i == 0 else 1))
                inputs = planes
        super().__init__()
        self.features = nn.Sequential(*stem(width), *blocks)
        self.head = Head(inputs, classes, frames, size)


class ResNeXt(nn.Sequential):
    """Clips ``(N, 3, frames, size, size)`` to ``(N, classes)``: ResNeXt-101 with its 23 blocks in stage 3."""

    def __init__(
        self,
        *,
        frames: int = 16,
        size: int = 112,
        width: int = 64,
        layers: tuple[int, ...] = (3, 4, 23, 3),
        cardinality: int = 32,
        classes: int = 400,
    ) -> None:
        blocks: list[nn.Module] = []
        inputs = width
        for stage, repeats in enumerate(layers):
            planes = 2 * width * 2**stage
            for i in range(repeats):
                blocks.append(ResNeXtBottleneck(inputs, planes, 2 if stage and i == 0 else 1, cardinality))
                inputs = 2 * planes
        super().__init__()
        self.features = nn.Sequential(*stem(width), *blocks)
        self.head = Head(inputs, classes, frames, size)

"""I3D: Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# 1x1x1; reduction and output of the first 3x3x3; of the second; after the pool; in units of width / 64
MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


def pad_same(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """TensorFlow's padding "same": as much as the size asks for, the odd one at the end."""
    pads: list[int] = []
    for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads)


class Unit3D(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, padding=0, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=0.001, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_same(x, self.kernel, self.stride)
        return F.relu(self.bn(self.conv3d(x)), inplace=True)


class MaxPool3dSame(nn.MaxPool3d):
    """A max pool whose padding is zeros, as after a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        x = pad_same(x, self.kernel_size, self.stride)
        return super().forward(x)


class InceptionModule(nn.Module):
    """Four branches, joined along channels."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = Unit3D(inputs, widths[0], (1, 1, 1))
        self.b1a = Unit3D(inputs, widths[1], (1, 1, 1))
        self.b1b = Unit3D(widths[1], widths[2], (3, 3, 3))
        self.b2a = Unit3D(inputs, widths[3], (1, 1, 1))
        self.b2b = Unit3D(widths[3], widths[4], (3, 3, 3))
        self.b3a = MaxPool3dSame((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(inputs, widths[5], (1, 1, 1))
        self.outputs = widths[0] + widths[2] + widths[4] + widths[5]

    def forward(self, x: Tensor) -> Tensor:
        b0 = self.b0(x)
        b1 = self.b1b(self.b1a(x))
        b2 = self.b2b(self.b2a(x))
        b3 = self.b3b(self.b3a(x))
        return torch.cat([b0, b1, b2, b3], dim=1)


class InceptionI3d(nn.Module):
    """Clips ``(N, 3, frames, size, size)`` to ``(N, classes)``."""

    def __init__(self, *, frames: int = 64, size: int = 224, width: int = 64, classes: int = 400) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Unit3D(3, width, (7, 7, 7), (2, 2, 2)),
            MaxPool3dSame((1, 3, 3), (1, 2, 2)),
            Unit3D(width, width, (1, 1, 1)),
            Unit3D(width, 3 * width, (3, 3, 3)),
            MaxPool3dSame((1, 3, 3), (1, 2, 2)),
        )
        channels = 3 * width
        for name, widths in MIXED.items():
            if name == "4b":
                self.features.append(MaxPool3dSame((3, 3, 3), (2, 2, 2)))
            if name == "5b":
                self.features.append(MaxPool3dSame((2, 2, 2), (2, 2, 2)))
            block = InceptionModule(channels, tuple(max(1, w * width // 64) for w in widths))
            self.features.append(block)
            channels = block.outputs
        # 2 x 7 x 7 for 64 frames of 224 x 224
        side = ceil(size / 32)
        self.avg_pool = nn.AvgPool3d((min(2, ceil(frames / 8)), side, side), stride=(1, 1, 1))
        self.dropout = nn.Dropout(0.5)
        self.logits = nn.Conv3d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.logits(self.dropout(self.avg_pool(x)))
        x = x.squeeze(3).squeeze(3)
        return x.mean(2)

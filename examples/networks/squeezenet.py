"""3D-SqueezeNet: Koepuekli et al., "Resource Efficient 3D Convolutional Neural Networks", ICCV workshops 2019."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn


class Fire(nn.Module):
    """Squeeze to few channels, expand with two kernels; the input comes by if it fits."""

    def __init__(self, inputs: int, squeeze: int, expand: int, *, bypass: bool = False) -> None:
        super().__init__()
        self.bypass = bypass
        self.relu = nn.ReLU(inplace=True)
        self.squeeze = nn.Conv3d(inputs, squeeze, kernel_size=1)
        self.squeeze_bn = nn.BatchNorm3d(squeeze)
        self.expand1x1 = nn.Conv3d(squeeze, expand, kernel_size=1)
        self.expand1x1_bn = nn.BatchNorm3d(expand)
        self.expand3x3 = nn.Conv3d(squeeze, expand, kernel_size=3, padding=1)
        self.expand3x3_bn = nn.BatchNorm3d(expand)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.squeeze_bn(self.squeeze(x)))
        out1 = self.expand1x1_bn(self.expand1x1(out))
        out2 = self.expand3x3_bn(self.expand3x3(out))
        out = torch.cat([out1, out2], 1)
        if self.bypass:
            out += x
        return self.relu(out)


class SqueezeNet(nn.Module):
    """Clips ``(N, 3, frames, size, size)`` to ``(N, classes)``."""

    def __init__(self, *, frames: int = 16, size: int = 112, width: int = 64, classes: int = 600) -> None:
        super().__init__()
        if frames < 16:
            raise ValueError("the head needs clips of at least 16 frames")
        quarter = width // 4
        self.features = nn.Sequential(
            nn.Conv3d(3, width, kernel_size=3, stride=(1, 2, 2), padding=(1, 1, 1)),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(kernel_size=3, stride=2, padding=1),
            Fire(width, quarter, width),
            Fire(2 * width, quarter, width, bypass=True),
            nn.MaxPool3d(kernel_size=3, stride=2, padding=1),
            Fire(2 * width, 2 * quarter, 2 * width),
            Fire(4 * width, 2 * quarter, 2 * width, bypass=True),
            nn.MaxPool3d(kernel_size=3, stride=2, padding=1),
            Fire(4 * width, 3 * quarter, 3 * width),
            Fire(6 * width, 3 * quarter, 3 * width, bypass=True),
            nn.MaxPool3d(kernel_size=3, stride=2, padding=1),
            Fire(6 * width, 4 * quarter, 4 * width),
            Fire(8 * width, 4 * quarter, 4 * width, bypass=True),
        )
        last_duration = ceil(frames / 16)
        last_size = ceil(size / 32)
        self.classifier = nn.Sequential(
            nn.Dropout(p=0.5),
            nn.Conv3d(8 * width, classes, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.AvgPool3d((last_duration, last_size, last_size), stride=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.classifier(x)
        return x.view(x.size(0), -1)

"""Recurrent convolutional units: Singh and Cuzzolin, "Recurrent Convolutions for Causal 3D CNNs", ICCVW 2019."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RecurrentConvolution(nn.Module):
    """A convolution over space, then ``h_t = (W h_{t-1} + x_t) / 2`` over time."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.spatial = nn.Conv3d(
            inputs, outputs, (1, kernel, kernel), (1, stride, stride), (0, kernel // 2, kernel // 2), bias=False
        )
        self.recurrent = nn.Conv2d(outputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spatial(x)
        h = x[:, :, 0]
        outputs = [h]
        for t in range(1, x.size(2)):
            h = (self.recurrent(h) + x[:, :, t]) / 2
            outputs.append(h)
        return torch.stack(outputs, dim=2)


class RecurrentBlock(nn.Module):
    """A residual block of ResNet-18 with a recurrent first convolution."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = RecurrentConvolution(inputs, planes, 3, stride)
        self.bn1 = nn.BatchNorm3d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv3d(planes, planes, (1, 3, 3), 1, (0, 1, 1), bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.downsample = None
        if stride != 1 or inputs != planes:
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, planes, 1, (1, stride, stride), bias=False), nn.BatchNorm3d(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += residual
        return self.relu(out)


class RecurrentResNet(nn.Module):
    """Clips ``(N, 3, T, H, W)`` to scores for every frame, ``(N, classes, T)``."""

    def __init__(self, *, width: int = 64, layers: tuple[int, ...] = (2, 2, 2, 2), classes: int = 400) -> None:
        super().__init__()
        self.conv1 = RecurrentConvolution(3, width, 7, 2)
        self.bn1 = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        blocks: list[nn.Module] = []
        inputs = width
        for stage, repeats in enumerate(layers):
            for i in range(repeats):
                planes = width * 2**stage
                blocks.append(RecurrentBlock(inputs, planes, 2 if stage and i == 0 else 1))
                inputs = planes
        self.layers = nn.Sequential(*blocks)
        self.classifier = nn.Conv3d(inputs, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layers(x)
        x = x.mean(dim=(3, 4), keepdim=True)
        return self.classifier(x).squeeze(4).squeeze(3)

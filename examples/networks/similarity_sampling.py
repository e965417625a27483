"""ATFR: Fayyaz et al., "3D CNNs with Adaptive Temporal Feature Resolutions", CVPR 2021."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SimilarityGuidedSampling(nn.Module):
    """Frames that look alike become one: bins along the distance to the clip's mean, empty ones dropped."""

    def __init__(self, channels: int, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.embedding = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = x.mean(dim=(3, 4)).transpose(1, 2)
        z = self.embedding(features)
        distance = (z - z.mean(dim=1, keepdim=True)).norm(dim=2)
        distance = distance / distance.max(dim=1, keepdim=True).values.clamp(min=1e-6) * self.bins
        centres = torch.arange(self.bins, device=x.device, dtype=x.dtype) + 0.5
        weights = (1 - (distance.unsqueeze(2) - centres).abs()).clamp(min=0)
        filled = weights.sum(dim=(0, 1)) > 0
        weights = weights[:, :, filled]
        return torch.einsum("nctyx,ntb->ncbyx", x, weights)


class Block(nn.Module):
    """A residual block of R3D-18."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, planes, 3, (1, stride, stride), 1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv3d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.downsample = None
        if stride != 1 or inputs != planes:
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, planes, 1, (1, stride, stride), bias=False), nn.BatchNorm3d(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + identity)


class AdaptiveResNet(nn.Module):
    """Clips ``(N, 3, T, H, W)`` to ``(N, classes)``: as many frames from the second stage on as the clip deserves."""

    def __init__(self, *, width: int = 64, bins: int = 16, classes: int = 400) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )
        self.layer1 = nn.Sequential(Block(width, width, 1), Block(width, width, 1))
        self.sampling = SimilarityGuidedSampling(width, bins)
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(Block(2 * width, 4 * width, 2), Block(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(Block(4 * width, 8 * width, 2), Block(8 * width, 8 * width, 1))
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.stem(x))
        x = self.sampling(x)
        x = self.layer4(self.layer3(self.layer2(x)))
        return self.fc(self.avgpool(x).flatten(1))

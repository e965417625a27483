"""D3D: Koepuekli et al., "Dissected 3D CNNs: Temporal Skip Connections for Efficient Online Video Processing", 2020."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class DissectedBlock(nn.Module):
    """A residual block whose first convolution sees the frame before, online from a cache, here from padding."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, planes, (2, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
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
        identity = x if self.downsample is None else self.downsample(x)
        out = F.pad(x, (0, 0, 0, 0, 1, 0))
        out = self.relu(self.bn1(self.conv1(out)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class DissectedResNet(nn.Module):
    """Clips ``(N, 3, T, H, W)`` to scores for every frame, ``(N, T, classes)``."""

    def __init__(self, *, width: int = 64, layers: tuple[int, ...] = (2, 2, 2, 2), classes: int = 400) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )
        blocks: list[nn.Module] = []
        inputs = width
        for stage, repeats in enumerate(layers):
            for i in range(repeats):
                planes = width * 2**stage
                blocks.append(DissectedBlock(inputs, planes, 2 if stage and i == 0 else 1))
                inputs = planes
        self.layers = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.stem(x))
        x = x.mean((3, 4)).transpose(1, 2)
        return self.fc(x)

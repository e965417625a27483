"""3D-ShuffleNet and 3D-ShuffleNetV2: Koepuekli et al., "Resource Efficient 3D Convolutional Neural Networks", 2019."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REPEATS = (4, 8, 4)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Channels of all groups in turn."""
    batchsize, num_channels, depth, height, width = x.data.size()
    channels_per_group = num_channels // groups
    x = x.view(batchsize, groups, channels_per_group, depth, height, width)
    x = x.permute(0, 2, 1, 3, 4, 5).contiguous()
    return x.view(batchsize, num_channels, depth, height, width)


def stem(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(3, width, kernel_size=3, stride=(1, 2, 2), padding=(1, 1, 1), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool3d(kernel_size=3, stride=2, padding=1),
    )


class Bottleneck(nn.Module):
    """Grouped 1x1x1, shuffle, depthwise 3x3x3, grouped 1x1x1; a strided one joins a pool of its input."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int, *, first: bool = False) -> None:
        super().__init__()
        self.stride = stride
        self.groups = groups
        mid = outputs // 4
        if stride == 2:
            outputs = outputs - inputs
        self.conv1 = nn.Conv3d(inputs, mid, kernel_size=1, groups=1 if first else groups, bias=False)
        self.bn1 = nn.BatchNorm3d(mid)
        self.conv2 = nn.Conv3d(mid, mid, kernel_size=3, stride=stride, padding=1, groups=mid, bias=False)
        self.bn2 = nn.BatchNorm3d(mid)
        self.conv3 = nn.Conv3d(mid, outputs, kernel_size=1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)
        if stride == 2:
            self.shortcut = nn.AvgPool3d(kernel_size=(3, 3, 3), stride=2, padding=(1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = channel_shuffle(out, self.groups)
        out = self.bn2(self.conv2(out))
        out = self.bn3(self.conv3(out))
        out = self.relu(torch.cat([out, self.shortcut(x)], 1)) if self.stride == 2 else self.relu(out + x)
        return out


class ShuffleNet(nn.Module):
    """Clips ``(N, 3, T, H, W)`` to ``(N, classes)``; ``width`` is a tenth of the first stage's channels."""

    def __init__(
        self, *, width: int = 24, groups: int = 3, repeats: tuple[int, ...] = REPEATS, classes: int = 600
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(stem(width))
        inputs = width
        for stage, count in enumerate(repeats):
            outputs = 10 * width * 2**stage
            for i in range(count):
                first = stage == 0 and i == 0
                self.features.append(Bottleneck(inputs, outputs, 2 if i == 0 else 1, groups, first=first))
                inputs = outputs
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        out = self.features(x)
        out = F.avg_pool3d(out, out.data.size()[-3:])
        out = out.view(out.size(0), -1)
        return self.classifier(out)


class InvertedResidual(nn.Module):
    """Half of the channels pass by; a strided one sends all through both branches."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half = outputs // 2
        if stride == 2:
            self.branch1 = nn.Sequential(
                nn.Conv3d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm3d(inputs),
                nn.Conv3d(inputs, half, 1, 1, 0, bias=False),
                nn.BatchNorm3d(half),
                nn.ReLU(inplace=True),
            )
        taken = inputs if stride == 2 else half
        self.branch2 = nn.Sequential(
            nn.Conv3d(taken, half, 1, 1, 0, bias=False),
            nn.BatchNorm3d(half),
            nn.ReLU(inplace=True),
            nn.Conv3d(half, half, 3, stride, 1, groups=half, bias=False),
            nn.BatchNorm3d(half),
            nn.Conv3d(half, half, 1, 1, 0, bias=False),
            nn.BatchNorm3d(half),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            x1 = x[:, : (x.shape[1] // 2), :, :, :]
            x2 = x[:, (x.shape[1] // 2) :, :, :, :]
            out = torch.cat((x1, self.branch2(x2)), 1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), 1)
        return channel_shuffle(out, 2)


class ShuffleNetV2(nn.Module):
    """Clips ``(N, 3, T, H, W)`` to ``(N, classes)``; ``width`` is the first stage's channels (116 for 1.0x)."""

    def __init__(self, *, width: int = 116, repeats: tuple[int, ...] = REPEATS, classes: int = 600) -> None:
        super().__init__()
        self.features = nn.Sequential(stem(24))
        inputs = 24
        for stage, count in enumerate(repeats):
            outputs = width * 2**stage
            for i in range(count):
                self.features.append(InvertedResidual(inputs, outputs, 2 if i == 0 else 1))
                inputs = outputs
        last = 1024 * width // 116
        self.conv_last = nn.Sequential(
            nn.Conv3d(inputs, last, 1, 1, 0, bias=False), nn.BatchNorm3d(last), nn.ReLU(inplace=True)
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        out = self.features(x)
        out = self.conv_last(out)
        out = F.avg_pool3d(out, out.data.size()[-3:])
        out = out.view(out.size(0), -1)
        return self.classifier(out)

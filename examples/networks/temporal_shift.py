"""TSM: Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TemporalShift(nn.Module):
    """Moves some channels by a frame before a convolution, on frames folded into the batch.

    Attributes:
        online: only from the past, as in the paper's online network.
    """

    def __init__(self, net: nn.Module, n_segment: int, n_div: int = 8, *, online: bool = False) -> None:
        super().__init__()
        self.net = net
        self.n_segment = n_segment
        self.fold_div = n_div
        self.online = online

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.shift(x))

    def shift(self, x: Tensor) -> Tensor:
        nt, c, h, w = x.size()
        n_batch = nt // self.n_segment
        x = x.view(n_batch, self.n_segment, c, h, w)
        fold = c // self.fold_div
        out = torch.zeros_like(x)
        if self.online:
            out[:, 1:, :fold] = x[:, :-1, :fold]
            out[:, :, fold:] = x[:, :, fold:]
        else:
            out[:, :-1, :fold] = x[:, 1:, :fold]
            out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
            out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
        return out.view(nt, c, h, w)


class ShiftBlock(nn.Module):
    """A residual block of ResNet-18 with the shift inside the residual branch."""

    def __init__(self, inputs: int, planes: int, stride: int, n_segment: int, *, online: bool) -> None:
        super().__init__()
        conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.conv1 = TemporalShift(conv1, n_segment, online=online)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inputs != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ShiftResNet(nn.Module):
    """Clips ``(N, frames, 3, H, W)`` to ``(N, classes)``, the mean of what each frame says."""

    def __init__(self, *, frames: int = 8, width: int = 64, classes: int = 174, online: bool = False) -> None:
        super().__init__()
        self.n_segment = frames
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        blocks: list[nn.Module] = []
        inputs = width
        for stage in range(4):
            for i in range(2):
                planes = width * 2**stage
                blocks.append(ShiftBlock(inputs, planes, 2 if stage and i == 0 else 1, frames, online=online))
                inputs = planes
        self.layers = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def features(self, x: Tensor) -> Tensor:
        x = x.view((-1, 3, *x.size()[-2:]))
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layers(x)
        x = torch.flatten(self.avgpool(x), 1)
        x = self.fc(x)
        return x.view((-1, self.n_segment, *x.size()[1:]))

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).mean(dim=1, keepdim=True).squeeze(1)

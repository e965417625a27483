"""Non-local I3D: Wang et al., "Non-local Neural Networks", CVPR 2018."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NonLocalBlock(nn.Module):
    """Embedded Gaussian attention of all positions in space and time to all others, pooled over space."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.inter_channels = in_channels // 2
        self.g = nn.Sequential(nn.Conv3d(in_channels, self.inter_channels, 1), nn.MaxPool3d((1, 2, 2)))
        self.theta = nn.Conv3d(in_channels, self.inter_channels, 1)
        self.phi = nn.Sequential(nn.Conv3d(in_channels, self.inter_channels, 1), nn.MaxPool3d((1, 2, 2)))
        self.W = nn.Sequential(nn.Conv3d(self.inter_channels, in_channels, 1), nn.BatchNorm3d(in_channels))

    def forward(self, x: Tensor) -> Tensor:
        batch_size = x.size(0)
        g_x = self.g(x).view(batch_size, self.inter_channels, -1)
        g_x = g_x.permute(0, 2, 1)
        theta_x = self.theta(x).view(batch_size, self.inter_channels, -1)
        theta_x = theta_x.permute(0, 2, 1)
        phi_x = self.phi(x).view(batch_size, self.inter_channels, -1)
        f = torch.matmul(theta_x, phi_x)
        f_div_c = F.softmax(f, dim=-1)
        y = torch.matmul(f_div_c, g_x)
        y = y.permute(0, 2, 1).contiguous()
        y = y.view(batch_size, self.inter_channels, *x.size()[2:])
        return self.W(y) + x


class Bottleneck(nn.Module):
    """A residual block, inflated to ``3 x 1 x 1`` at its beginning or not."""

    def __init__(self, inputs: int, planes: int, stride: int, time: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, planes, (time, 1, 1), padding=(time // 2, 0, 0), bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = nn.Conv3d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * planes)
        self.downsample = None
        if inputs != 4 * planes or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, 4 * planes, 1, (1, stride, stride), bias=False), nn.BatchNorm3d(4 * planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return F.relu(out)


class NonLocalI3D(nn.Module):
    """Clips ``(N, 3, T, H, W)`` to ``(N, classes)``: inflated ResNet-50, a non-local block at every other block of
    the second and third stage."""

    def __init__(self, *, width: int = 64, layers: tuple[int, ...] = (3, 4, 6, 3), classes: int = 400) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (5, 7, 7), (2, 2, 2), (2, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.maxpool1 = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.maxpool2 = nn.MaxPool3d((2, 1, 1), (2, 1, 1))
        inputs = width
        stages: list[nn.Sequential] = []
        for stage, repeats in enumerate(layers):
            blocks: list[nn.Module] = []
            for i in range(repeats):
                planes = width * 2**stage
                inflated = stage == 0 or i % 2 == (stage == 3)
                blocks.append(Bottleneck(inputs, planes, 2 if stage and i == 0 else 1, 3 if inflated else 1))
                inputs = 4 * planes
                if stage in (1, 2) and i % 2:
                    blocks.append(NonLocalBlock(inputs))
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool3d((1, 1, 1))
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool1(F.relu(self.bn1(self.conv1(x))))
        x = self.maxpool2(self.layer1(x))
        x = self.layer4(self.layer3(self.layer2(x)))
        x = self.dropout(self.avgpool(x).view(x.shape[0], -1))
        return self.fc(x)

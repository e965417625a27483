"""Lip reading: Martinez et al., "Lipreading Using Temporal Convolutional Networks", ICASSP 2020."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """A block of a 2D ResNet-18 with PReLU."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.PReLU(num_parameters=planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.PReLU(num_parameters=planes)
        self.downsample = None
        if stride != 1 or inputs != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        residual = x
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            residual = self.downsample(x)
        out += residual
        return self.relu2(out)


class ResNet(nn.Module):
    """Frames ``(N, width, H, W)`` to ``(N, 8 * width)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        inputs = width
        for stage in range(4):
            for i in range(2):
                planes = width * 2**stage
                blocks.append(BasicBlock(inputs, planes, 2 if stage and i == 0 else 1))
                inputs = planes
        self.layers = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.layers(x))
        return x.view(x.size(0), -1)


class TemporalBlock(nn.Module):
    """Two dilated convolutions over time, as many frames out as in."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, outputs, 3, padding=2 * dilation, dilation=dilation)
        self.bn1 = nn.BatchNorm1d(outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=2 * dilation, dilation=dilation)
        self.bn2 = nn.BatchNorm1d(outputs)
        self.chomp = dilation
        self.downsample = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x))[:, :, self.chomp : -self.chomp].contiguous()
        out = F.relu(out, inplace=True)
        out = self.bn2(self.conv2(out))[:, :, self.chomp : -self.chomp].contiguous()
        out = F.relu(out, inplace=True)
        res = x if self.downsample is None else self.downsample(x)
        return F.relu(out + res)


class Lipreading(nn.Module):
    """Clips ``(N, 1, T, H, W)`` of grey mouths to ``(N, classes)``."""

    def __init__(self, *, width: int = 64, classes: int = 500) -> None:
        super().__init__()
        self.frontend_nout = width
        self.frontend3D = nn.Sequential(
            nn.Conv3d(1, width, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.PReLU(num_parameters=width),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )
        self.trunk = ResNet(width)
        self.backend_out = 8 * width
        self.tcn = nn.Sequential(
            TemporalBlock(self.backend_out, 4 * width, 1),
            TemporalBlock(4 * width, 4 * width, 2),
            TemporalBlock(4 * width, 4 * width, 4),
            TemporalBlock(4 * width, 4 * width, 8),
        )
        self.tcn_output = nn.Linear(4 * width, classes)

    def features(self, x: Tensor) -> Tensor:
        b = x.size(0)
        x = self.frontend3D(x)
        t_new = x.shape[2]
        n_batch, n_channels, s_time, sx, sy = x.shape
        x = x.transpose(1, 2)
        x = x.reshape(n_batch * s_time, n_channels, sx, sy)
        x = self.trunk(x)
        x = x.view(b, t_new, x.size(1))
        return self.tcn(x.transpose(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.tcn_output(self.features(x).mean(2))

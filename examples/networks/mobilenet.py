"""3D-MobileNet and 3D-MobileNetV2: Koepuekli et al., "Resource Efficient 3D Convolutional Neural Networks", 2019."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

Stride = tuple[int, int, int]

# output channels at width 32, repeats, stride of the first
SETTINGS = (
    (64, 1, (2, 2, 2)),
    (128, 2, (2, 2, 2)),
    (256, 2, (2, 2, 2)),
    (512, 6, (2, 2, 2)),
    (1024, 2, (1, 1, 1)),
)
# expansion, output channels at width 32, repeats, stride of the first
SETTINGS_V2 = (
    (1, 16, 1, (1, 1, 1)),
    (6, 24, 2, (2, 2, 2)),
    (6, 32, 3, (2, 2, 2)),
    (6, 64, 4, (2, 2, 2)),
    (6, 96, 3, (1, 1, 1)),
    (6, 160, 3, (2, 2, 2)),
    (6, 320, 1, (1, 1, 1)),
)


def conv_bn(inputs: int, outputs: int, stride: Stride) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel_size=3, stride=stride, padding=(1, 1, 1), bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


class DepthwiseBlock(nn.Module):
    """Depthwise, then pointwise convolution."""

    def __init__(self, inputs: int, outputs: int, stride: Stride) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, inputs, kernel_size=3, stride=stride, padding=1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm3d(inputs)
        self.conv2 = nn.Conv3d(inputs, outputs, kernel_size=1, stride=1, padding=0, bias=False)
        self.bn2 = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)))


class InvertedResidual(nn.Module):
    """Wide in the middle, narrow and linear at both ends."""

    def __init__(self, inputs: int, outputs: int, stride: Stride, expansion: int) -> None:
        super().__init__()
        hidden = round(inputs * expansion)
        self.use_res_connect = stride == (1, 1, 1) and inputs == outputs
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv3d(inputs, hidden, 1, 1, 0, bias=False), nn.BatchNorm3d(hidden), nn.ReLU6(inplace=True)]
        layers += [
            nn.Conv3d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm3d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv3d(hidden, outputs, 1, 1, 0, bias=False),
            nn.BatchNorm3d(outputs),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if self.use_res_connect:
            return x + self.conv(x)
        return self.conv(x)


class MobileNet(nn.Module):
    """Clips ``(N, 3, T, H, W)`` to ``(N, classes)``."""

    def __init__(self, *, width: int = 32, classes: int = 600) -> None:
        super().__init__()
        self.features = nn.Sequential(conv_bn(3, width, (1, 2, 2)))
        inputs = width
        for channels, repeats, stride in SETTINGS:
            outputs = channels * width // 32
            for i in range(repeats):
                self.features.append(DepthwiseBlock(inputs, outputs, stride if i == 0 else (1, 1, 1)))
                inputs = outputs
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = F.avg_pool3d(x, x.data.size()[-3:])
        x = x.view(x.size(0), -1)
        return self.classifier(x)


class MobileNetV2(nn.Module):
    """Clips ``(N, 3, T, H, W)`` to ``(N, classes)``."""

    def __init__(self, *, width: int = 32, classes: int = 600) -> None:
        super().__init__()
        self.features = nn.Sequential(conv_bn(3, width, (1, 2, 2)))
        inputs = width
        for expansion, channels, repeats, stride in SETTINGS_V2:
            outputs = channels * width // 32
            for i in range(repeats):
                self.features.append(InvertedResidual(inputs, outputs, stride if i == 0 else (1, 1, 1), expansion))
                inputs = outputs
        last = 40 * width
        self.features.append(
            nn.Sequential(nn.Conv3d(inputs, last, 1, 1, 0, bias=False), nn.BatchNorm3d(last), nn.ReLU6(inplace=True))
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = F.avg_pool3d(x, x.data.size()[-3:])
        x = x.view(x.size(0), -1)
        return self.classifier(x)

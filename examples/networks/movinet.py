"""MoViNet's causal blocks: Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition",
CVPR 2021."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# expanded and output channels at width 16, temporal kernel, spatial kernel, spatial stride, as in A0
BLOCKS = (
    (24, 8, 1, 5, 2),
    (80, 32, 3, 3, 2),
    (80, 32, 3, 3, 1),
    (80, 32, 3, 3, 1),
    (184, 56, 5, 3, 2),
    (112, 56, 3, 3, 1),
    (184, 56, 3, 3, 1),
    (184, 56, 5, 3, 1),
    (184, 56, 3, 3, 1),
    (344, 104, 5, 3, 2),
    (344, 104, 1, 5, 1),
)


def cumulative_mean(x: Tensor) -> Tensor:
    """The mean over space and over all frames so far, for every frame."""
    x = x.mean(dim=(3, 4), keepdim=True)
    frames = torch.arange(1, x.shape[2] + 1, device=x.device, dtype=x.dtype)
    return x.cumsum(dim=2) / frames.view(1, 1, -1, 1, 1)


class CausalConv(nn.Module):
    """Convolution with all of its temporal padding before the clip, batch norm, hard swish."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int, int],
        stride: int = 1,
        *,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.before = kernel[0] - 1
        self.space = (kernel[1] // 2, kernel[2] // 2)
        self.conv = nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), groups=groups, bias=False)
        self.norm = nn.BatchNorm3d(outputs)
        self.activation = nn.Hardswish() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.space
        x = F.pad(x, (columns, columns, rows, rows, self.before, 0))
        return self.activation(self.norm(self.conv(x)))


class SqueezeExcitation(nn.Module):
    """Channels weighed by what has been seen so far."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(4, channels // 4)
        self.fc1 = nn.Conv3d(channels, squeezed, 1)
        self.fc2 = nn.Conv3d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(F.hardswish(self.fc1(cumulative_mean(x))))
        return F.hardsigmoid(scale) * x


class CausalBlock(nn.Module):
    """Expand, depthwise over space and past, squeeze and excite, project."""

    def __init__(self, inputs: int, expanded: int, outputs: int, time: int, space: int, stride: int) -> None:
        super().__init__()
        self.expand = CausalConv(inputs, expanded, (1, 1, 1))
        self.deep = CausalConv(expanded, expanded, (time, space, space), stride, groups=expanded)
        self.se = SqueezeExcitation(expanded)
        self.project = CausalConv(expanded, outputs, (1, 1, 1), activation=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.se(self.deep(self.expand(x))))
        return out + x if self.residual else out


class MoViNet(nn.Module):
    """Clips ``(N, 3, T, H, W)`` to scores after every frame, ``(N, classes, T)``."""

    def __init__(self, *, width: int = 16, classes: int = 600) -> None:
        super().__init__()
        self.stem = CausalConv(3, width // 2, (1, 3, 3), 2)
        self.blocks = nn.Sequential()
        inputs = width // 2
        for expanded, channels, time, space, stride in BLOCKS:
            outputs = channels * width // 16
            self.blocks.append(CausalBlock(inputs, expanded * width // 16, outputs, time, space, stride))
            inputs = outputs
        self.conv = CausalConv(inputs, 30 * width, (1, 1, 1))
        self.classifier = nn.Sequential(nn.Conv3d(30 * width, 128 * width, 1), nn.Hardswish(), nn.Dropout(0.2))
        self.logits = nn.Conv3d(128 * width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.blocks(self.stem(x)))
        x = self.logits(self.classifier(cumulative_mean(x)))
        return x.squeeze(4).squeeze(3)

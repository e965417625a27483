"""The video classifier of the demo: small, residual, with temporal stride, squeeze-and-excitation and a head."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from moving_shapes.data import MOVEMENTS

FRAMES = 16
SIZE = 64
"""Frames of a clip, and their height and width."""

WEIGHTS = Path(__file__).with_name("weights.safetensors")


class SqueezeExcite(nn.Module):
    """Channels weighed by what is in the whole clip.

    Attributes:
        over: the dimensions that the statistics are taken over: time and space.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.over = (2, 3, 4)
        self.squeeze = nn.Conv3d(channels, channels // 4, 1)
        self.excite = nn.Conv3d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        statistics = x.mean(self.over, keepdim=True)
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(statistics))))


class Block(nn.Module):
    """Two convolutions, the first over time too, around a shortcut that strides along."""

    def __init__(self, width_in: int, width: int, *, stride: tuple[int, int, int] = (1, 1, 1)) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.gate = SqueezeExcite(width)
        self.shortcut = nn.Identity()
        if stride != (1, 1, 1) or width_in != width:
            self.shortcut = nn.Sequential(
                nn.Conv3d(width_in, width, 1, stride=stride, bias=False), nn.BatchNorm3d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.gate(self.bn2(self.conv2(y)))
        return torch.relu(y + self.shortcut(x))


class MovementNet(nn.Module):
    """Clips ``(N, 3, FRAMES, SIZE, SIZE)`` of values from 0 to 1 to one score per movement, ``(N, 5)``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 16, (1, 5, 5), stride=(1, 2, 2), padding=(0, 2, 2), bias=False),
            nn.BatchNorm3d(16),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(
            Block(16, 16),
            Block(16, 32, stride=(2, 2, 2)),
            Block(32, 48, stride=(1, 2, 2)),
        )
        self.classifier = nn.Linear(48, len(MOVEMENTS))

    def features(self, clip: Tensor) -> Tensor:
        """One element for two frames."""
        return self.blocks(self.stem(clip))

    def classify(self, features: Tensor) -> Tensor:
        return self.classifier(features.mean((2, 3, 4)))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def trained() -> MovementNet:
    """The classifier with the weights that ``examples/train.py`` made, in eval mode."""
    model = MovementNet().eval()
    model.load_state_dict(load_file(WEIGHTS))
    return model

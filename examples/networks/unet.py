"""3D U-Net: Cicek et al., "3D U-Net: Learning Dense Volumetric Segmentation from Sparse Annotation", MICCAI 2016."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def norm_layer(norm: str, channels: int) -> nn.Module:
    return nn.GroupNorm(min(8, channels), channels) if norm == "group" else nn.BatchNorm3d(channels)


class DoubleConv(nn.Sequential):
    """Two convolutions, each with a norm and a ReLU."""

    def __init__(self, inputs: int, middle: int, outputs: int, norm: str) -> None:
        super().__init__(
            nn.Conv3d(inputs, middle, 3, padding=1, bias=False),
            norm_layer(norm, middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, outputs, 3, padding=1, bias=False),
            norm_layer(norm, outputs),
            nn.ReLU(inplace=True),
        )


class UNet3D(nn.Module):
    """Clips ``(N, 3, T, H, W)`` to a score per class and pixel, ``(N, classes, T, H, W)``.

    Args:
        norm: ``group`` or ``batch``.
        upsampling: ``nearest`` or ``trilinear``.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        levels: int = 4,
        norm: str = "group",
        upsampling: str = "nearest",
        classes: int = 4,
    ) -> None:
        super().__init__()
        self.upsampling = upsampling
        widths = [2 * width * 2**level for level in range(levels)]
        inputs = [3, *widths[:-1]]
        self.encoders = nn.ModuleList(
            DoubleConv(inside, outside // 2, outside, norm) for inside, outside in zip(inputs, widths, strict=True)
        )
        self.pool = nn.MaxPool3d(2)
        self.decoders = nn.ModuleList(
            DoubleConv(fine + coarse, fine, fine, norm)
            for fine, coarse in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.final_conv = nn.Conv3d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            if level:
                x = self.pool(x)
            x = encoder(x)
            skips.insert(0, x)
        for skip, decoder in zip(skips[1:], self.decoders, strict=True):
            x = F.interpolate(x, size=skip.size()[2:], mode=self.upsampling)
            x = decoder(torch.cat((skip, x), dim=1))
        return self.final_conv(x)

"""A temporal encoder-decoder after Lea et al., "Temporal Convolutional Networks for Action Segmentation and
Detection", CVPR 2017, on video: pools over time down, transposed convolutions up."""

from __future__ import annotations

from torch import Tensor, nn


class Down(nn.Sequential):
    """Convolution, then half the frames and half the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv3d(inputs, outputs, 3, padding=1),
            nn.BatchNorm3d(outputs),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(2, 2),
        )


class Up(nn.Sequential):
    """Twice the frames and twice the size, then convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            nn.ConvTranspose3d(inputs, outputs, kernel, stride=2, padding=kernel // 2 - 1),
            nn.BatchNorm3d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv3d(outputs, outputs, 3, padding=1),
            nn.BatchNorm3d(outputs),
            nn.ReLU(inplace=True),
        )


class EncoderDecoder(nn.Module):
    """Clips ``(N, 3, T, H, W)`` to ``(N, classes, T, H, W)``."""

    def __init__(self, *, width: int = 32, levels: int = 3, kernel: int = 4, classes: int = 4) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.encoder = nn.Sequential(*(Down(a, b) for a, b in zip([3, *widths], widths, strict=False)))
        self.decoder = nn.Sequential(
            *(Up(a, b, kernel) for a, b in zip(widths[::-1], [*widths[-2::-1], width], strict=True))
        )
        self.classifier = nn.Conv3d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.decoder(self.encoder(x)))

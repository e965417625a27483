"""CNN-LSTM: Donahue et al., "Long-term Recurrent Convolutional Networks for Visual Recognition and Description",
CVPR 2015."""

from __future__ import annotations

from torch import Tensor, nn


class CNNLSTM(nn.Module):
    """Clips ``(N, T, 3, H, W)`` to scores for every frame, ``(N, T, classes)``, or after the last, ``(N, classes)``."""

    def __init__(self, *, width: int = 32, hidden: int = 256, classes: int = 101, last: bool = False) -> None:
        super().__init__()
        self.last = last
        self.cnn = nn.Sequential(
            nn.Conv2d(3, width, 5, 2, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.lstm = nn.LSTM(4 * width, hidden, num_layers=2, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        batch_size, timesteps, channels, height, width = x.size()
        features = self.cnn(x.view(batch_size * timesteps, channels, height, width))
        out, _ = self.lstm(features.view(batch_size, timesteps, -1))
        if self.last:
            out = out[:, -1, :]
        return self.fc(out)

"""C3D: Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015."""

from __future__ import annotations

from torch import Tensor, nn


class C3D(nn.Module):
    """Clips ``(N, 3, frames, size, size)``, flattened whole into fc6, to ``(N, classes)``."""

    def __init__(self, *, frames: int = 16, size: int = 112, width: int = 64, classes: int = 487) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, kernel_size=(3, 3, 3), padding=(1, 1, 1))
        self.pool1 = nn.MaxPool3d(kernel_size=(1, 2, 2), stride=(1, 2, 2))
        self.conv2 = nn.Conv3d(width, 2 * width, kernel_size=(3, 3, 3), padding=(1, 1, 1))
        self.pool2 = nn.MaxPool3d(kernel_size=(2, 2, 2), stride=(2, 2, 2))
        self.conv3a = nn.Conv3d(2 * width, 4 * width, kernel_size=(3, 3, 3), padding=(1, 1, 1))
        self.conv3b = nn.Conv3d(4 * width, 4 * width, kernel_size=(3, 3, 3), padding=(1, 1, 1))
        self.pool3 = nn.MaxPool3d(kernel_size=(2, 2, 2), stride=(2, 2, 2))
        self.conv4a = nn.Conv3d(4 * width, 8 * width, kernel_size=(3, 3, 3), padding=(1, 1, 1))
        self.conv4b = nn.Conv3d(8 * width, 8 * width, kernel_size=(3, 3, 3), padding=(1, 1, 1))
        self.pool4 = nn.MaxPool3d(kernel_size=(2, 2, 2), stride=(2, 2, 2))
        self.conv5a = nn.Conv3d(8 * width, 8 * width, kernel_size=(3, 3, 3), padding=(1, 1, 1))
        self.conv5b = nn.Conv3d(8 * width, 8 * width, kernel_size=(3, 3, 3), padding=(1, 1, 1))
        self.pool5 = nn.MaxPool3d(kernel_size=(2, 2, 2), stride=(2, 2, 2), padding=(0, 1, 1))
        side = size // 16 // 2 + 1
        self.flat = 8 * width * (frames // 16) * side * side
        self.fc6 = nn.Linear(self.flat, 64 * width)
        self.fc7 = nn.Linear(64 * width, 64 * width)
        self.fc8 = nn.Linear(64 * width, classes)
        self.dropout = nn.Dropout(p=0.5)
        self.relu = nn.ReLU()

    def features(self, x: Tensor) -> Tensor:
        h = self.pool1(self.relu(self.conv1(x)))
        h = self.pool2(self.relu(self.conv2(h)))
        h = self.relu(self.conv3b(self.relu(self.conv3a(h))))
        h = self.pool3(h)
        h = self.relu(self.conv4b(self.relu(self.conv4a(h))))
        h = self.pool4(h)
        h = self.relu(self.conv5b(self.relu(self.conv5a(h))))
        return self.pool5(h)

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x)
        h = h.view(-1, self.flat)
        h = self.dropout(self.relu(self.fc6(h)))
        h = self.dropout(self.relu(self.fc7(h)))
        return self.fc8(h)

"""Networks with memory, written as people write them, on clips of (N, C, T, H, W)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLIP = (1, 2, 8, 4, 5)


class RCU(nn.Module):
    """Singh and Cuzzolin 2019: h_0 = x_0, h_t = (W h_{t-1} + x_t) / 2, as a loop over frames."""

    def __init__(self, join: str = "stack") -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 3, padding=1)
        self.hidden = nn.Conv2d(3, 3, 1)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        h = x[:, :, 0]
        made = [h]
        for t in range(1, x.shape[2]):
            h = (self.hidden(h) + x[:, :, t]) / 2
            made.append(h)
        if self.join == "cat":
            return torch.cat([one.unsqueeze(2) for one in made], dim=2)
        return torch.stack(made, dim=2)


class ConvLSTMCell(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(inputs + hidden, 4 * hidden, 3, padding=1)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        i, f, o, g = torch.split(self.gates(torch.cat([x, h], 1)), self.hidden, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class ConvLSTM(nn.Module):
    """Two layers, each a loop of its own, the second over what the first stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([ConvLSTMCell(2, 3), ConvLSTMCell(3, 2)])

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2)
        for cell in self.cells:
            n, t, _, height, width = frames.shape
            h = torch.zeros(n, cell.hidden, height, width)
            c = torch.zeros_like(h)
            made = []
            for step in range(t):
                h, c = cell(frames[:, step], (h, c))
                made.append(h)
            frames = torch.stack(made, dim=1)
        return frames.transpose(1, 2)


class OfFrames(nn.Module):
    """A recurrent layer over each frame's features."""

    def __init__(self, layer: nn.Module, *, batch_first: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 6, 3, padding=1)
        self.layer = layer
        self.batch_first = batch_first

    def features(self, x: Tensor) -> tuple[Tensor, object]:
        x = self.conv(x).mean((3, 4))
        made, last = self.layer(x.permute(0, 2, 1) if self.batch_first else x.permute(2, 0, 1))
        return (made if self.batch_first else made.transpose(0, 1)), last

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[0].transpose(1, 2)


class LastOf(OfFrames):
    """A classifier on what the layer says of the last frame."""

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[0][:, -1]


class LastState(OfFrames):
    """A classifier on the layer's own last hidden state, of its last level."""

    def forward(self, x: Tensor) -> Tensor:
        last = self.features(x)[1]
        return (last[0] if isinstance(last, tuple) else last)[-1]


class MeanOf(OfFrames):
    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[0].mean(1)


class Looped(nn.Module):
    """A step function called frame by frame."""

    def __init__(self, step: Callable[[Tensor, Tensor], Tensor], begin: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step = step
        self.begin = begin

    def forward(self, x: Tensor) -> Tensor:
        h = self.begin(x)
        made = []
        for frame in x.unbind(2):
            h = self.step(h, frame)
            made.append(h)
        return torch.stack(made, 2)


class FrameNet(nn.Module):
    """A 2D network called on each frame; nothing is carried."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(x[:, :, t]) for t in range(x.shape[2])], dim=2)


class Neighbours(nn.Module):
    """Frame t with the features of the frame before it; zeros before the first."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(2, 3, 3, padding=1)
        self.mix = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        before = None
        made = []
        for t in range(x.shape[2]):
            f = self.features(x[:, :, t])
            made.append(self.mix(torch.cat([torch.zeros_like(f) if before is None else before, f], 1)))
            before = f
        return torch.stack(made, 2)


class Written(nn.Module):
    """Results written into a tensor that was made before the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        made = torch.zeros_like(x)
        h = torch.zeros_like(x[:, :, 0])
        for t in range(x.shape[2]):
            h = torch.tanh(self.hidden(h) + x[:, :, t])
            made[:, :, t] = h
        return made


class CellLoop(nn.Module):
    """torch's cells, two deep, with learned first states."""

    def __init__(self) -> None:
        super().__init__()
        self.lower = nn.LSTMCell(2, 5)
        self.upper = nn.GRUCell(5, 3)
        self.begin = nn.Parameter(torch.randn(1, 3))
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((3, 4))
        state = None
        h = self.begin.expand(x.shape[0], -1)
        for t in range(x.shape[2]):
            state = self.lower(x[:, :, t], state)
            h = self.upper(state[0], h)
        return self.head(F.relu(h))


class GatedAverage(nn.Module):
    """Frames weighted one by one, added up over the clip in the loop: a sum over the clip, nothing is carried."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((3, 4))
        total = torch.zeros(x.shape[0], 2)
        for t in range(x.shape[2]):
            total = total + torch.sigmoid(self.score(x[:, :, t])) * x[:, :, t]
        return total / x.shape[2]

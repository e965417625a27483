"""The operator: a weighted sum of each element and its neighbours, the same for all channels. Knows no compiler."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.library.custom_op("own_operation::temporal_filter", mutates_args=())
def temporal_filter(video: Tensor, weights: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Element n is ``sum_j weights[j] * video[:, :, stride * n - padding + j]``, zeros beyond the ends.

    Args:
        video: ``(batch, channels, time, height, width)``.
        weights: one per neighbour.
    """
    padded = F.pad(video, (0, 0, 0, 0, padding, padding))
    return (padded.unfold(2, len(weights), stride) * weights).sum(-1)


@temporal_filter.register_fake
def _(video: Tensor, weights: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    batch, channels, time, *frame = video.shape
    return video.new_empty(batch, channels, (time + 2 * padding - len(weights)) // stride + 1, *frame)


class TemporalFilter(nn.Module):
    """The operator with its weights learned; they begin as a difference of neighbours."""

    def __init__(self, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.linspace(-1.0, 1.0, size))
        self.stride = stride
        self.padding = size // 2

    def forward(self, video: Tensor) -> Tensor:
        filtered: Tensor = temporal_filter(video, self.weights, self.stride, self.padding)
        return filtered

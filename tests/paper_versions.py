"""The networks that the paper counted: its sources differ a little from the packages' networks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tests.zoo_models import ZOO


class EachPathway(nn.Module):
    """One layer on every pathway."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, pathways: list[Tensor]) -> list[Tensor]:
        return [self.layer(x) for x in pathways]


def as_in_the_paper(name: str, frames: int | None = None, size: int | None = None) -> nn.Module:
    """A network with the layers that count there and that its package leaves out, and without those that it adds."""
    model: Any = ZOO[name].build(frames, size)
    if hasattr(model, "blocks"):
        model.blocks[-1].output_pool = nn.Flatten()  # it has one element to pool
    if name.startswith("x3d"):
        first = model.blocks[1].res_blocks[0]
        first.branch1_norm = nn.BatchNorm3d(first.branch1_conv.out_channels)
    if name.startswith("slow"):
        pool = nn.MaxPool3d(1)
        model.blocks.insert(2, EachPathway(pool) if ZOO[name].slower else pool)
    return model.eval()

"""Images sampled at places that a grid names: ``F.grid_sample``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Block, Call, Facts, Operation, Refused, Sample


class GridSample(Operation):
    """Every image is sampled by the grid of the same row."""

    targets = ("aten.grid_sampler.default", "aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default")
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        image, grid = call["input"], call["grid"]
        for facts in (image, grid):
            _require_rows(facts.layout)
        rows = joined([_rows(image), _rows(grid)], call.sizes)
        return alone(rows.with_dims([*rows.dims, *((size,) for size in call.shapes[0][1:])]))

    def whole_dims(self, arguments: Mapping[str, Any], rank: int) -> tuple[int, ...]:
        return tuple(range(1, rank))

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        count = max(len(arguments["input"]), len(arguments["grid"]))
        rows = {name: arguments[name].expand(count, *arguments[name].shape[1:]) for name in ("input", "grid")}
        return super().run({**arguments, **rows}, block)

    def samples(self) -> tuple[Sample, ...]:
        grid = torch.rand(1, 3, 4, 2) * 2 - 1
        return (
            Sample("by the frames themselves", lambda x: _sampled(_frames(x), _frames(x).permute(0, 2, 3, 1))),
            Sample(
                "nearest, mirrored",
                lambda x: _sampled(_frames(x), _frames(x).mT.movedim(1, 3), "nearest", "reflection"),
            ),
            Sample("one grid for all", lambda x: _sampled(_frames(x), grid.expand(len(_frames(x)), -1, -1, -1))),
            Sample(
                "one picture for all",
                lambda x: _sampled(grid.expand(len(_frames(x)), -1, -1, -1), _frames(x).movedim(1, 3)),
            ),
            Sample("moved", _moved),
            Sample("volumes", lambda x: _sampled(_frames(x)[:, None], _frames(x)[:, :1, :, None, :3])),
            Sample(
                "through time",
                lambda x: _sampled(x, torch.zeros(1, 8, 4, 5, 3)),
                refusal="it samples between frames",
            ),
        )


def _rows(facts: Facts) -> Facts:
    return Facts(facts.layout.with_dims(facts.layout.dims[:1]), facts.dtype, facts.timing)


def _require_rows(layout: Layout) -> None:
    if any(isinstance(factor, Mark) for dim in layout.dims[1:] for factor in dim):
        raise Refused("it samples between frames, or a frame at a time that the grid names", "fold time into the batch")


def _sampled(images: Tensor, grid: Tensor, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    return F.grid_sample(images, grid, mode, padding, align_corners=True)


def _moved(x: Tensor) -> Tensor:
    frames = _frames(x)
    theta = torch.eye(2, 3) + frames.mean((2, 3))[:, :, None] / 8
    return _sampled(frames, F.affine_grid(theta, list(frames.shape), align_corners=True))


def _frames(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)

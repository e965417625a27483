"""Distances between the rows of two matrices: ``torch.cdist``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Facts, Operation, Refused, Sample


class Distances(Operation):
    """Every pair of matrices is taken for itself."""

    targets = ("aten.cdist.default",)
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        one, other = call["x1"], call["x2"]
        for facts in (one, other):
            _require_whole_matrices(facts.layout)
        rank = len(call.shapes[0])
        rest = joined([_without_matrix(facts) for facts in (one, other)], call.sizes)
        padding = [()] * (rank - 2 - rest.rank)
        return alone(rest.with_dims([*padding, *rest.dims, *((size,) for size in call.shapes[0][-2:])]))

    def whole_dims(self, arguments: Mapping[str, Any], rank: int) -> tuple[int, ...]:
        return rank - 2, rank - 1

    def samples(self) -> tuple[Sample, ...]:
        codes = torch.randn(3, 5)
        return (
            Sample("rows of a frame", lambda x: torch.cdist(x, x.relu())),
            Sample("to constant codes", lambda x: torch.cdist(x, codes, p=1.0)),
            Sample("of codes to rows", lambda x: torch.cdist(codes, x)),
            Sample("of frames", _of_frames, refusal="time or the batch lies"),
        )


def _require_whole_matrices(layout: Layout) -> None:
    if any(isinstance(factor, Mark) for dim in layout.dims[-2:] for factor in dim):
        raise Refused(
            "time or the batch lies among the rows, so every frame meets every other",
            "rows of one frame, with time in a dimension before them",
        )


def _without_matrix(facts: Facts) -> Facts:
    return Facts(facts.layout.with_dims(facts.layout.dims[:-2]), facts.dtype, facts.timing)


def _of_frames(x: Tensor) -> Tensor:
    frames = x.mean((3, 4)).mT
    return torch.cdist(frames, frames)

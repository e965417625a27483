"""Linear algebra on matrices in the last two dimensions: inverses, systems of equations, factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Facts, Operation, Refused, Sample


class Matrices(Operation):
    """Every matrix is taken for itself."""

    targets = (
        "aten.linalg_inv.default",
        "aten.inverse.default",
        "aten.linalg_cholesky.default",
        "aten.linalg_det.default",
        "aten.linalg_matrix_exp.default",
        "aten.linalg_solve.default",
    )
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        operands = call.operands
        if len({facts.layout.rank for facts in operands}) > 1:
            raise Refused("a vector meets a matrix in each system", "unsqueeze the vectors to matrices of one column")
        last = operands[-1].layout
        for facts in operands:
            _require_whole_matrices(facts.layout)
        rest = joined([_without_matrix(facts) for facts in operands], call.sizes)
        matrix = () if len(call.shapes[0]) == last.rank - 2 else last.solid().dims[-2:]
        return alone(rest.with_dims([*rest.dims, *matrix]))

    def whole_dims(self, arguments: Mapping[str, Any], rank: int) -> tuple[int, ...]:
        return rank - 2, rank - 1

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("inverted", lambda x: torch.linalg.inv(_regular(x)), poison=False),
            Sample("inverted, by another name", lambda x: _regular(x).inverse(), poison=False),
            Sample("root", lambda x: torch.linalg.cholesky(_regular(x) @ _regular(x).mT), poison=False),
            Sample("determinant", lambda x: torch.linalg.det(_regular(x)), poison=False),
            Sample("exponential", lambda x: torch.linalg.matrix_exp(_regular(x) / 8), poison=False),
            Sample("solved", lambda x: torch.linalg.solve(_regular(x), x), poison=False),
            Sample("one system for all", lambda x: torch.linalg.solve(torch.eye(4)[None, None, None] + 1, x)),
            Sample(
                "vectors",
                lambda x: torch.linalg.solve(torch.eye(4).expand(1, 2, 8, 4, 4), x[..., 0]),
                refusal="a vector meets a matrix",
            ),
            Sample(
                "of frames",
                lambda x: torch.linalg.matrix_exp(x.mean(1).flatten(2)[:, :, :8]),
                refusal="time lies in the matrices",
            ),
        )


def _require_whole_matrices(layout: Layout) -> None:
    if any(isinstance(factor, Mark) for dim in layout.dims[-2:] for factor in dim):
        raise Refused(
            "time lies in the matrices, so every frame meets every other", "matrices that are made from one frame"
        )


def _without_matrix(facts: Facts) -> Facts:
    return Facts(facts.layout.with_dims(facts.layout.dims[:-2]), facts.dtype, facts.timing)


def _regular(x: Tensor) -> Tensor:
    return x @ x.mT / 8 + torch.eye(x.shape[-2])

"""What counts as the same answer of two runs of one computation."""

from __future__ import annotations

from math import inf

import pytest
import torch
from torch import Tensor

from co3d_compile.program.agreement import Disagreement, first_disagreement

ONE = torch.tensor([1.0, 2.0, torch.inf, torch.nan])


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (ONE, None),
        (ONE + 1e-6, None),
        (ONE + torch.tensor([0.5, 0.0, 0.0, 0.0]), Disagreement(1, 0.5, 2.0)),
        (ONE.nan_to_num(nan=0.0, posinf=torch.inf), Disagreement(1, inf, 2.0)),
        (torch.tensor([torch.nan, 2.0, torch.inf, torch.nan]), Disagreement(1, inf, 2.0)),
        (-ONE, Disagreement(1, inf, 2.0)),
        (ONE[:3], Disagreement(1, inf, 2.0)),
        (ONE.double(), Disagreement(1, inf, 2.0)),
    ],
)
def test_the_first_output_that_differs(made: Tensor, found: Disagreement | None) -> None:
    whole = torch.tensor([3, 4])

    assert first_disagreement([whole, made, whole + 1], [whole, ONE, whole + 1]) == found


def test_integers_are_equal_or_not() -> None:
    whole = torch.tensor([3, 4])

    assert first_disagreement([whole + 1], [whole]) == Disagreement(0, 1.0, 4.0)

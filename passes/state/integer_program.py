"""Linear programs over integers, solved to their optimum by HiGHS (scipy.optimize.milp)."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd, inf

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from co3d_compile.errors import InternalError

Terms = Mapping[int, int]
"""Variable to its coefficient."""


class IntegerProgram:
    """Variables and constraints, gathered one by one."""

    def __init__(self) -> None:
        self._bounds: list[tuple[int, float]] = []
        self._rows: list[tuple[Terms, int]] = []

    def variable(self, most: float = inf) -> int:
        """An integer from 0 to ``most``."""
        self._bounds.append((0, most))
        return len(self._bounds) - 1

    def require(self, terms: Terms, least: int) -> None:
        """The sum of the terms is no less than ``least``."""
        self._rows.append((terms, least))

    def minimise(self, *costs: Terms) -> list[int]:
        """Values for which the first cost is least; among those the second, and so on."""
        solution: list[int] = []
        for cost in costs:
            solution = self._solved(cost)
            reached = sum(weight * solution[variable] for variable, weight in cost.items())
            self.require({variable: -weight for variable, weight in cost.items()}, -reached)
        return solution

    def _solved(self, cost: Terms) -> list[int]:
        weights = np.zeros(len(self._bounds))
        for variable, weight in cost.items():
            weights[variable] = weight
        rows = [_reduced(*row) for row in self._rows]
        entries = [
            (place, variable, factor) for place, (terms, _) in enumerate(rows) for variable, factor in terms.items()
        ]
        places, variables, factors = zip(*entries, strict=True) if entries else ((), (), ())
        matrix = coo_array((factors, (places, variables)), shape=(len(rows), len(self._bounds)), dtype=float)
        found = milp(
            weights / (gcd(*cost.values()) or 1),
            integrality=np.ones(len(weights)),
            bounds=Bounds(*np.array(self._bounds, dtype=float).T),
            constraints=LinearConstraint(matrix.tocsr(), lb=np.array([least for _, least in rows], dtype=float)),
            options={"mip_rel_gap": 0.0},
        )
        if found.x is None:
            raise InternalError(f"no firing ticks found: {found.message}")
        return [round(value) for value in found.x]


def _reduced(terms: Terms, least: int) -> tuple[Terms, int]:
    """The same row in smaller numbers: bytes by the million would leave a solver no digits for single ones."""
    divisor = gcd(*terms.values()) or 1
    return {variable: factor // divisor for variable, factor in terms.items()}, -(-least // divisor)

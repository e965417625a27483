"""Linear programs over integers, solved to their optimum by HiGHS (scipy.optimize.milp)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import gcd, inf

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
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

    def equate(self, terms: Terms, value: int) -> None:
        """The sum of the terms is the value."""
        self.require(terms, value)
        self.require({variable: -factor for variable, factor in terms.items()}, -value)

    def minimise(self, *costs: Terms, gap: float = 0.0) -> list[int]:
        """Values for which the first cost is least; among those the second, and so on. What is reached stays required.

        Args:
            gap: the share of each cost by which it may be above the least.
        """
        solution: list[int] = []
        for cost in costs:
            found = self._solved(cost, {"mip_rel_gap": gap})
            if found.x is None:
                raise InternalError(f"no firing ticks found: {found.message}")
            solution = self._reached(cost, found.x)
        return solution

    def improve(self, cost: Terms, solution: list[int], branches: int) -> list[int]:
        """A solution of no higher cost, as low as is found in so many branches of the search."""
        found = self._solved(cost, {"mip_rel_gap": 0.0, "node_limit": branches})
        better = found.x is not None and cost_of(cost, found.x) < cost_of(cost, solution)
        return self._reached(cost, found.x if better else solution)

    def fix(self, variables: Iterable[int], solution: Sequence[int]) -> None:
        """These keep their values."""
        for variable in variables:
            self.equate({variable: 1}, solution[variable])

    def _reached(self, cost: Terms, values: Sequence[float]) -> list[int]:
        solution = [round(value) for value in values]
        self.require({variable: -weight for variable, weight in cost.items()}, -int(cost_of(cost, solution)))
        return solution

    def _solved(self, cost: Terms, options: Mapping[str, float]) -> OptimizeResult:
        weights = np.zeros(len(self._bounds))
        for variable, weight in cost.items():
            weights[variable] = weight
        rows = [_reduced(*row) for row in self._rows]
        entries = [
            (place, variable, factor) for place, (terms, _) in enumerate(rows) for variable, factor in terms.items()
        ]
        places, variables, factors = zip(*entries, strict=True) if entries else ((), (), ())
        matrix = coo_array((factors, (places, variables)), shape=(len(rows), len(self._bounds)), dtype=float)
        return milp(
            weights / (gcd(*cost.values()) or 1),
            integrality=np.ones(len(weights)),
            bounds=Bounds(*np.array(self._bounds, dtype=float).T),
            constraints=LinearConstraint(matrix.tocsr(), lb=np.array([least for _, least in rows], dtype=float)),
            options=options,
        )


def cost_of(cost: Terms, values: Sequence[float]) -> float:
    return sum(weight * values[variable] for variable, weight in cost.items())


def _reduced(terms: Terms, least: int) -> tuple[Terms, int]:
    """The same row in smaller numbers: bytes by the million would leave a solver no digits for single ones."""
    divisor = gcd(*terms.values()) or 1
    return {variable: factor // divisor for variable, factor in terms.items()}, -(-least // divisor)

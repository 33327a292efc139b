"""The allocation as a mixed-integer linear programme, solved by HiGHS.

z_gi = 1 where group g takes level i; for each pair y_ij is the product of z_gi and z_hj. With the z whole numbers
Σ_j y_ij = z_gi and Σ_i y_ij = z_hj leave nothing else (a transport from one unit to one unit), so y may be continuous:

    min Σ loss·z    Σ_i z_gi = 1    Σ_j y_ij = z_gi    Σ_i y_ij = z_hj    fixed + Σ single·z + Σ pair·y <= limit
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from paredown.allocation.problem import LevelCosts


@dataclass(frozen=True, eq=False)
class Solved:
    """What the solver found.

    Args:
        choice: Level per group, shape (groups,); None where it found none.
        bound: No choice within the limit (and the cutoff) has a smaller loss; infinite: there is none at all.
    """

    choice: np.ndarray | None
    bound: float


def solve(
    losses: Sequence[np.ndarray], costs: LevelCosts, limit: float, cutoff: float, seconds: float, gap: float
) -> Solved:
    """The choice of least loss within the limit.

    Args:
        losses: Per group, shape (levels,); finite, not below zero, best of the order of 1.
        limit: In the unit of `costs`, best of the order of 1.
        cutoff: Only a smaller loss than this is of interest; infinite: any.
        seconds: Time limit.
        gap: Relative gap at which the solver may stop.
    """
    programme = _Programme(losses, costs)
    constraints = [*programme.marginals(), programme.budget(limit)]
    objective = programme.row(losses, {})
    if np.isfinite(cutoff):
        constraints.append(LinearConstraint(sparse.csr_array(objective[None]), -np.inf, cutoff))
    whole = np.zeros(objective.size)
    whole[: programme.first[-1]] = 1
    options = {"time_limit": max(0.05, seconds), "mip_rel_gap": gap}
    found = milp(objective, constraints=constraints, integrality=whole, bounds=Bounds(0, 1), options=options)
    if found.status == 2:
        return Solved(None, np.inf)
    bound = found.mip_dual_bound
    bound = 0.0 if bound is None or not np.isfinite(bound) else max(0.0, float(bound))
    if found.x is None:
        return Solved(None, bound)
    cuts = zip(programme.first, programme.first[1:], strict=False)
    return Solved(np.array([int(found.x[a:b].argmax()) for a, b in cuts]), bound)


class _Programme:
    """Where the variables are: first all z, group by group, then the y of each pair, row by row."""

    def __init__(self, losses: Sequence[np.ndarray], costs: LevelCosts):
        self.costs = costs
        self.sizes = [loss.size for loss in losses]
        self.first = np.concatenate([[0], np.cumsum(self.sizes)]).astype(int)
        lengths = [table.size for table in costs.pairs.values()]
        self.first_of_pair = self.first[-1] + np.concatenate([[0], np.cumsum(lengths)]).astype(int)
        self.count = int(self.first_of_pair[-1])

    def row(self, single: Sequence[np.ndarray], pairs: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
        """One coefficient per variable."""
        return np.concatenate(
            [*single, *[pairs.get(key, np.zeros(t.size)).ravel() for key, t in self.costs.pairs.items()]]
        )

    def budget(self, limit: float) -> LinearConstraint:
        row = self.row(self.costs.single, self.costs.pairs)
        return LinearConstraint(sparse.csr_array(row[None]), -np.inf, limit - self.costs.fixed)

    def marginals(self) -> list[LinearConstraint]:
        one = sparse.block_diag([np.ones((1, size)) for size in self.sizes])
        one = sparse.hstack([one, sparse.csr_array((len(self.sizes), self.count - self.first[-1]))])
        rows = [LinearConstraint(sparse.csr_array(one), 1, 1)]
        for number, (g, h) in enumerate(self.costs.pairs):
            start, m, n = self.first_of_pair[number], self.sizes[g], self.sizes[h]
            for group, sums in ((g, np.kron(np.eye(m), np.ones(n))), (h, np.kron(np.ones(m), np.eye(n)))):
                sizes = self.sizes[group]
                parts = [
                    sparse.csr_array((sizes, self.first[group])),
                    -sparse.eye_array(sizes),
                    sparse.csr_array((sizes, start - self.first[group + 1])),
                    sparse.csr_array(sums.reshape(sizes, m * n)),
                    sparse.csr_array((sizes, self.count - start - m * n)),
                ]
                rows.append(LinearConstraint(sparse.csr_array(sparse.hstack(parts)), 0, 0))
        return rows

"""From loss curves and a budget to the width of every group of channels."""

from paredown.allocation.costs import AdditiveCost, CostTerm
from paredown.allocation.curves import allocate_within, curves_from_scores, keep_best, keep_optimal, levels
from paredown.allocation.problem import Allocation, LevelCosts
from paredown.allocation.solver import allocate

__all__ = [
    "AdditiveCost",
    "Allocation",
    "CostTerm",
    "LevelCosts",
    "allocate",
    "allocate_within",
    "curves_from_scores",
    "keep_best",
    "keep_optimal",
    "levels",
]

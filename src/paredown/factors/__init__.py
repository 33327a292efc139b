"""One layer as several cheaper ones: the algebra of each kind of factorization, and what it loses and costs."""

from paredown.factors.kinds import FACTORIZATIONS, Kind, Solver, sizes, tucker_ranks
from paredown.factors.options import Candidate, Option
from paredown.factors.pieces import Chain, Piece, piece_costs, piece_of, piece_positions
from paredown.factors.problem import Problem
from paredown.factors.ranks import evbmf_rank
from paredown.factors.savings import Saving, possible_savings

__all__ = [
    "FACTORIZATIONS",
    "Candidate",
    "Chain",
    "Kind",
    "Option",
    "Piece",
    "Problem",
    "Saving",
    "Solver",
    "evbmf_rank",
    "piece_costs",
    "piece_of",
    "piece_positions",
    "possible_savings",
    "sizes",
    "tucker_ranks",
]

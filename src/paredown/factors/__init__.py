"""One layer as several cheaper ones: the algebra of each kind of factorization, and what it loses and costs."""

from paredown.factors.kinds import FACTORIZATIONS, Kind, Solver, sizes, tucker_ranks
from paredown.factors.options import Candidate, Option
from paredown.factors.pieces import Chain, Piece, piece_costs, piece_of, piece_positions
from paredown.factors.problem import Problem
from paredown.factors.ranks import evbmf_rank

__all__ = [
    "FACTORIZATIONS",
    "Candidate",
    "Chain",
    "Kind",
    "Option",
    "Piece",
    "Problem",
    "Solver",
    "evbmf_rank",
    "piece_costs",
    "piece_of",
    "piece_positions",
    "sizes",
    "tucker_ranks",
]

"""What a layer could become: each kind at several ranks, with what that loses and what it costs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from paredown.factors.kinds import FACTORIZATIONS, Solver, sizes
from paredown.factors.pieces import Piece, piece_costs, piece_of, piece_positions
from paredown.factors.problem import Problem

#: Solvers of layers with more weights are not kept longer than they are used.
_KEPT = 2**20
#: About how many ranks of one kind are offered to a whole network's budget.
_LEVELS = 24


@dataclass(frozen=True)
class Priced:
    """A layer, or one piece of what takes its place.

    Args:
        path: Of the layer.
        kind: Of its factors; empty: the layer as it is.
        suffix: Of the piece.
        inputs, outputs: Channels.
        macs, params: With all calls; the parameters once.
        calls: How often the layer is called.
    """

    path: str
    kind: str
    suffix: str
    inputs: int
    outputs: int
    macs: int
    params: int
    calls: int

    @property
    def name(self) -> str:
        """Of the piece in the network."""
        return f"{self.path}_{self.suffix}" if self.suffix else self.path


#: What a piece costs with all its calls.
Price = Callable[[Priced], float]


@dataclass(frozen=True)
class Option:
    """One way to factorize a layer.

    Args:
        kind: Row of `FACTORIZATIONS`.
        rank: Its rank; for "tucker" also a pair.
        loss: Mean square of what the outputs lose, as a share of their variance.
        cost: In the unit of the price that was asked for.
    """

    kind: str
    rank: Any
    loss: float
    cost: float


@dataclass(eq=False)
class Candidate:
    """A layer that may be factorized.

    Args:
        path: Of the layer.
        problem: What its factors are to give.
        shapes: Of its input, (1, …), one for each of its calls.
        use_bias: Whether the last factor has a bias.
        price: What layers cost.
        kinds: Rows of `FACTORIZATIONS` that may be used.
    """

    path: str
    problem: Problem
    shapes: Sequence[tuple[int, ...]]
    use_bias: bool
    price: Price
    kinds: Sequence[str]
    _solvers: dict[str, tuple[int, Solver]] = field(default_factory=dict)
    _options: list[Option] | None = None
    _positions: dict[str, list[int]] = field(default_factory=dict)
    _bounds: dict[str, int] = field(default_factory=dict)

    @property
    def layer(self) -> Any:
        return self.problem.linear.layer

    @cached_property
    def own_cost(self) -> float:
        """What the layer costs now."""
        _, inputs, outputs = sizes(self.problem)
        alone = [piece_of(self.layer)]
        (costs,) = piece_costs(alone, self._at(alone), inputs, self.use_bias)
        return self.price(Priced(self.path, "", "", inputs, outputs, *costs, len(self.shapes)))

    def most(self, kind: str) -> int:
        """The rank with which nothing is lost."""
        return FACTORIZATIONS[kind].most(*sizes(self.problem))

    def pieces(self, kind: str, rank: Any) -> tuple[Piece, ...]:
        return FACTORIZATIONS[kind].pieces(self.layer, rank)

    def cost(self, kind: str, rank: Any) -> float:
        """What a factorization costs."""
        pieces, inputs, total = self.pieces(kind, rank), sizes(self.problem)[1], 0
        if kind not in self._positions:
            self._positions[kind] = self._at(pieces)
        for piece, costs in zip(pieces, piece_costs(pieces, self._positions[kind], inputs, self.use_bias), strict=True):
            outputs = piece.outputs(inputs)
            total += self.price(Priced(self.path, kind, piece.suffix, inputs, outputs, *costs, len(self.shapes)))
            inputs = outputs
        return total

    def _at(self, pieces: Sequence[Piece]) -> list[int]:
        """Positions at which each piece multiplies, over all calls."""
        return [
            sum(counts) for counts in zip(*(piece_positions(pieces, self.layer, s) for s in self.shapes), strict=True)
        ]

    def within(self, kind: str, limit: float) -> int:
        """The largest rank that costs at most `limit`; 0 where none does."""
        return _last(self.most(kind), lambda rank: self.cost(kind, rank) <= limit)

    def bound(self, kind: str) -> int:
        """The largest rank that is cheaper than the layer; 0 where none is."""
        if kind not in self._bounds:
            self._bounds[kind] = _last(self.most(kind), lambda rank: self.cost(kind, rank) < self.own_cost)
        return self._bounds[kind]

    def solver(self, kind: str, rank: Any = None) -> Solver:
        """Finds factors for ranks up to `rank`; None, and of a small layer: up to the bound, whatever comes next."""
        most = max(1, min(self.most(kind), self.bound(kind)))
        if self._large and isinstance(rank, int | np.integer):
            most = int(rank)
        if kind not in self._solvers or self._solvers[kind][0] < most:
            self._solvers[kind] = most, FACTORIZATIONS[kind].solver(self.problem, most)
        return self._solvers[kind][1]

    def forget(self) -> None:
        """Lets go of what a large layer's solvers hold: those of a whole network would be many times its weights."""
        if self._large:
            self._solvers.clear()

    @property
    def _large(self) -> bool:
        return math.prod(self.problem.linear.shape) > _KEPT

    def losses(self, kind: str, ranks: Sequence[Any]) -> np.ndarray:
        """What ranks lose, as shares of the outputs' variance."""
        most = None if any(isinstance(rank, tuple) for rank in ranks) else max(ranks)
        return self.solver(kind, most).losses(ranks) / max(self.problem.variance, 1e-30)

    def reaching(self, kind: str, loss: float) -> int | None:
        """The smallest rank that loses at most so much; None where no rank below the bound does."""
        most = self.bound(kind)
        if most == 0 or self.losses(kind, [most])[0] > loss:
            return None
        return most - largest(most - 1, lambda less: self.losses(kind, [most - less])[0] <= loss)

    def option(self, kind: str, rank: Any) -> Option:
        return Option(kind, rank, float(self.losses(kind, [rank])[0]), self.cost(kind, rank))

    def options(self) -> list[Option]:
        """Those of all kinds that are cheaper than the layer and that no other beats in both loss and cost, the
        cheapest first."""
        if self._options is None:
            self._options = self._found_options()
            self.forget()
        return self._options

    def _found_options(self) -> list[Option]:
        found = []
        for kind in self.kinds:
            most = self.bound(kind)
            if most:
                count = min(most, 8 if kind == "cp" else _LEVELS)
                ranks = np.unique(np.linspace(1, most, count).round().astype(int))
                losses = self.losses(kind, ranks.tolist())
                found += [
                    Option(kind, int(rank), float(loss), self.cost(kind, int(rank)))
                    for rank, loss in zip(ranks, losses, strict=True)
                ]
        # Measured costs need not rise with the rank.
        found = [option for option in found if option.cost < self.own_cost]
        found.sort(key=lambda option: (option.cost, option.loss))
        best: list[Option] = []
        for option in found:
            if not best or option.loss < best[-1].loss:
                best.append(option)
        return best


def _last(most: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to `most` for which a property holds; 0 if none. Costs that were measured have stairs."""
    return next((number for number in range(most, 0, -1) if holds(number)), 0)


def largest(most: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to `most` for which a property holds that no number has after one without it; 0 if none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low

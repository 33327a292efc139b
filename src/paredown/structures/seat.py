"""A convolution that a structure may take the place of: what that costs at each width, and where it starts from."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from paredown.factors import Piece, Problem, piece_costs, piece_of, piece_positions
from paredown.factors.options import largest
from paredown.structures.table import STRUCTURES, Structure


@dataclass(frozen=True, eq=False)
class Seat:
    """One layer.

    Args:
        path, layer: A Conv2D that the structure suits.
        shape: Of its input, (1, …), as costs are counted.
        open_shape: The same with None for sizes that may be others.
        structure: Row of `STRUCTURES`.
        groups: Of "grouped"; else 1.
        relu: Whether a bias and a ReLU follow each layer but the last.
    """

    path: str
    layer: Any
    shape: tuple[int, ...]
    open_shape: tuple[int | None, ...]
    structure: str
    groups: int
    relu: bool

    @property
    def row(self) -> Structure:
        return STRUCTURES[self.structure]

    @property
    def inputs(self) -> int:
        return self.layer.kernel.shape[-2]

    def pieces(self, width: int) -> tuple[Piece, ...]:
        """The layers that take its place."""
        pieces = self.row.pieces(self.layer, width, self.groups, self.open_shape)
        return tuple(
            dataclasses.replace(piece, relu=self.relu and piece.has_kernel and piece is not pieces[-1])
            for piece in pieces
        )

    @cached_property
    def macs_now(self) -> int:
        alone = [piece_of(self.layer)]
        return piece_costs(alone, piece_positions(alone, self.layer, self.shape), self.inputs, False)[0][0]

    def macs(self, width: int) -> int:
        """Of the structure, for one example."""
        return sum(macs for macs, _ in piece_costs(self.pieces(width), self._positions, self.inputs, False))

    @cached_property
    def _positions(self) -> list[int]:
        return piece_positions(self.pieces(self.groups), self.layer, self.shape)

    @cached_property
    def most(self) -> int:
        """The largest width that can be of use, a multiple of the groups."""
        most = self.row.most(self.layer.kernel_size, self.inputs, self.layer.filters, self.groups)
        return max(1, most // self.groups) * self.groups

    def within(self, limit: float) -> int:
        """The largest width that costs at most so many MACs; 0 where none does."""
        step = self.groups
        return step * largest(self.most // step, lambda count: self.macs(count * step) <= limit)

    def width(self, asked: int | None, share: float | None) -> int | str:
        """The width that is asked for, or why the layer stays.

        Args:
            asked: Itself; None with `share` None: the structure's usual one, or where that is no cheaper the largest
                that is.
            share: Of the layer's MACs.
        """
        bound = self.within(self.macs_now - 1)
        if not bound:
            return f"no {self.structure} structure is cheaper: {self.macs(self.groups)} against {self.macs_now} MACs"
        if share is not None:
            return self.within(share * self.macs_now) or f"no width costs {share:g} of its MACs or less"
        usual = -(-self.row.usual(self.inputs, self.layer.filters) // self.groups) * self.groups
        wanted = min(bound, usual) if asked is None else min(asked, self.most)
        if wanted > bound:
            return f"width {asked} is not cheaper: it would have to be at most {bound}"
        return wanted

    def start(self, problem: Problem, width: int) -> list[np.ndarray]:
        """Kernels to start from, as Keras holds them, one per piece that has one."""
        kernels, inputs, shaped = iter(self.row.start(problem, width, self.groups)), self.inputs, []
        for piece in self.pieces(width):
            if piece.has_kernel:
                shaped.append(next(kernels).reshape(piece.kernel_shape(inputs)))
            inputs = piece.outputs(inputs)
        return shaped

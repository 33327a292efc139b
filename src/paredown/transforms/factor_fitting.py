"""Factors fitted to what layers give, layer by layer, and the network that is built of them.

While they are fitted, each layer of a copy of the network holds the product of its factors: the same function in the
old shape. The new network is built at the end, and held against the copy (`Factorize.prove`).
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import keras
import numpy as np

from paredown.data import Split
from paredown.factors import FACTORIZATIONS, Candidate, Chain, Option, Piece, Problem
from paredown.least_squares import Fit
from paredown.moments import MOST_ROWS, columns
from paredown.network import Call, Network
from paredown.patches import LinearLayer, why_not_linear
from paredown.rebuild import copy_weights, rebuild
from paredown.reconstruct import missing_sums
from paredown.side_by_side import Pair, SideBySide, twin_layers, twins
from paredown.sinks import Sinks
from paredown.transforms.chains import with_chains


class Fitting:
    """A copy of a network whose layers get factors one by one.

    Args:
        model: The network; it is not touched.
        network: Its calls.
        exclude: Paths of layers whose weights stay as they are.
    Attributes:
        copy: The copy.
        refitted: Path -> the same of the layers that got no factors.
        losses: Path -> what the output of a layer lost, mean square as a share of its variance.
    """

    def __init__(self, model: Any, network: Network, exclude: Collection[str] = ()):
        self.model, self.network, self._exclude = model, network, exclude
        self.copy = rebuild(model)
        self.losses: dict[str, float] = {}
        self.refitted: dict[str, float] = {}
        copy = Network(self.copy)
        self._made, self._twins = twins(network, copy), twin_layers(network, copy)
        self._sinks = Sinks(network, self._made)
        self._calls = {call.path: call for call in network.all_calls()}
        self._factors: dict[str, tuple[Sequence[Piece], list[np.ndarray]]] = {}

    def takes_shift(self, path: str) -> bool:
        """Whether a shift of a layer's mean output can be taken up, by its bias or what reads it."""
        return self._shift(path) is not None

    def put(self, path: str, kernel: Any, shift: np.ndarray) -> None:
        """Gives the copy's layer a kernel, shape (n, o), and shifts its mean output."""
        linear = LinearLayer(self._made[path])
        linear.kernel.assign(linear.as_kernel(kernel))
        add = self._shift(path)
        if add is not None:
            add(shift)

    def values(self, path: str) -> list[tuple[Any, Any]]:
        """All variables that `put` may change, with their values."""
        norm = self._sinks.of(self._calls[path]).norm
        changed = [*self._made[path].variables, *([] if norm is None else norm.variables)]
        return [(variable, keras.ops.copy(variable)) for variable in changed]

    def factorize(self, candidate: Candidate, option: Option, problem: Problem | None = None) -> None:
        """Gives a layer its factors, fitted to `problem` (None: the candidate's own)."""
        path, pieces = candidate.path, candidate.pieces(option.kind, option.rank)
        if problem is None:
            solver, problem = candidate.solver(option.kind, option.rank), candidate.problem
        else:
            most = candidate.most(option.kind) if isinstance(option.rank, tuple) else option.rank
            solver = FACTORIZATIONS[option.kind].solver(problem, most)
        kernels, product = solver.factors(option.rank)
        self.put(path, product, problem.shift(product))
        self.losses[path] = option.loss if problem.sums is None else problem.error(product)
        candidate.forget()
        self._factors[path] = pieces, kernels

    def side_by_side(self, taken: dict[str, tuple[Candidate, Option]], split: Split, seed: int) -> None:
        """Fits all layers in order, each to what it gave, from what its predecessors give now; layers that stay are
        refitted likewise."""
        generator = np.random.default_rng(seed)
        both = SideBySide(self.network, self._made, {}, taken)

        def meet(call: Call, x: Pair) -> None:
            path = call.path
            if path in self._factors or path in self._exclude:
                return
            linear = why_not_linear(call.operation) is None and LinearLayer(call.operation)
            if not linear or linear.shape[0] > MOST_ROWS or self._sinks.times(path) > 1:
                if path in taken:
                    self.factorize(*taken[path])
                return
            rows = np.arange(linear.shape[0])
            fitted, held_out, spread = missing_sums(call, linear, x, self._sinks.of(call), both, generator, rows)
            shifts = self.takes_shift(path)
            if path in taken:
                # The unit of the loss that the rank was chosen by.
                variance = taken[path][0].problem.variance
                self.factorize(*taken[path], Problem.of_data(linear, fitted, held_out, variance, shifts))
            else:
                fit = Fit.best(fitted, held_out, shifts)
                self.put(path, linear.matrix + fit.step, fit.shift)
                self.refitted[path] = fit.left(fitted + held_out) / max(spread, 1e-30)

        batches = [self.network.cast_inputs(inputs) for inputs in columns(split, 64)]
        both.run(batches, meet, "Factorize")

    def _shift(self, path: str) -> Any:
        layer = self._made[path]
        if layer.use_bias:
            return layer.bias.assign_add
        # What several calls of one layer feed is none of its own.
        return self._sinks.of(self._calls[path]).shift if self._sinks.times(path) == 1 else None

    def built(self) -> Any:
        """The network with the factors in the place of their layers."""
        by_layer = {id(self._calls[path].operation): factors for path, factors in self._factors.items()}

        def carry(call: Call, new: Any) -> None:
            twin = self._twins[id(call.operation)]
            if isinstance(new, Chain):
                bias = keras.ops.convert_to_numpy(twin.bias) if new.use_bias else None
                new.assign(by_layer[id(call.operation)][1], bias)
            else:
                copy_weights(dataclasses.replace(call, operation=twin), new)

        pieces = {key: (pieces, None) for key, (pieces, _) in by_layer.items()}
        return with_chains(self.model, self.network, pieces, carry)

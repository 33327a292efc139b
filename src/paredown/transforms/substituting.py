"""Structures put in the place of layers one by one, each started from the layer's weights and trained to give what it
gave, from what its predecessors give now; and the network that is built of them.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras
import numpy as np

from paredown.data import Split
from paredown.factors import Chain, Piece, Problem
from paredown.moments import MOST_ROWS, columns
from paredown.network import Call, Network
from paredown.patches import LinearLayer
from paredown.rebuild import copied, copy_weights, from_config, rebuild
from paredown.reconstruct import missing_sums
from paredown.side_by_side import Pair, SideBySide
from paredown.sinks import Sink
from paredown.structures import Seat, composed
from paredown.transforms.chains import free_name, holds, names_of, with_chains
from paredown.transforms.layer_training import Course, Lesson


@dataclass(frozen=True, eq=False)
class Substitute:
    """What takes a layer's place.

    Args:
        seat: The layer.
        chain: The layers, in float32, without the activation behind the last.
        losses: Before and after training: of the output on held-out examples, without data of the kernel.
    """

    seat: Seat
    chain: Chain
    losses: tuple[float, float]

    @cached_property
    def kernel(self) -> np.ndarray | None:
        """The kernel that it stands for, (h, w, S, T); None where a ReLU is in between."""
        if self.seat.relu:
            return None
        own = [layer for layer, piece in zip(self.chain.layers, self.chain.pieces, strict=True) if piece.has_kernel]
        return composed(self.chain.pieces, [keras.ops.convert_to_numpy(layer.kernel) for layer in own])

    @property
    def bias(self) -> np.ndarray | None:
        return keras.ops.convert_to_numpy(self.chain.layers[-1].bias) if self.chain.use_bias else None


class Behind:
    """A substitute as a layer of a network: the trained chain, and the old layer's activation."""

    def __init__(self, substitute: Substitute):
        layer, self._chain = substitute.seat.layer, substitute.chain
        name = f"{self._chain.name}_activation"
        self._activation = keras.layers.Activation(layer.activation, name=name, dtype=layer.dtype_policy)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return self._activation(self._chain(inputs))


@dataclass(eq=False)
class Substituting:
    """The layers of a network that get structures.

    Args:
        model: The network; it is not touched.
        network: Its calls.
        seats: Path -> the layer and the width of its structure.
    """

    model: Any
    network: Network
    seats: dict[str, tuple[Seat, int]]
    done: dict[str, Substitute] = field(default_factory=dict)

    def __post_init__(self):
        self._names = names_of(self.network)

    def from_kernels(self, paths: list[str]) -> None:
        """Starts from the kernels alone."""
        for path in paths:
            seat, width = self.seats[path]
            problem = Problem.plain(LinearLayer(seat.layer))
            chain, product = self._started(seat, width, problem, seat.layer.use_bias)
            loss = problem.error(product)
            self.done[path] = Substitute(seat, chain, (loss, loss))

    def from_data(self, paths: list[str], split: Split, course: Course, seed: int) -> None:
        """Starts from what layers give on data, and trains, in order."""
        generator = np.random.default_rng(seed)
        operations = {call.path: call.operation for call in self.network.all_calls()}
        operations |= {path: Behind(substitute) for path, substitute in self.done.items()}
        both = SideBySide(self.network, operations, {}, self.seats)

        def meet(call: Call, x: Pair) -> None:
            if call.path in paths:
                problem = self._problem(call, x, both, generator)
                self.done[call.path] = self._learned(call, x, problem, course, seed)
                operations[call.path] = Behind(self.done[call.path])

        batches = [self.network.cast_inputs(inputs) for inputs in columns(split, 64)]
        both.run(batches, meet, "Substitute")

    def _problem(self, call: Call, x: Pair, both: SideBySide, generator: np.random.Generator) -> Problem:
        linear = LinearLayer(call.operation)
        if linear.shape[0] > MOST_ROWS:
            return Problem.plain(linear)
        rows = np.arange(linear.shape[0])
        return Problem.of_data(linear, *missing_sums(call, linear, x, Sink(None), both, generator, rows), True)

    def _learned(self, call: Call, x: Pair, problem: Problem, course: Course, seed: int) -> Substitute:
        seat, width = self.seats[call.path]
        chain, _ = self._started(seat, width, problem, True)
        plain = chain.of
        wanted = [plain(keras.ops.cast(batch, "float32")) for batch in x.before]
        lesson = Lesson(_joined(x.after), _joined(wanted), 1 if plain.data_format == "channels_first" else -1, seed)
        if seat.relu:
            lesson.lift(chain)
        return Substitute(seat, chain, lesson.learn(chain, course))

    def _started(self, seat: Seat, width: int, problem: Problem, use_bias: bool) -> tuple[Chain, np.ndarray]:
        """The chain with its first weights, and the matrix that it stands for without ReLUs."""
        plain, pieces = _plain(seat), seat.pieces(width)
        # Names of its own: the trained layers may stand in a network beside those that are built (`reference`).
        name = free_name(f"{seat.layer.name}_trained", [*pieces, Piece("activation", "", (), 0)], self._names)
        chain, kernels = Chain(plain, pieces, use_bias, name), seat.start(problem, width)
        chain(keras.Input(seat.shape[1:]))
        product = composed(pieces, kernels).reshape(problem.wanted.shape)
        bias = np.zeros(seat.layer.filters)
        if seat.layer.use_bias:
            bias += keras.ops.convert_to_numpy(seat.layer.bias).astype("float64")
        chain.assign(kernels, bias + problem.shift(product) if use_bias else None)
        return chain, product

    def built(self) -> Any:
        """The network with the structures in the place of their layers."""
        by_layer = self._by_layer()

        def carry(call: Call, new: Any) -> None:
            if isinstance(new, Chain):
                new.take(by_layer[id(call.operation)].chain)
            else:
                copy_weights(call, new)

        places = {key: (s.chain.pieces, s.chain.use_bias) for key, s in by_layer.items()}
        return with_chains(self.model, self.network, places, carry)

    def reference(self) -> Any:
        """The network with each structure as the one kernel that it stands for; with a ReLU in between, as the layers
        that were trained."""
        by_layer = self._by_layer()

        def remake(call: Call) -> Any:
            substitute = by_layer.get(id(call.operation))
            if substitute is None:
                return copied(call)
            if substitute.kernel is None:
                return Behind(substitute)
            return from_config(call.operation, {**call.operation.get_config(), "use_bias": substitute.chain.use_bias})

        def carry(call: Call, new: Any) -> None:
            substitute = by_layer.get(id(call.operation))
            if substitute is None:
                copy_weights(call, new)
            elif substitute.kernel is not None:
                new.kernel.assign(substitute.kernel)
                if new.use_bias:
                    new.bias.assign(substitute.bias)

        return rebuild(self.model, remake, carry, opened=lambda call: holds(call, by_layer))

    def _by_layer(self) -> dict[int, Substitute]:
        return {id(substitute.seat.layer): substitute for substitute in self.done.values()}


def _plain(seat: Seat) -> Any:
    """The layer by itself: in float32, without activation, regularizers and constraints."""
    layer = seat.layer
    config = {key: None if key.endswith(("regularizer", "constraint")) else v for key, v in layer.get_config().items()}
    plain = from_config(layer, {**config, "activation": "linear", "dtype": "float32"})
    plain.build((None, *seat.shape[1:]))
    for name in ("kernel", "bias") if layer.use_bias else ("kernel",):
        getattr(plain, name).assign(keras.ops.convert_to_numpy(keras.ops.cast(getattr(layer, name), "float32")))
    return plain


def _joined(batches: list[Any]) -> np.ndarray:
    return np.concatenate([keras.ops.convert_to_numpy(keras.ops.cast(batch, "float32")) for batch in batches])

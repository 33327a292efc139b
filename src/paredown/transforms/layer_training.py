"""Layer-wise distillation: a chain of layers trained to give what the one layer gave that it stands for.

    min over all weights   mean || chain(x) - y ||²,      y = x_old W + b,  before the activation

Inputs, outputs and what lies between two layers are brought to a mean square of 1 for the training, so that one
learning rate suits all layers; the weights that come out are those of the chain as it is used.

Source:
    Hinton et al. 2015, arXiv:1503.02531 (teacher and student); Romero et al. 2015, arXiv:1412.6550, section 2.2
    (towards what a layer inside gives).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from paredown.data import Split, hold_out
from paredown.factors import Chain
from paredown.least_squares import Fit
from paredown.moments import POSITIONS, Sums
from paredown.patches import LinearLayer
from paredown.transforms.batches import ShuffledBatches
from paredown.transforms.watch import Epochs

#: Share of the examples that are held out to judge by.
HELD_OUT = 0.2
#: Standard deviations by which inner biases lift what a ReLU reads: from half of it cut off to next to nothing.
_LIFTS = (0.0, 1.0, 2.0, 4.0)
_BATCH = 64


@dataclass(frozen=True)
class Course:
    """How a layer is trained; the learning rate falls to 0 along half a cosine."""

    epochs: int
    batch_size: int
    learning_rate: float


class Lesson:
    """What a chain is to learn.

    Args:
        x, y: What it reads and is to give, shapes (n, …), float32.
        axis: Of the channels.
        seed: Of what is held out, of positions, and of the order of examples.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, axis: int, seed: int):
        both = Split(x, y)
        self.fitted, self.held = hold_out(both, HELD_OUT, seed) if len(x) > 1 else (both, both)
        self._others = tuple(a for a in range(y.ndim) if a != axis % y.ndim)
        self._seed, self._axis = seed, axis
        self.spread = float(np.square(y - y.mean(self._others, keepdims=True)).sum()) / len(y) or 1.0
        self._scale_x, self._scale_y = (float(np.sqrt(np.square(a).mean())) or 1.0 for a in (x, y))

    def loss(self, chain: Chain) -> float:
        """Mean square of what is wrong at the output for the examples that are held out, as a share of its variance."""
        wrong = sum(float(np.square(_numpy(chain(x)) - y).sum()) for x, y in self.held.batches(_BATCH))
        return wrong / len(self.held) / self.spread

    def learn(self, chain: Chain, course: Course) -> tuple[float, float]:
        """Trains a chain whose last activation is linear, and keeps what it was where that is no better.

        Returns:
            The losses before and after.
        """
        start, before = _weights(chain), self.loss(chain)
        if not course.epochs:
            return before, before
        self._even_out(chain)
        _scale(chain, self._scale_x, 1 / self._scale_y)
        self._fit(chain, course)
        _scale(chain, 1 / self._scale_x, self._scale_y)
        after = self.loss(chain)
        if after < before:
            return before, after
        _assign(chain, start)
        return before, before

    def lift(self, chain: Chain) -> None:
        """Puts inner biases where the chain does best with its ReLUs: each as many standard deviations above the mean
        of what its ReLU reads, the last kernel by least squares behind them."""
        start, tried = _weights(chain), []
        for lift in _LIFTS:
            _assign(chain, start)
            batches = list(self.fitted.batches(_BATCH))
            read = [keras.ops.convert_to_tensor(x) for x, _ in batches]
            for layer, piece in list(zip(chain.layers, chain.pieces, strict=True))[:-1]:
                if piece.relu:
                    self._lift(layer, read, lift)
                read = [layer(x) for x in read]
            self._refit(chain.layers[-1], read, [y for _, y in batches])
            tried.append((self.loss(chain), _weights(chain)))
        _assign(chain, min(tried, key=lambda pair: pair[0])[1])

    def _lift(self, layer: Any, read: Sequence[Any], lift: float) -> None:
        layer.bias.assign(keras.ops.zeros_like(layer.bias))
        sums = [self._moments(_before_activation(layer, x)) for x in read]
        count, total, square = (sum(column) for column in zip(*sums, strict=True))
        mean = total / count
        deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
        layer.bias.assign(lift * deviation - mean)

    def _moments(self, z: Any) -> tuple[float, np.ndarray, np.ndarray]:
        """(count, sum, sum of squares) per channel."""
        z = _numpy(z).astype("float64")
        return z.size / z.shape[self._axis], z.sum(self._others), np.square(z).sum(self._others)

    def _refit(self, layer: Any, read: Sequence[Any], wanted: Sequence[np.ndarray]) -> None:
        """Least squares for the last layer, with bias."""
        linear, generator = LinearLayer(layer), np.random.default_rng(self._seed)
        matrix = linear.matrix.astype("float32")
        parts = Sums(*matrix.shape), Sums(*matrix.shape)
        for x, y in zip(read, wanted, strict=True):
            lattice = linear.lattice(y.shape, POSITIONS, generator)
            rows = linear.rows(x, lattice)
            missing = linear.outputs(keras.ops.convert_to_tensor(y), lattice) - keras.ops.matmul(rows, matrix)
            missing = missing - layer.bias
            held = np.arange(rows.shape[0]) % 5 == 4
            for sums, chosen in zip(parts, (~held, held), strict=True):
                at = np.flatnonzero(chosen)
                sums.add(keras.ops.take(rows, at, 0), keras.ops.take(missing, at, 0))
        fit = Fit.best(*parts, True)
        linear.kernel.assign(linear.as_kernel(linear.matrix + fit.step))
        layer.bias.assign_add(fit.shift)

    def _even_out(self, chain: Chain) -> None:
        """Brings each channel between two layers to a mean square of 1; ReLU and convolution take a factor along."""
        x, _ = next(self.fitted.batches(_BATCH))
        own = [(layer, piece) for layer, piece in zip(chain.layers, chain.pieces, strict=True) if piece.has_kernel]
        for (layer, piece), (after, _) in itertools.pairwise(own):
            z = x
            for each in chain.layers[: chain.layers.index(layer) + 1]:
                z = each(z)
            count, _, square = self._moments(z)
            size = np.sqrt(square / count)
            size = np.where(size > 1e-6 * size.max(), size, 1.0) if size.max() > 0 else np.ones_like(size)
            kernel = _numpy(layer.kernel)
            # The outputs of a depthwise kernel lie along its last two axes.
            across = size.reshape(kernel.shape[-2:]) if piece.kind == "depthwise" else size
            layer.kernel.assign(kernel / across)
            if piece.relu:
                layer.bias.assign(_numpy(layer.bias) / size)
            after.kernel.assign(_numpy(after.kernel) * size[:, None])

    def _fit(self, chain: Chain, course: Course) -> None:
        def pack(x: np.ndarray, y: np.ndarray) -> tuple:
            return x / np.float32(self._scale_x), y / np.float32(self._scale_y)

        batches = ShuffledBatches(self.fitted, course.batch_size, None, self._seed, "none", pack)
        inputs = keras.Input(self.fitted.x.shape[1:])
        model = keras.Model(inputs, chain(inputs))
        rate = keras.optimizers.schedules.CosineDecay(course.learning_rate, course.epochs * len(batches))
        # TensorFlow needs longer to compile a small network than to train it.
        at_once = False if keras.backend.backend() == "tensorflow" else "auto"
        model.compile(keras.optimizers.Adam(rate), "mean_squared_error", jit_compile=at_once)
        model.fit(batches, epochs=course.epochs, callbacks=[Epochs(batches)], shuffle=False, verbose=0)


def _before_activation(layer: Any, x: Any) -> Any:
    activation, layer.activation = layer.activation, keras.activations.linear
    try:
        return layer(x)
    finally:
        layer.activation = activation


def _scale(chain: Chain, first: float, last: float) -> None:
    """The same chain for inputs divided by `first`, with outputs times `last`."""
    own = [layer for layer, piece in zip(chain.layers, chain.pieces, strict=True) if piece.has_kernel]
    own[0].kernel.assign(_numpy(own[0].kernel) * first)
    for variable in own[-1].weights:
        variable.assign(_numpy(variable) * last)


def _weights(chain: Chain) -> list[list[np.ndarray]]:
    return [[np.array(value) for value in layer.get_weights()] for layer in chain.layers]


def _assign(chain: Chain, weights: list[list[np.ndarray]]) -> None:
    for layer, values in zip(chain.layers, weights, strict=True):
        layer.set_weights(values)


def _numpy(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)

"""Second moments of what layers read, over data: all that linear least squares needs to know of them.

Memory does not grow with the data: one matrix per layer, summed batch by batch in float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops

from paredown.channels import Channels
from paredown.data import Split
from paredown.network import Call, Network
from paredown.patches import LinearLayer, known_shape, why_not_linear
from paredown.progress import task

#: Output positions per example that are looked at: neighbours hardly differ.
POSITIONS = 64
#: Rows of a layer's matrix beyond which its second moments are not taken (they need rows² numbers).
MOST_ROWS = 8192


class Sums:
    """Sums over rows that a least-squares fit of `targets` by `rows` needs; float64.

    Attributes:
        count: Number of rows.
        gram: Shape (n, n), sum of outer products of rows.
        row: Shape (n,), sum of rows.
        cross: Shape (n, o), sum of outer products of rows and targets.
        target: Shape (o,), sum of targets.
        square: Sum of the squares of all targets.
    """

    def __init__(self, inputs: int, outputs: int = 0):
        self.count = 0
        self.gram = np.zeros((inputs, inputs))
        self.row = np.zeros(inputs)
        self.cross = np.zeros((inputs, outputs))
        self.target = np.zeros(outputs)
        self.square = 0.0

    def add(self, rows: Any, targets: Any = None) -> None:
        """Adds rows (p, n) and targets (p, o), float32 tensors."""
        self.count += int(rows.shape[0])
        transposed = ops.transpose(rows)
        self.gram += _numpy(ops.matmul(transposed, rows))
        self.row += _numpy(ops.sum(rows, 0))
        if targets is not None:
            self.cross += _numpy(ops.matmul(transposed, targets))
            self.target += _numpy(ops.sum(targets, 0))
            self.square += float(ops.sum(ops.square(targets)))

    def __add__(self, other: "Sums") -> "Sums":
        """The sums over both sets of rows."""
        both = Sums(0)
        for name, value in vars(self).items():
            setattr(both, name, value + getattr(other, name))
        return both

    def covariance(self) -> np.ndarray:
        """Of the rows, shape (n, n)."""
        mean = self.row / self.count
        return self.gram / self.count - np.outer(mean, mean)


def _numpy(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor).astype("float64")


@dataclass(frozen=True, eq=False)
class Consumer:
    """A layer whose kernel reads removable channels.

    Args:
        path: Of the layer.
        matrix: Its kernel, shape (n, o).
        mean, covariance: Of what it reads, shapes (n,) and (n, n).
        components: The component of each row of the matrix, shape (n,).
    """

    path: str
    matrix: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    components: np.ndarray


def carries(channels: Channels, path: str) -> bool:
    """Whether a layer hands on the channels that it reads (BatchNormalization, depthwise), making none of its own."""
    return bool(np.isin(channels.outputs[path], channels.reads[path]).all())


def _readers(channels: Channels) -> dict[str, Call]:
    """Path -> a call of every layer that makes something else of removable channels."""
    return {
        call.path: call
        for call in channels.network.all_calls()
        if call.path in channels.reads
        and channels.prunable[channels.reads[call.path]].any()
        and not carries(channels, call.path)
    }


def consumers(
    channels: Channels, split: Split, seed: int = 0, batch_size: int = 64, most_rows: int = MOST_ROWS
) -> list[Consumer]:
    """Streams data through the network and gathers the second moments of what kernels read.

    Args:
        channels: The network with its channels.
        split: Inputs; labels are not looked at.
        seed: Of the positions that are looked at.
    Returns:
        One entry per layer whose kernel reads removable channels and can be seen as one matrix of at most
        `most_rows` rows.
    """
    wanted: dict[str, LinearLayer] = {}
    for path, call in _readers(channels).items():
        layer = call.operation
        if why_not_linear(layer) is None and (linear := LinearLayer(layer)).shape[0] <= most_rows:
            wanted[path] = linear
    return [
        Consumer(
            path,
            wanted[path].matrix,
            sums.row / sums.count,
            sums.covariance(),
            wanted[path].rows_of_channels(channels.reads[path]),
        )
        for path, sums in input_sums(channels.network, wanted, split, seed, batch_size).items()
    ]


def input_sums(
    network: Network, layers: dict[str, LinearLayer], split: Split, seed: int = 0, batch_size: int = 64
) -> dict[str, Sums]:
    """Streams data through a network and sums up the rows that layers read, over all their calls.

    Args:
        network: The network.
        layers: By path.
        split: Inputs; labels are not looked at.
        seed: Of the positions that are looked at.
    """
    found = {path: Sums(*linear.shape) for path, linear in layers.items()}
    generator = np.random.default_rng(seed)

    def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
        if call.path in layers:
            linear = layers[call.path]
            lattice = linear.lattice(known_shape(call, args[0]), POSITIONS, generator)
            found[call.path].add(linear.rows(args[0], lattice))
        return call.infer(args, kwargs)

    with task("Second moments", total=len(split)) as advance:
        for inputs in columns(split, batch_size):
            network.walk(network.cast_inputs(inputs), step)
            advance(len(inputs[0]))
    return found


class Moments:
    """Second moments of a network over data, gathered when they are first asked for.

    Args:
        channels: The network with its channels.
        split: Inputs.
        seed: As for `consumers`.
    """

    def __init__(self, channels: Channels, split: Split, seed: int = 0):
        self.channels, self.split, self._seed = channels, split, seed

    @cached_property
    def consumers(self) -> dict[str, Consumer]:
        """By the layer's path."""
        return {consumer.path: consumer for consumer in consumers(self.channels, self.split, self._seed)}


def columns(split: Split, batch_size: int) -> Iterator[list[np.ndarray]]:
    """The inputs of a split batch by batch, one array per network input."""
    for x, _ in split.batches(batch_size):
        yield list(x) if isinstance(x, tuple) else [x]

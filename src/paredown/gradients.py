"""What the loss makes of channels: gradients per channel and per example, in one streaming pass over data.

Every tensor of removable channels that layers make other channels of is multiplied by a gate of ones, one per example
and channel, before its readers see it. With x the activations,

    d loss / d gate [n, k]  =  sum over positions of x [n, .., k] * d loss / d x [n, .., k],

the first-order effect of closing the gate. One component's gates over all its readers (and over positions that Flatten
made channels of) are summed per example before anything is squared: the effect of removing the whole coupled group,
as its readers see it. Layers that only hand a channel on (BatchNormalization, depthwise convolution) have no gate:
the channel would be closed twice. Memory does not grow with the data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops, tree
from scipy.sparse import csr_array

from paredown.channels import Channels
from paredown.compiled import gradient
from paredown.data import Split
from paredown.data.checks import last_activation
from paredown.flows import channel_axis
from paredown.network import Call
from paredown.progress import task
from paredown.statistics import Sites, reading_sites

#: `loss(outputs, labels)`, both lists of tensors (n, ...), gives the loss of each example, shape (n,).
ExampleLoss = Callable[[list, list], Any]
#: The activations of a step are held for the way back: a step takes as many examples as fit into this, or one.
STEP_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class GradientStatistics:
    """Gradients of the loss to the gates of one layer's channels; each array has shape (channels,), float64.

    Args:
        mean: Mean over the examples, signed.
        absolute: Mean over the examples of the absolute value.
        square: Mean over the examples of the square.
        batch_square: Mean over batches of the square of the batch's mean.
        examples: How many examples there were.
    """

    mean: np.ndarray
    absolute: np.ndarray
    square: np.ndarray
    batch_square: np.ndarray
    examples: int


def gradient_statistics(
    channels: Channels, split: Split, loss: ExampleLoss, batch_size: int = 128, per_reader: bool = False
) -> list[tuple[np.ndarray, GradientStatistics]]:
    """Streams data through the network and back, BatchNormalization at inference, weights untouched.

    Args:
        channels: The network with its channels.
        split: Inputs, and labels where `loss` needs them.
        loss: The loss of each example; see `own_output_loss`.
        batch_size: Examples per batch (for `batch_square`); a batch that would not fit into memory goes in steps.
        per_reader: False: a component's gradients are summed over all its readers before they are reduced. True: each
            reader's channels are reduced on their own, to be combined afterwards.
    Returns:
        Pairs of components, shape (n,), and their statistics: per channel group, or per reader.
    """
    sites = reading_sites(channels)
    if not sites.components:
        return []
    parts = _parts(channels, sites, per_reader)
    fold = _fold(sites, parts, channels.count)
    of_gates = gradient(_gated_loss(channels, sites, loss), channels.network.model)
    sizes = [len(components) for components in sites.components.values()]
    rows = min(batch_size, max(1, STEP_BYTES // _bytes_per_example(channels, split)))
    sums = np.zeros((4, fold.shape[1]))
    with task("Gradients", total=len(split)) as advance:
        for x, y in split.batches(batch_size):
            whole = np.zeros(fold.shape[1])
            inputs, labels = _columns(x), _columns(y)
            for start in range(0, len(inputs[0]), rows):
                here = slice(start, start + rows)
                gates = [np.ones((len(inputs[0][here]), size), "float32") for size in sizes]
                given = of_gates(gates, [a[here] for a in inputs], [a[here] for a in labels])
                g = np.concatenate([ops.convert_to_numpy(part) for part in given], 1) @ fold  # [examples, columns]
                sums[:3] += g.sum(0), np.abs(g).sum(0), np.square(g).sum(0)
                whole += g.sum(0)
                advance(len(g))
            sums[3] += np.square(whole) / len(inputs[0])
    cuts = np.cumsum([len(components) for _, components in parts])
    # Four rows each: mean, absolute, square, batch_square.
    means = np.split(sums / len(split), cuts[:-1], axis=1)
    return [(c, GradientStatistics(*four, examples=len(split))) for (_, c), four in zip(parts, means, strict=True)]


def own_output_loss(model: Any) -> ExampleLoss:
    """A loss that needs no labels.

    Returns:
        `loss(outputs, labels)`, shape (n,), labels not looked at: the sum over the outputs of, behind a softmax, the
        cross-entropy with the class that the network itself finds most likely; behind a sigmoid the same of each
        element, averaged; of any other output half the mean square of its elements.
    """
    losses = [_OWN.get(last_activation(tensor) or "", _half_square) for tensor in model.outputs]

    def loss(outputs: list, labels: list) -> Any:
        each = [of(ops.cast(y, "float32")) for of, y in zip(losses, outputs, strict=True)]
        return sum(per_example(values) for values in each)

    return loss


def per_example(values: Any) -> Any:
    """The mean of each example's values, shape (n,) from (n, ...)."""
    return ops.mean(values, axis=tuple(range(1, len(values.shape)))) if len(values.shape) > 1 else values


_TINY = 1e-7
_OWN: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda y: -ops.log(ops.maximum(ops.max(y, axis=-1), _TINY)),
    "sigmoid": lambda y: -ops.log(ops.maximum(ops.maximum(y, 1 - y), _TINY)),
}


def _half_square(y: Any) -> Any:
    return ops.square(y) / 2


def _gated_loss(channels: Channels, sites: Sites, loss: ExampleLoss) -> Callable:
    """`f(gates, inputs, labels)`: the loss summed over the examples, so that each gate has its own example's."""
    network = channels.network

    def function(gates: list, inputs: list, labels: list) -> Any:
        gate_of = dict(zip(sites.components, gates, strict=True))
        seen: dict[int, tuple[Any, Any]] = {}

        def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
            path = sites.reader.get(id(call.inputs[0])) if call.inputs else None
            # A reader reads the same channels as the site's first; whatever else takes the tensor takes it as it is.
            if path is not None and call.path in sites.readers:
                leaves = tree.flatten((args, kwargs))
                key, x = id(call.inputs[0]), leaves[0]
                # A nested model's tensors have one id at all its calls, but other values.
                if key not in seen or seen[key][0] is not x:
                    seen[key] = x, _through(gate_of[path], x, channel_axis(call.operation, len(x.shape)))
                args, kwargs = tree.pack_sequence_as((args, kwargs), [seen[key][1], *leaves[1:]])
            return call.infer(args, kwargs)

        outputs = network.walk(network.cast_inputs(inputs), step)
        return ops.sum(loss([ops.cast(y, "float32") for y in outputs], labels))

    return function


def _through(gate: Any, x: Any, axis: int) -> Any:
    shape = [1] * len(x.shape)
    shape[0], shape[axis] = -1, x.shape[axis]
    gated = x * ops.cast(ops.reshape(gate, shape), x.dtype)
    mask = getattr(x, "_keras_mask", None)
    if mask is not None:
        gated._keras_mask = mask
    return gated


def _parts(channels: Channels, sites: Sites, per_reader: bool) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """What is reduced on its own: paths of readers, and the components that their gradients are summed into."""
    if per_reader:
        return [((path,), np.unique(components)) for path, components in sites.components.items()]
    read = np.unique(np.concatenate(list(sites.components.values())))
    members = [group.components[np.isin(group.components, read)] for group in channels.groups]
    return [(tuple(sites.components), components) for components in members if components.size]


def _fold(sites: Sites, parts: list, count: int) -> csr_array:
    """The matrix that sums gates into columns, [gates, columns]."""
    starts = dict(zip(sites.components, np.cumsum([0, *map(len, sites.components.values())])[:-1], strict=True))
    rows, columns, width = [], [], 0
    for paths, components in parts:
        column_of = np.full(count, -1)
        column_of[components] = width + np.arange(len(components))
        for path in paths:
            column = column_of[sites.components[path]]
            rows.append(starts[path] + np.flatnonzero(column >= 0))
            columns.append(column[column >= 0])
        width += len(components)
    gates = sum(map(len, sites.components.values()))
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(gates, width))


def _bytes_per_example(channels: Channels, split: Split) -> int:
    """About what all activations of an example take; a size that is left open counts as the data's largest."""
    largest = max(size for name, column in split.columns() if name[0] == "x" for size in (1, *column.shape[1:]))
    shapes = [tensor.shape[1:] for call in channels.network.all_calls() for tensor in call.outputs]
    return 4 * sum(int(np.prod([size or largest for size in shape], dtype="int64")) for shape in shapes)


def _columns(value: Any) -> list[np.ndarray]:
    return [] if value is None else list(value) if isinstance(value, tuple) else [value]

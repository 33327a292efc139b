"""How much the network's outputs change when one group of channels alone is narrowed, measured.

A score says which channel of a group goes first; how much that costs the *network* it does not say: a layer early in
a residual network can lose most of its channels for nothing. So each group is narrowed by itself to a few widths, the
layers that read it refitted (or their means put right), and the outputs are compared with what they were.
"""

from collections.abc import Sequence

import keras
import numpy as np

from paredown.channels import ChannelGroup, Channels
from paredown.data import Split
from paredown.data.checks import last_activation
from paredown.moments import Consumer, columns
from paredown.narrow import masked_outputs, removed_channels, removed_inside
from paredown.network import Network
from paredown.patches import LinearLayer
from paredown.progress import task
from paredown.rebuild import rebuild
from paredown.side_by_side import twins
from paredown.sinks import Sinks
from paredown.surgeon import RIDGE

#: Shares of a group's channels that are taken out to see what it costs.
SHARES = (0.25, 0.5, 0.75)


def measured_losses(
    channels: Channels,
    groups: Sequence[ChannelGroup],
    scores: np.ndarray,
    consumers: Sequence[Consumer],
    split: Split,
    refit: bool = True,
) -> list[np.ndarray]:
    """For each group, what the network loses with its k worst channels gone.

    Measured at `SHARES` of the channels; in between the sum of the scores says how the loss rises.

    Args:
        channels: The network with its channels; it is not touched.
        groups: The groups that may lose channels.
        scores: Shape (channels.count,), higher = keep; infinite: stays.
        consumers: Second moments of the layers that read the groups; others are left as they are.
        split: Inputs on which outputs are compared.
        refit: Let the channels that stay make up for those that go; False: only the mean is put right.
    Returns:
        Per group, shape (size + 1,), entry k for k channels gone: mean square change of the outputs as a share of
        their variance (class scores: of their logarithms); infinite where a channel would go that stays.
    """
    trial = _Trial(channels, {c.path: c for c in consumers}, split, refit)
    losses = []
    with task("Sensitivity", total=len(groups)) as advance:
        for group in groups:
            worst_first = group.components[np.argsort(scores[group.components], kind="stable")]
            free = int(np.isfinite(scores[worst_first]).sum())
            counts = sorted({max(1, round(share * group.size)) for share in SHARES} & set(range(1, free + 1)))
            found = [trial.loss(group, worst_first[:k]) for k in counts]
            losses.append(_between(counts, found, scores[worst_first[:free]], group.size))
            advance(1)
    return losses


def _between(counts: list[int], found: list[float], scores: np.ndarray, size: int) -> np.ndarray:
    """The loss for every number of channels gone, from a few measured ones and the scores of those that may go."""
    result = np.full(size + 1, np.inf)
    result[0] = 0
    if counts:
        # Scores say how the loss rises, not how much: their sum is scaled to the measured losses.
        lost = np.cumsum(np.maximum(scores, 0)) + 1e-9 * max(1e-12, float(np.abs(scores).max()))
        scale = [np.log(max(loss, 1e-12) / lost[k - 1]) for k, loss in zip(counts, found, strict=True)]
        free = np.arange(1, len(scores) + 1)
        result[1 : len(scores) + 1] = np.exp(np.interp(free, counts, scale)) * lost
    return np.maximum.accumulate(result)


class _Trial:
    """A copy of the network in which one group at a time is narrowed, and put back."""

    def __init__(self, channels: Channels, consumers: dict[str, Consumer], split: Split, refit: bool):
        self._channels, self._consumers, self._refit = channels, consumers, refit
        self._copy = Network(rebuild(channels.network.model))
        self._made = twins(channels.network, self._copy)
        self._calls = {call.path: call for call in channels.network.all_calls()}
        self._sinks = Sinks(channels.network, self._made)
        self._batches = list(columns(split, 256))
        self._reference = self._outputs({})

    def loss(self, group: ChannelGroup, gone: np.ndarray) -> float:
        """What is lost without the components `gone` of the group."""
        keep = np.ones(self._channels.count, bool)
        keep[gone] = False
        touched = [self._made[path] for path in group.inputs if path in self._consumers]
        norms = [self._sinks.of(self._calls[path]).norm for path in group.inputs if path in self._consumers]
        before = [(v, keras.ops.copy(v)) for layer in (*touched, *norms) if layer is not None for v in layer.variables]
        for path in group.inputs:
            if path in self._consumers:
                self._make_up(path, keep)
        outputs = self._outputs({**removed_channels(self._channels, keep), **removed_inside(self._channels, keep)})
        for variable, value in before:
            variable.assign(value)
        return output_change(self._reference, outputs)

    def _make_up(self, path: str, keep: np.ndarray) -> None:
        consumer, call = self._consumers[path], self._calls[path]
        weights = made_up(consumer, keep[consumer.components]) if self._refit else None
        if weights is None:
            weights = np.where(keep[consumer.components][:, None], consumer.matrix, 0)
        layer = LinearLayer(self._made[path])
        layer.kernel.assign(layer.as_kernel(weights))
        sink = self._sinks.of(call)
        if sink.shift is not None and self._sinks.times(path) == 1:
            sink.shift(consumer.mean @ (consumer.matrix - weights))

    def _outputs(self, removed: dict[str, np.ndarray]) -> list[np.ndarray]:
        parts = [masked_outputs(self._copy, removed, inputs) for inputs in self._batches]
        joined = [np.concatenate(arrays).astype("float64") for arrays in zip(*parts, strict=True)]
        return scored_outputs(self._channels.network, joined)


def made_up(consumer: Consumer, stays: np.ndarray) -> np.ndarray:
    """The kernel, shape (n, o), with which the rows that stay (boolean, (n,)) best give the outputs of all rows."""
    kept, gone = np.flatnonzero(stays), np.flatnonzero(~stays)
    covariance = consumer.covariance
    damped = covariance[np.ix_(kept, kept)] + RIDGE * (np.diag(covariance).mean() or 1.0) * np.eye(kept.size)
    weights = np.zeros_like(consumer.matrix)
    step = np.linalg.solve(damped, covariance[np.ix_(kept, gone)] @ consumer.matrix[gone])
    weights[kept] = consumer.matrix[kept] + step
    return weights


def scored_outputs(network: Network, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A network's outputs, class scores as their logarithms."""
    logarithms = (last_activation(tensor) == "softmax" for tensor in network.outputs)
    return [_log_scores(y) if log else y for y, log in zip(outputs, logarithms, strict=True)]


def output_change(reference: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> float:
    """Mean square change of outputs as a share of their variance, mean over a network's outputs."""
    return float(np.mean([_share(a, b) for a, b in zip(reference, outputs, strict=True)]))


def _log_scores(scores: np.ndarray) -> np.ndarray:
    """Logarithms of class scores, but for a constant: what the softmax was made of."""
    logarithms = np.log(np.maximum(scores, 1e-30))
    return logarithms - logarithms.mean(-1, keepdims=True)


def _share(reference: np.ndarray, outputs: np.ndarray) -> float:
    return float(np.square(outputs - reference).mean() / max(reference.var(), 1e-12))

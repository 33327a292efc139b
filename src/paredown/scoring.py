"""From a criterion to one score per component: what may only go together has one worth.

A criterion scores *places*: the channels that one layer makes, or that one layer reads. A component has several
(coupled layers, readers), and they are combined here. To let criteria see something new: one function that gives
their places, and its row in `_PLACES`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from paredown.channels import ChannelGroup, Channels
from paredown.criteria import CRITERIA, Criterion
from paredown.errors import DataError
from paredown.layer_rules import rule_for, weight_axes
from paredown.network import Call
from paredown.statistics import ActivationStatistics, activation_statistics

#: Pairs of components, shape (n,), and their scores at one place of the network, shape (n,).
Places = list[tuple[np.ndarray, np.ndarray]]


def component_scores(
    channels: Channels,
    criterion: str,
    data: Any = None,
    seed: int = 0,
    combine: str | None = None,
    batch_size: int = 128,
) -> np.ndarray:
    """The worth of every component of a network.

    Args:
        channels: The network with its channels.
        criterion: A row of `criteria.CRITERIA`.
        data: A `Data`, whose calibration part is read; None for criteria of weights alone.
        seed: Of criteria that draw.
        combine: Row of `COMBINE`: how the scores of a component's places become one; None: the criterion's default.
        batch_size: Examples per step.
    Returns:
        Shape (channels.count,), float64, higher = keep; infinite where the criterion scores none of its places.
    Raises:
        DataError: If the criterion needs data and there are none.
    """
    row = CRITERIA[criterion]
    if data is None and row.reads not in _NEED_NO_DATA:
        raise DataError(
            f"criterion {criterion!r} needs data to run the network on. Received: data=None (PruneChannels). "
            "Give Data(calibration=inputs), or use a criterion of the weights, such as 'l2_norm'."
        )
    sight = Sight(channels, data, np.random.default_rng(seed), batch_size)
    combined = COMBINE[combine or ("mean" if row.comparable else "sum")](_PLACES[row.reads](row, sight), channels.count)
    # What nothing scores (a channel that only passes layers without a kernel) is not the criterion's to remove.
    return np.where(np.isnan(combined), np.inf, combined)


def in_one_unit(scores: np.ndarray, groups: Sequence[ChannelGroup]) -> np.ndarray:
    """Scores that a ranking over all layers can compare: divided by the mean of their group.

    Args:
        scores: Shape (count,).
    """
    scores = scores.copy()
    for group in groups:
        here = scores[group.components]
        finite = here[np.isfinite(here)]
        if finite.size:
            scores[group.components] = here / (finite.mean() or 1.0)
    return scores


@dataclass(frozen=True, eq=False)
class Sight:
    """What the places of criteria are made from."""

    channels: Channels
    data: Any
    generator: np.random.Generator
    batch_size: int


def _of_nothing(criterion: Criterion, sight: Sight) -> Places:
    count = sight.channels.count
    return [(np.arange(count), criterion.score(count, sight.generator))]


def _of_kernels(criterion: Criterion, sight: Sight) -> Places:
    made = [(call, _made_by(call)) for call in _unique_calls(sight.channels)]
    outputs = sight.channels.outputs
    return [(outputs[call.path], criterion.score(kernel)) for call, kernel in made if kernel is not None]


def _of_activations(criterion: Criterion, sight: Sight) -> Places:
    seen = activation_statistics(sight.channels, sight.data.calibration, criterion.reductions, sight.batch_size)
    places = [_folded(sight.channels.reads[path], statistics) for path, statistics in seen.items()]
    return [(components, criterion.score(statistics)) for components, statistics in places]


_NEED_NO_DATA = ("nothing", "kernel")
_PLACES: dict[str, Callable[[Criterion, Sight], Places]] = {
    "nothing": _of_nothing,
    "kernel": _of_kernels,
    "activations": _of_activations,
}


def _folded(components: np.ndarray, seen: ActivationStatistics) -> tuple[np.ndarray, ActivationStatistics]:
    """A channel's positions before Flatten are positions like any other: one entry per component of the tensor."""
    distinct, index = np.unique(components, return_inverse=True)
    sums = {name: np.bincount(index, values) for name, values in seen.sums.items()}
    return distinct, ActivationStatistics(sums, seen.positions * np.bincount(index))


def _unique_calls(channels: Channels) -> list[Call]:
    calls = {call.path: call for call in channels.network.all_calls() if call.path in channels.outputs}
    return list(calls.values())


def _made_by(call: Call) -> np.ndarray | None:
    """The weights that make each output channel, shape (weights per channel, channels); None where none do."""
    rule = rule_for(call.operation)
    if rule is None:
        return None
    for weight in reversed(call.operation.weights):
        axes = weight_axes(rule, weight)
        if weight.name.endswith(("kernel", "embeddings")) and ("o" in axes or "m" in axes):
            value = keras.ops.convert_to_numpy(weight)
            if "o" in axes:
                value = np.moveaxis(value, axes.index("o"), -1)
            # A depthwise kernel [h, w, i, m] makes channel i * m + k.
            size = value.shape[-1] if "o" in axes else value.shape[-2] * value.shape[-1]
            return value.reshape(-1, size)
    return None


def _sum(places: Places, count: int) -> np.ndarray:
    scores, times = np.zeros(count), np.zeros(count)
    for components, values in places:
        np.add.at(scores, components, values)
        np.add.at(times, components, 1)
    return np.where(times > 0, scores, np.nan)


def _mean(places: Places, count: int) -> np.ndarray:
    ones = [(components, np.ones(len(components))) for components, _ in places]
    return _sum(places, count) / _sum(ones, count)


def _max(places: Places, count: int) -> np.ndarray:
    scores = np.full(count, np.nan)
    for components, values in places:
        np.fmax.at(scores, components, np.asarray(values, "float64"))
    return scores


#: How the scores of a component's places become one; NaN where it has none.
COMBINE: dict[str, Callable[[Places, int], np.ndarray]] = {"sum": _sum, "mean": _mean, "max": _max}

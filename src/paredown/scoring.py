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
from paredown.gradients import ExampleLoss, gradient_statistics, own_output_loss
from paredown.moments import Moments
from paredown.remembered import remembered
from paredown.statistics import ActivationStatistics, activation_statistics
from paredown.weight_places import made_by

#: Pairs of components, shape (n,), and their scores at one place of the network, shape (n,).
Places = list[tuple[np.ndarray, np.ndarray]]


def component_scores(
    channels: Channels,
    criterion: str,
    data: Any = None,
    seed: int = 0,
    combine: str | None = None,
    batch_size: int = 128,
    loss: ExampleLoss | None = None,
    moments: Moments | None = None,
) -> np.ndarray:
    """The worth of every component of a network.

    Args:
        channels: The network with its channels.
        criterion: A row of `criteria.CRITERIA`.
        data: A `Data`, whose calibration part is read; None for criteria of weights alone.
        seed: Of criteria that draw.
        combine: Row of `COMBINE`: how the scores of a component's places become one; None: the criterion's default.
        batch_size: Examples per step.
        loss: What criteria of gradients differentiate; None: the loss of the network's own outputs.
        moments: Second moments of the network; None: of the calibration data, if the criterion reads them.
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

    def scores() -> np.ndarray:
        sight = Sight(channels, data, np.random.default_rng(seed), combine, batch_size, loss, moments)
        folded = COMBINE[combine or ("mean" if row.comparable else "sum")]
        combined = folded(_PLACES[row.reads](row, sight), channels.count)
        # What nothing scores (a channel that only passes layers without a kernel) is not the criterion's to remove.
        return np.where(np.isnan(combined), np.inf, combined)

    settings = (criterion, seed, combine, batch_size, loss is None, moments and len(moments.split))
    return remembered(channels.network.model, data, ("scores", *settings), scores).copy()


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


def saved_share(cost: Callable[[np.ndarray], float], channels: Channels) -> np.ndarray:
    """The share of a network's cost that removing each component alone saves.

    Args:
        cost: `cost(keep)` of a boolean of shape (channels.count,), such as `MacCount`.
    Returns:
        Shape (channels.count,), in [0, 1]; zero for what must stay.
    """
    keep = np.ones(channels.count, bool)
    everything, saved = cost(keep), np.zeros(channels.count)
    # The components of a group have equally many channels in the same layers: one stands for all.
    for group in channels.groups:
        keep[group.components[0]] = False
        saved[group.components] = (everything - cost(keep)) / (everything or 1)
        keep[group.components[0]] = True
    return saved


@dataclass(frozen=True, eq=False)
class Sight:
    """What the places of criteria are made from."""

    channels: Channels
    data: Any
    generator: np.random.Generator
    combine: str | None
    batch_size: int
    loss: ExampleLoss | None
    moments: Moments | None


def _of_nothing(criterion: Criterion, sight: Sight) -> Places:
    count = sight.channels.count
    return [(np.arange(count), criterion.score(count, sight.generator))]


def _of_kernels(criterion: Criterion, sight: Sight) -> Places:
    outputs = sight.channels.outputs
    made = {key: kernel for call in sight.channels.network.all_calls() for key, kernel in made_by(call).items()}
    return [(outputs[key], criterion.score(kernel)) for key, kernel in made.items() if key in outputs]


def _of_activations(criterion: Criterion, sight: Sight) -> Places:
    seen = activation_statistics(sight.channels, sight.data.calibration, criterion.reductions, sight.batch_size)
    places = [_folded(sight.channels.reads[path], statistics) for path, statistics in seen.items()]
    return [(components, criterion.score(statistics)) for components, statistics in places]


def _of_scales(criterion: Criterion, sight: Sight) -> Places:
    outputs = sight.channels.outputs
    # A dictionary: a layer that is called twice is one place.
    norms = {
        call.path: call.operation.gamma
        for call in sight.channels.network.all_calls()
        if isinstance(call.operation, keras.layers.BatchNormalization) and call.operation.gamma is not None
    }
    return [
        (outputs[path], criterion.score(keras.ops.convert_to_numpy(gamma)))
        for path, gamma in norms.items()
        if path in outputs
    ]


def _of_gradients(criterion: Criterion, sight: Sight) -> Places:
    # Left to itself, a component's gradients are summed over its readers before they are squared: the effect of the
    # whole group. Where `combine` is named, each reader is scored on its own.
    loss = sight.loss or own_output_loss(sight.channels.network.model)
    split, per_reader = sight.data.calibration, sight.combine is not None
    seen = gradient_statistics(sight.channels, split, loss, sight.batch_size, per_reader)
    return [(components, criterion.score(statistics)) for components, statistics in seen]


def _of_moments(criterion: Criterion, sight: Sight) -> Places:
    consumers = (sight.moments or Moments(sight.channels, sight.data.calibration)).consumers
    readers = [
        (group.components, [consumers[path] for path in group.inputs if path in consumers])
        for group in sight.channels.groups
    ]
    return [(components, criterion.score(components, read)) for components, read in readers if read]


_NEED_NO_DATA = ("nothing", "kernel", "scale")
_PLACES: dict[str, Callable[[Criterion, Sight], Places]] = {
    "nothing": _of_nothing,
    "kernel": _of_kernels,
    "scale": _of_scales,
    "activations": _of_activations,
    "gradients": _of_gradients,
    "moments": _of_moments,
}


def _folded(components: np.ndarray, seen: ActivationStatistics) -> tuple[np.ndarray, ActivationStatistics]:
    """A channel's positions before Flatten are positions like any other: one entry per component of the tensor."""
    distinct, index = np.unique(components, return_inverse=True)
    sums = {name: np.bincount(index, values) for name, values in seen.sums.items()}
    return distinct, ActivationStatistics(sums, seen.positions * np.bincount(index))


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

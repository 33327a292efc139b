"""Channels taken out one after another, the cheapest first, each time in the light of those that are gone already.

A consumer computes Y = X W; X (p, n) has the covariance H, and a channel is a block B of rows of W (its window). To
take it out and let the other rows make up for it as well as they can costs, and changes what is left by,

    error = tr(W_B' ([H^-1]_BB)^-1 W_B)
    W    -= [H^-1]_:B ([H^-1]_BB)^-1 W_B
    H^-1 -= [H^-1]_:B ([H^-1]_BB)^-1 [H^-1]_B:

the equations of the Optimal Brain Surgeon (Hassibi & Stork 1993) with a block in the place of a weight. What remains
costs more and more, so that costs in the order of removal never fall, and their sum is what is lost in all.
"""

from collections.abc import Callable, Sequence

import numpy as np

from paredown.moments import Consumer

#: Share of the mean variance that is added to every variance, so that H can be inverted.
RIDGE = 1e-5


class Blocks:
    """One consumer's view of a group: which rows of its matrix belong to each channel, and H^-1 as it is now.

    Args:
        consumer: A layer that reads the group.
        group: Components, shape (size,).
        weights: What has to be kept, shape (n, o); None: the channels' own values, W = 1.
    """

    def __init__(self, consumer: Consumer, group: np.ndarray, weights: np.ndarray | None):
        covariance = consumer.covariance
        self.damping = RIDGE * (np.diag(covariance).mean() or 1.0)
        self.inverse = np.linalg.inv(covariance + self.damping * np.eye(len(covariance)))
        self.weights = None if weights is None else weights.copy()
        #: Row numbers, shape (channels, window).
        self.rows = rows_of(consumer, group)

    def costs(self, left: np.ndarray) -> np.ndarray:
        """What each of the channels `left` costs to take out now."""
        rows = self.rows[left]
        inner = self.inverse[rows[:, :, None], rows[:, None, :]]
        if self.weights is None:
            # What is left of a value that nothing explains is at least the damping.
            explained = np.trace(np.linalg.inv(inner), axis1=1, axis2=2) - self.damping * rows.shape[1]
            return np.maximum(explained, 0)
        weights = self.weights[rows]
        return np.maximum(np.einsum("cbo,cbo->c", weights, np.linalg.solve(inner, weights)), 0)

    def take_out(self, channel: int) -> None:
        """Lets the other channels make up for one."""
        rows = self.rows[channel]
        column = self.inverse[:, rows]
        gain = np.linalg.solve(self.inverse[np.ix_(rows, rows)], column.T)
        if self.weights is not None:
            self.weights -= gain.T @ self.weights[rows]
        self.inverse -= column @ gain


def rows_of(consumer: Consumer, group: np.ndarray) -> np.ndarray:
    """The rows of the consumer's matrix that read each channel of a group, shape (channels, window)."""
    order = np.argsort(consumer.components, kind="stable")
    ordered = consumer.components[order]
    first, last = np.searchsorted(ordered, group), np.searchsorted(ordered, group, "right")
    return np.array([order[a:b] for a, b in zip(first, last, strict=True)])


def one_by_one(size: int, costs: Callable[[np.ndarray], np.ndarray], take_out: Callable[[int], None]) -> np.ndarray:
    """What each channel cost when it was the cheapest and went, shape (size,).

    Args:
        costs: `costs(left)`, for the numbers of the channels that are left.
        take_out: Told of each channel that goes.
    """
    left, result, before = np.arange(size), np.zeros(size), 0.0
    while left.size:
        now = costs(left)
        at = int(np.argmin(now))
        # Rounding must not let the order of scores differ from the order of removal.
        before = result[left[at]] = max(before * (1 + 1e-12), float(now[at]))
        take_out(int(left[at]))
        left = np.delete(left, at)
    return result


def structured_obs(group: np.ndarray, consumers: Sequence[Consumer]) -> np.ndarray:
    """Optimal Brain Surgeon on whole channels: what the consumers lose once all other channels have made up for one.

    Args:
        group: Components of the coupled channels, shape (size,).
        consumers: The layers that read them.
    Returns:
        Shape (size,): the error that the channel adds to the mean square of the consumers' outputs when it goes after
        all channels of lower score, each consumer's as a share of its output's variance.
    Source:
        Hassibi & Stork 1993, Second order derivatives for network pruning; its blocks are derived above.
    """
    scaled = [(c, c.matrix / np.sqrt(_output_variance(c) or 1.0)) for c in consumers]
    views = [Blocks(c, group, weights) for c, weights in scaled]
    return one_by_one(len(group), *_over(views))


def redundancy(group: np.ndarray, consumers: Sequence[Consumer]) -> np.ndarray:
    """What the other channels cannot say of a channel: equal and linearly dependent channels go, whatever they weigh.

    Together with `reconstruct` the channels that stay take over the outgoing weights of those that go.

    Returns:
        Shape (size,): share in [0, 1] of the channel's variance that is left once the channels that are still there
        have been regressed on; 0 for a channel that is constant or a linear combination of others.
    Source:
        Backward elimination as in the Optimal Brain Surgeon with the activations themselves as what is to be kept.
    """
    views = [Blocks(c, group, None) for c in consumers]
    variances = [np.diag(c.covariance)[view.rows].sum(1) for c, view in zip(consumers, views, strict=True)]
    floors = [view.damping * view.rows.shape[1] for view in views]

    def costs(left: np.ndarray) -> np.ndarray:
        shares = [
            view.costs(left) / np.maximum(variance[left], floor)
            for view, variance, floor in zip(views, variances, floors, strict=True)
        ]
        return np.clip(np.mean(shares, 0), 0, 1)

    return one_by_one(len(group), costs, _over(views)[1])


def thinet(group: np.ndarray, consumers: Sequence[Consumer]) -> np.ndarray:
    """ThiNet's greedy choice: the channels whose joint contribution to the consumers' outputs is least go together.

    Returns:
        Shape (size,): what the channel adds to the mean square of the summed contributions of all that went, each
        consumer's as a share of its output's variance; never less than for a channel that went before.
    Source:
        Luo et al. 2017, arXiv:1707.06342, section 3.2 (algorithm 1), on second moments in the place of samples.
    """
    contributions = sum(_contributions(c, group) / (_output_variance(c) or 1.0) for c in consumers)
    assert isinstance(contributions, np.ndarray)
    gone = np.zeros(len(group))

    def costs(left: np.ndarray) -> np.ndarray:
        return contributions[left, left] + 2 * contributions[left] @ gone

    def take_out(channel: int) -> None:
        gone[channel] = 1

    return one_by_one(len(group), costs, take_out)


def _over(views: Sequence[Blocks]) -> tuple[Callable, Callable]:
    def costs(left: np.ndarray) -> np.ndarray:
        return np.sum([view.costs(left) for view in views], 0)

    def take_out(channel: int) -> None:
        for view in views:
            view.take_out(channel)

    return costs, take_out


def _output_variance(consumer: Consumer) -> float:
    variance = float(np.einsum("no,nm,mo->", consumer.matrix, consumer.covariance, consumer.matrix, optimize=True))
    return max(0.0, variance)  # Rounding can leave an output that is constant a little below 0.


def _contributions(consumer: Consumer, group: np.ndarray) -> np.ndarray:
    """Mean products of what each two channels add to the outputs, summed over outputs, shape (size, size)."""
    moment = consumer.covariance + np.outer(consumer.mean, consumer.mean)
    products = moment * (consumer.matrix @ consumer.matrix.T)
    rows = rows_of(consumer, group)
    size, window = rows.shape
    return products[np.ix_(rows.ravel(), rows.ravel())].reshape(size, window, size, window).sum((1, 3))

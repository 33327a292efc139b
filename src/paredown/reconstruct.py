"""Layers refitted after channels went, so that they give what they gave before.

The network as it was and the one with the removed channels at zero run side by side, layer by layer, all layers
before this one refitted already. At a layer whose input X is no longer what it was,

    least squares:   min over W, b   || X W + b - Y ||²  +  ridge || W - W_old ||²,    Y = X_old W_old + b_old
    compensation:    b takes up the mean of the difference, W stays

Where the layer's output enters a sum, Y is what makes the *sum* right: it takes back the error that the other
summands bring. A layer without a bias hands a shift of its mean to the BatchNormalization behind it.

Source:
    He et al. 2017, arXiv:1707.06168, sections 3.1 and 3.2 (refitting, and the targets of residual branches).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from paredown.channels import Channels
from paredown.data import Split
from paredown.moments import MOST_ROWS, POSITIONS, Sums, carries, columns
from paredown.narrow import removed_channels, removed_inside
from paredown.network import Call, Network
from paredown.patches import LinearLayer, known_shape, why_not_linear
from paredown.rebuild import rebuild
from paredown.side_by_side import Pair, SideBySide, twins
from paredown.sinks import Sink, Sinks

#: How strongly weights are held where they were, as shares of the inputs' mean variance. What does best on rows that
#: the fit has not seen is taken: a fit to few examples must not follow their noise.
RIDGES = (1e-5, 1e-3, 1e-1, 10.0)
#: Every so manieth row is kept from the fit to choose the ridge by.
_HELD_OUT = 5


@dataclass(frozen=True, eq=False)
class Refit:
    """A network whose channels are to go, at its full width.

    Args:
        model: With the new weights; those of removed channels are zero or not looked at.
        errors: Path -> mean square of what is left of the difference at a refitted layer's output, as a share of
            the output's variance, on the data that it was fitted to.
        skipped: Path -> why a layer that reads other channels than before was not refitted.
    """

    model: Any
    errors: dict[str, float]
    skipped: dict[str, str]


def refit(
    model: Any,
    channels: Channels,
    keep: np.ndarray,
    split: Split,
    least_squares: bool = True,
    seed: int = 0,
    batch_size: int = 64,
) -> Refit:
    """Refits every layer whose input changes when channels go.

    Args:
        model: The network that `channels` describes; it is not touched.
        keep: Boolean, shape (channels.count,), True for components that stay.
        split: Inputs. All of them are in memory at once, with what layers that are still to run read of them.
        least_squares: Refit weights and bias; False: the bias alone.
        seed: Of the positions that are looked at.
        batch_size: Examples per step.
    """
    copy = rebuild(model)
    made = twins(channels.network, Network(copy))
    refitter = _Refitter(channels, keep, made, least_squares, np.random.default_rng(seed))
    batches = [channels.network.cast_inputs(inputs) for inputs in columns(split, batch_size)]
    refitter.both.run(batches, refitter.meet, "Refit")
    return Refit(copy, refitter.errors, refitter.skipped)


class _Refitter:
    """Meets the layers one by one."""

    def __init__(self, channels: Channels, keep: np.ndarray, made: dict[str, Any], least_squares: bool, generator):
        self._channels, self._keep, self._made = channels, keep, made
        self._least_squares, self._generator = least_squares, generator
        self._removed = removed_channels(channels, keep)
        self.both = SideBySide(channels.network, made, {**self._removed, **removed_inside(channels, keep)})
        self.errors: dict[str, float] = {}
        self.skipped: dict[str, str] = {}
        self._sinks = Sinks(channels.network, made)

    def meet(self, call: Call, x: Pair) -> None:
        """Refits the copy's layer, if it has a kernel."""
        if call.path not in self._channels.reads or carries(self._channels, call.path):
            return
        why = why_not_linear(call.operation)
        if why is None and self._sinks.times(call.path) > 1:
            why = "is called more than once"
        if why is None:
            self._fit(call, x)
        elif not self._keep[self._channels.reads[call.path]].all():
            self.skipped[call.path] = why

    def _fit(self, call: Call, x: Pair) -> None:
        linear, sink = LinearLayer(call.operation), self._sinks.of(call)
        rows = np.flatnonzero(self._keep[linear.rows_of_channels(self._channels.reads[call.path])])
        whole = self._least_squares and rows.size <= MOST_ROWS
        if sink.shift is None and not whole:
            self.skipped[call.path] = "has neither a bias nor a BatchNormalization behind it that could take up a shift"
            return
        fitted, held_out, spread = self._sums(call, linear, x, sink, rows, whole)
        fit = Fit.best(fitted, held_out, sink.shift is not None) if whole else Fit.shift_alone(fitted + held_out)
        weights = np.zeros_like(linear.matrix)
        weights[rows] = linear.matrix[rows] + (fit.step if whole else 0)
        new = LinearLayer(self._made[call.path])
        new.kernel.assign(new.as_kernel(weights))
        if sink.shift is not None:
            sink.shift(fit.shift)
        self.errors[call.path] = fit.left(fitted + held_out) / max(spread, 1e-30)

    def _sums(self, call, linear: LinearLayer, x: Pair, sink: Sink, rows, whole: bool) -> tuple[Sums, Sums, float]:
        """Sums of the rows that stay and of what is missing at the output, to fit and to choose the ridge by; and the
        variance of the output."""
        matrix, outputs = linear.matrix, linear.matrix.shape[1]
        now = np.zeros_like(matrix)
        now[rows] = matrix[rows]
        stays = np.ones(outputs)
        stays[self._removed.get(call.path, [])] = 0
        # A difference at an output that goes is nobody's.
        to_layer = (sink.unscaled(outputs) * stays).astype("float32")
        # A summand that is computed later takes back this one's error in its turn.
        pairs = [self.both.pair(tensor) for tensor in sink.summands]
        summands = [] if None in pairs else [pair for pair in pairs if pair is not None and not pair.same]
        fitted, held_out = (Sums(rows.size if whole else 0, outputs) for _ in range(2))
        spread = 0.0
        for i, (before, after) in enumerate(zip(x.before, x.after, strict=True)):
            lattice = linear.lattice(known_shape(call, before), POSITIONS, self._generator)
            wanted = ops.matmul(linear.rows(before, lattice), ops.cast(matrix, "float32"))
            seen = linear.rows(after, lattice)
            missing = wanted - ops.matmul(seen, ops.cast(now, "float32"))
            for summand in summands:
                lost = linear.outputs(summand.before[i], lattice) - linear.outputs(summand.after[i], lattice)
                missing = missing + ops.cast(lost, "float32") * to_layer
            spread += float(ops.sum(ops.var(wanted, 0))) / len(x.before)
            seen = ops.take(seen, rows, 1) if whole else seen[:, :0]
            per_example = seen.shape[0] // before.shape[0]
            held = np.arange(before.shape[0]) % _HELD_OUT == _HELD_OUT - 1
            for sums, chosen in ((held_out, held), (fitted, ~held)):
                at = np.flatnonzero(np.repeat(chosen, per_example))
                sums.add(ops.take(seen, at, 0), ops.take(missing, at, 0))
        return fitted, held_out, spread


@dataclass(frozen=True, eq=False)
class Fit:
    """A change of a layer's matrix and bias.

    Args:
        step: Added to the matrix, shape (n, o).
        shift: Added to the bias, shape (o,).
    """

    step: np.ndarray
    shift: np.ndarray

    @staticmethod
    def shift_alone(sums: Sums) -> "Fit":
        """Puts the mean right."""
        return Fit(np.zeros(sums.cross.shape), sums.target / sums.count)

    @staticmethod
    def solved(sums: Sums, ridge: float, with_bias: bool) -> "Fit":
        """The least-squares fit, held back by `ridge` as a share of the rows' mean variance."""
        row, target = sums.row / sums.count * with_bias, sums.target / sums.count * with_bias
        covariance = sums.gram / sums.count - np.outer(row, row)
        cross = sums.cross / sums.count - np.outer(row, target)
        damping = ridge * (np.diag(covariance).mean() or 1.0)
        step = np.linalg.solve(covariance + damping * np.eye(len(row)), cross)
        return Fit(step, target - row @ step)

    @staticmethod
    def best(fitted: Sums, held_out: Sums, with_bias: bool) -> "Fit":
        """The fit to all rows, with the ridge with which the fit to `fitted` does best on `held_out`."""
        everything = fitted + held_out
        if not held_out.count or not fitted.count:
            return Fit.solved(everything, RIDGES[-1], with_bias)
        tried = [Fit.solved(fitted, ridge, with_bias).left(held_out) for ridge in RIDGES]
        if with_bias and min(tried) > Fit.shift_alone(fitted).left(held_out):
            return Fit.shift_alone(everything)
        return Fit.solved(everything, RIDGES[int(np.argmin(tried))], with_bias)

    def left(self, sums: Sums) -> float:
        """Mean over rows of the squared difference that is left, summed over outputs."""
        gram, row, cross, target = (a / sums.count for a in (sums.gram, sums.row, sums.cross, sums.target))
        square = sums.square / sums.count - 2 * (self.step * cross).sum() + (self.step * (gram @ self.step)).sum()
        square += (self.shift**2).sum() - 2 * self.shift @ (target - row @ self.step)
        return max(0.0, float(square))

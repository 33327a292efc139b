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

import keras
import numpy as np
from keras import ops

from paredown.channels import Channels
from paredown.data import Split
from paredown.least_squares import Fit
from paredown.moments import MOST_ROWS, POSITIONS, Sums, carries, columns
from paredown.narrow import removed_channels, removed_inside
from paredown.network import Call, Network
from paredown.patches import LinearLayer, known_shape, why_not_linear
from paredown.profiling import profile
from paredown.rebuild import rebuild
from paredown.side_by_side import Pair, SideBySide, twins
from paredown.sinks import Sink, Sinks

#: About how many bytes of activations may be held at once.
MOST_BYTES = 3_000_000_000
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
    copy: Any = None,
) -> Refit:
    """Refits every layer whose input changes when channels go.

    Args:
        model: The network that `channels` describes; it is not touched.
        keep: Boolean, shape (channels.count,), True for components that stay.
        split: Inputs. All of them are in memory at once, with what layers that are still to run read of them.
        least_squares: Refit weights and bias; False: the bias alone.
        seed: Of the positions that are looked at.
        batch_size: Examples per step.
        copy: A copy of the network, whose layers are refitted; None: one is made.
    """
    copy = rebuild(model) if copy is None else copy
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
        stays = np.ones(linear.matrix.shape[1])
        stays[self._removed.get(call.path, [])] = 0
        fitted, held_out, spread = missing_sums(call, linear, x, sink, self.both, self._generator, rows, whole, stays)
        fit = Fit.best(fitted, held_out, sink.shift is not None) if whole else Fit.shift_alone(fitted + held_out)
        weights = np.zeros_like(linear.matrix)
        weights[rows] = linear.matrix[rows] + (fit.step if whole else 0)
        new = LinearLayer(self._made[call.path])
        new.kernel.assign(new.as_kernel(weights))
        if sink.shift is not None:
            sink.shift(fit.shift)
        self.errors[call.path] = fit.left(fitted + held_out) / max(spread, 1e-30)


class _Spread:
    """The variance of rows, summed over columns, batch by batch."""

    def __init__(self):
        self._count, self._sum, self._square = 0, np.float64(0), 0.0

    def add(self, rows: Any) -> None:
        values = keras.ops.convert_to_numpy(rows).astype("float64")
        self._count += len(values)
        self._sum = self._sum + values.sum(0)
        self._square += float(np.square(values).sum())

    @property
    def variance(self) -> float:
        return max(0.0, self._square / self._count - float(np.square(self._sum / self._count).sum()))


def missing_sums(
    call: Call,
    linear: LinearLayer,
    x: Pair,
    sink: Sink,
    both: SideBySide,
    generator: np.random.Generator,
    rows: np.ndarray,
    whole: bool = True,
    stays: np.ndarray | float = 1.0,
) -> tuple[Sums, Sums, float]:
    """Sums of the rows that a layer of the copy reads and of what is missing at its output, to fit and to choose the
    ridge by; and the variance of the output.

    Args:
        call, linear: The layer in the network as it was.
        x: What it reads in both networks.
        sink: Where its output goes.
        both: The networks.
        generator: Draws the positions that are looked at.
        rows: Rows of the matrix that the layer still has, with their present weights.
        whole: Sum up the rows, too; False: what is missing alone.
        stays: Outputs that stay, shape (o,), 0 or 1: a difference at an output that goes is nobody's.
    """
    matrix, outputs = linear.matrix, linear.matrix.shape[1]
    now = np.zeros_like(matrix)
    now[rows] = matrix[rows]
    to_layer = (sink.unscaled(outputs) * stays).astype("float32")
    # A summand that is computed later takes back this one's error in its turn.
    pairs = [both.pair(tensor) for tensor in sink.summands]
    summands = [] if None in pairs else [pair for pair in pairs if pair is not None and not pair.same]
    fitted, held_out = (Sums(rows.size if whole else 0, outputs) for _ in range(2))
    seen_in_all = _Spread()
    for i, (before, after) in enumerate(zip(x.before, x.after, strict=True)):
        lattice = linear.lattice(known_shape(call, before), POSITIONS, generator)
        wanted = ops.matmul(linear.rows(before, lattice), ops.cast(matrix, "float32"))
        seen = linear.rows(after, lattice)
        missing = wanted - ops.matmul(seen, ops.cast(now, "float32"))
        for summand in summands:
            lost = linear.outputs(summand.before[i], lattice) - linear.outputs(summand.after[i], lattice)
            missing = missing + ops.cast(lost, "float32") * to_layer
        seen_in_all.add(wanted)
        seen = ops.take(seen, rows, 1) if whole else seen[:, :0]
        per_example = seen.shape[0] // before.shape[0]
        held = np.arange(before.shape[0]) % _HELD_OUT == _HELD_OUT - 1
        for sums, chosen in ((held_out, held), (fitted, ~held)):
            at = np.flatnonzero(np.repeat(chosen, per_example))
            sums.add(ops.take(seen, at, 0), ops.take(missing, at, 0))
    return fitted, held_out, seen_in_all.variance


def in_memory(split: Split, model: Any, input_shape: tuple[int, ...] | None, copies: int = 2) -> Split:
    """As many of the first examples as can be run side by side in memory, 16 at least.

    Args:
        input_shape: As for `profile`.
        copies: How often what is alive at once is held.
    """
    peak = profile(model, input_shape).peak_activation_bytes
    return split.take(max(16, MOST_BYTES // (copies * max(1, peak))))

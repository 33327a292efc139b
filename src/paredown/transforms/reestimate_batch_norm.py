"""ReestimateBatchNorm: the statistics of BatchNormalization layers, taken anew from data.

A pruned network's layers read other values than those whose mean and variance were kept. For N batches, where batch b
has n_b positions, mean m_b and variance v_b in a channel, seen in a forward pass in training mode:

    mean = Σ n_b m_b / Σ n_b        variance = Σ n_b (v_b + m_b²) / Σ n_b - mean²
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops, tree

from paredown.errors import DataError, SettingError
from paredown.network import Call, Network
from paredown.progress import task
from paredown.rebuild import rebuild
from paredown.transform import Skip, Transform, TransformResult


@dataclass(frozen=True)
class ReestimateBatchNorm(Transform):
    """Gives every BatchNormalization layer the mean and variance of what it reads of `data.calibration`.

    As in training, each layer normalizes by the batch at hand while the layers behind it are looked at; everything
    else (Dropout, say) works as at inference. The statistics are pooled over all batches with equal weight for every
    position, not averaged with a momentum: of one batch they are exactly the batch's. Frozen layers get them, too;
    nothing else of the network changes. `result.log["layers"]` says how far each moved.

    Args:
        batches: How many batches, drawn at random from the calibration data without repetition (all of them, where
            there are fewer).
        batch_size: Examples per batch; larger comes closer to inference.
    Source:
        Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 2, lines 8 to 11 (population statistics of training batches).
    """

    name: ClassVar[str] = "reestimate_batch_norm"

    batches: int = 16
    batch_size: int = 128

    def __post_init__(self):
        for name in ("batches", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingError(
                    f"{name} must be a whole number of at least 1. Received: {name}={value!r} (ReestimateBatchNorm). "
                    "Use e.g. 16."
                )

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        copy = rebuild(model)
        layers = {call.path: call.operation for call in Network(copy).all_calls() if _normalizes(call)}
        if not layers:
            return TransformResult(copy, skips=(Skip(model.name, "has no BatchNormalization"),))
        if data is None:
            raise DataError(
                "ReestimateBatchNorm needs data to run the network on. Received: data=None. "
                "Give Data(calibration=inputs)."
            )
        sums = self._sums(copy, data.calibration, seed)
        log = {path: _take(layers[path], *totals) for path, totals in sums.items()}
        return TransformResult(copy, log={"layers": log, "examples": self._rows(data.calibration, seed).size})

    def _rows(self, split: Any, seed: int) -> np.ndarray:
        """Which examples, shape (at most batches · batch_size,)."""
        return np.random.default_rng([seed, 3]).permutation(len(split))[: self.batches * self.batch_size]

    def _sums(self, model: Any, split: Any, seed: int) -> dict[str, tuple[float, np.ndarray, np.ndarray]]:
        """Layer path -> positions, sum of values and sum of squares about 0, per channel, float64."""
        probe, sums = _Probe(model), {}
        chosen = split.part(self._rows(split, seed))
        with task("BatchNormalization", total=len(chosen)) as advance:
            for x, _ in chosen.batches(self.batch_size):
                inputs = list(x) if isinstance(x, tuple) else [x]
                for path, (count, mean, variance) in probe.moments(inputs):
                    n, total, squares = sums.get(path, (0.0, 0.0, 0.0))
                    mean, variance = mean.astype("float64"), variance.astype("float64")
                    sums[path] = n + count, total + count * mean, squares + count * (variance + mean**2)
                advance(len(inputs[0]))
        return sums


class _Probe(keras.Model):
    """Runs a network with BatchNormalization by the batch's own moments, and gives these."""

    def __init__(self, model: Any):
        super().__init__(name="probe")
        self.observed = model
        self._network = Network(model)
        self._sites = [call.path for call in self._network.all_calls() if _normalizes(call)]
        self.compile()

    def moments(self, inputs: list[np.ndarray]) -> list[tuple[str, tuple[float, np.ndarray, np.ndarray]]]:
        """Per call of a BatchNormalization layer its path, and positions, mean and variance per channel."""
        found = self.predict_on_batch(self._network.pack_inputs(inputs))
        return [(path, (float(n), m, v)) for path, n, m, v in zip(self._sites, *found, strict=True)]

    def call(self, inputs, training=None):
        counts, means, variances = [], [], []

        def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
            if not _normalizes(call):
                return call.infer(args, kwargs)
            layer = call.operation
            x = ops.cast(tree.flatten((args, kwargs))[0], "float32")
            others = [a for a in range(len(x.shape)) if a != layer.axis % len(x.shape)]
            mean, variance = ops.moments(x, axes=others)
            shape = ops.shape(x)
            counts.append(ops.cast(ops.prod(ops.convert_to_tensor([shape[a] for a in others])), "float32"))
            means.append(mean)
            variances.append(variance)
            y = ops.batch_normalization(x, mean, variance, layer.axis, layer.beta, layer.gamma, layer.epsilon)
            return [ops.cast(y, layer.compute_dtype)]

        self._network.walk(self._network.cast_inputs(tree.flatten(inputs)), step)
        return tuple(counts), tuple(means), tuple(variances)


def _normalizes(call: Call) -> bool:
    return isinstance(call.operation, keras.layers.BatchNormalization)


def _take(layer: Any, count: float, total: np.ndarray, squares: np.ndarray) -> dict[str, float]:
    """Gives the layer its statistics; says how far they moved, in old standard deviations and as a factor."""
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    before = [keras.ops.convert_to_numpy(w).astype("float64") for w in (layer.moving_mean, layer.moving_variance)]
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    spread = before[1] + layer.epsilon
    return {
        "mean_shift": float(np.sqrt(np.mean((mean - before[0]) ** 2 / spread))),
        "variance_factor": float(np.exp(np.mean(np.log((variance + layer.epsilon) / spread)))),
    }

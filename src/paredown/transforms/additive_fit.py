"""An additive layer's scale, bias and size of weights, fitted to what an ordinary layer gives.

    y ≈ a·(X·sign(W) + r·sign(X)·W) + b        per output; r > 0 goes into the weights: sign(r·W) = sign(W)

a, b and a·r are a least-squares problem of three unknowns, solved from sums over all examples and positions. Where its
answer has no r > 0, the weights keep their size or become a hundredth, whichever fits better.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

_RATIOS = (1.0, 0.01)


class AdditiveFit:
    """Gathers sums, then gives a layer its weights.

    Args:
        layer: A built `AdditiveDense` or `AdditiveConv2D` that holds the ordinary layer's kernel.
        bias: The ordinary layer's, shape (outputs,), or None.
    """

    def __init__(self, layer: Any, bias: Any):
        self._layer, self._bias = layer, 0.0 if bias is None else keras.ops.convert_to_numpy(ops.cast(bias, "float32"))
        outputs = layer.kernel.shape[-1]
        self._count, self._sums, self._products = 0, np.zeros((3, outputs)), np.zeros((3, 3, outputs))

    def add(self, before: Any, after: Any) -> None:
        """One batch of the layer's input: in the network as it was, and as it is now."""
        ordinary = self._layer.multiply(ops.cast(before, "float32"), ops.convert_to_tensor(self._layer.kernel))
        first, second = self._layer.halves(ops.cast(after, "float32"))
        columns = [self._rows(first), self._rows(second), self._rows(ordinary) + self._bias]
        self._count += len(columns[0])
        self._sums += [column.sum(0, dtype="float64") for column in columns]
        self._products += [[(a * b).sum(0, dtype="float64") for b in columns] for a in columns]

    def _rows(self, y: Any) -> np.ndarray:
        """(positions of all examples, outputs)."""
        if getattr(self._layer, "data_format", None) == "channels_first":
            y = ops.moveaxis(y, 1, -1)
        return keras.ops.convert_to_numpy(y).reshape(-1, y.shape[-1])

    def assign(self) -> float:
        """Gives the layer kernel, scale and bias.

        Returns:
            What is wrong at its output, mean square as a share of its variance.
        """
        mean = self._sums / self._count  # [3, outputs]
        moments = np.moveaxis(self._products / self._count - mean[:, None] * mean[None], -1, 0)  # [outputs, 3, 3]
        ratio = _ratio(moments)
        tried = np.stack([ratio, *(np.full_like(ratio, value) for value in _RATIOS)])  # [3, outputs]
        fits = [_scale_and_loss(moments, r) for r in tried]
        best = np.argmin([loss for _, loss in fits], axis=0)
        at = np.arange(len(ratio))
        r, a, loss = tried[best, at], np.array([a for a, _ in fits])[best, at], np.array([b for _, b in fits])[best, at]
        layer = self._layer
        layer.kernel.assign(keras.ops.convert_to_numpy(layer.kernel) * r)
        layer.scale.assign(a)
        layer.bias.assign(mean[2] - a * (mean[0] + r * mean[1]))
        return float(loss.sum() / max(moments[:, 2, 2].sum(), 1e-30))


def _ratio(moments: np.ndarray) -> np.ndarray:
    """r of the unbounded problem, shape (outputs,); 1 where it is none."""
    square = moments[:, :2, :2] + 1e-9 * np.trace(moments[:, :2, :2], axis1=1, axis2=2)[:, None, None] * np.eye(2)
    usable = np.linalg.det(square) > 0
    square[~usable] = np.eye(2)
    answer = np.linalg.solve(square, moments[:, :2, 2, None])[..., 0]
    usable &= answer.prod(1) > 0
    return np.where(usable, answer[:, 1] / np.where(usable, answer[:, 0], 1), 1.0)


def _scale_and_loss(moments: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best scale for a ratio, and what is left of the output's variance, per output."""
    mix = np.stack([np.ones_like(r), r], 1)
    own = np.einsum("oi,oij,oj->o", mix, moments[:, :2, :2], mix)
    shared = np.einsum("oi,oi->o", mix, moments[:, :2, 2])
    scale = np.where(own > 0, shared / np.where(own > 0, own, 1), 0.0)
    return scale, moments[:, 2, 2] - scale * shared

"""Training that pulls a network's outputs to those of another."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from paredown.data.checks import last_activation

#: The least class score that is told from zero: near float32's smallest, for at a high temperature small scores count.
_TINY = 1e-30


class Matching(keras.Model):
    """A network whose training also, or only, pulls its outputs to those of another.

    The other network's outputs are computed batch by batch inside the training step; it is neither trained nor
    saved with this one. Without labels the loss is the mean squared difference, averaged over the outputs. With
    labels it is (1 - weight) * label loss + weight * distance, where the distance of class scores is the
    Kullback-Leibler divergence KL(teacher || this), of other outputs the mean squared difference.
    """

    def teach(
        self, teacher: Any, weight: float = 1.0, classes: list[bool] | None = None, temperature: float = 1.0
    ) -> "Matching":
        """Sets the network to match.

        Args:
            teacher: Of the same inputs and outputs.
            weight: Share of the distance in the loss; 1 where there are no labels.
            classes: For each output whether it holds class scores; None for no.
            temperature: Class scores' logits are divided by this, and their divergence is multiplied by its square.
        """
        outputs = self.outputs
        classes = classes or [False] * len(outputs)
        distances = [
            _divergence(last_activation(t), temperature) if c else _squared
            for t, c in zip(outputs, classes, strict=True)
        ]
        # Functions, not layers: Keras must not count the teacher's weights as this network's.
        self._distance = lambda x, outputs: _mean(
            d(t, o)
            for d, t, o in zip(distances, tree.flatten(teacher(x, training=False)), tree.flatten(outputs), strict=True)
        )
        self._weight = weight
        return self

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        distance = self._distance(x, y_pred)
        # What regularizers add counts whole, whatever the teacher's share; Keras has put it into the label loss.
        distance = sum(self.losses, distance)
        if y is None:
            return distance
        label_loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return (1 - self._weight) * label_loss + self._weight * distance


def _squared(teacher: Any, output: Any) -> Any:
    return ops.mean(ops.square(ops.cast(output, "float32") - ops.cast(teacher, "float32")))


def _divergence(activation: str | None, temperature: float) -> Callable[[Any, Any], Any]:
    def scores(values: Any) -> Any:
        logits = ops.log(ops.maximum(values, _TINY)) if activation == "softmax" else values
        return ops.log_softmax(ops.cast(logits, "float32") / temperature)

    def divergence(teacher: Any, output: Any) -> Any:
        expected, got = scores(teacher), scores(output)
        return temperature**2 * ops.mean(ops.sum(ops.exp(expected) * (expected - got), axis=-1))

    return divergence


def _mean(values: Any) -> Any:
    values = list(values)
    return sum(values) / len(values)

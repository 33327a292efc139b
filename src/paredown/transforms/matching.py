"""Training that pulls a network's outputs, and intermediate outputs, to those of another."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from paredown.data.checks import last_activation
from paredown.transforms.data_parallel import Divided
from paredown.transforms.features import Features

#: The least class score that is told from zero: near float32's smallest, for at a high temperature small scores count.
_TINY = 1e-30


class Matching(Divided):
    """A network whose training also, or only, pulls its outputs to those of another.

    The other network's outputs are computed batch by batch inside the training step; it is neither trained nor
    saved with this one. Without labels the loss is the mean squared difference, averaged over the outputs. With
    labels it is (1 - weight) * label loss + weight * distance, where the distance of class scores is the
    Kullback-Leibler divergence KL(teacher || this), of other outputs the mean squared difference. Where features are
    matched, too, `feature_weight` times their distance is added to that.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        # Before the model is built: after that it takes no metric any more.
        self._feature_loss = keras.metrics.Mean(name="feature_loss") if kwargs.pop("with_features", False) else None
        super().__init__(*args, **kwargs)
        self._features: Features | None = None

    def teach(
        self,
        teacher: Any,
        weight: float = 1.0,
        classes: list[bool] | None = None,
        temperature: float = 1.0,
        features: Features | None = None,
        feature_weight: float = 0.0,
    ) -> "Matching":
        """Sets the network to match.

        Args:
            teacher: Of the same inputs and, unless `weight` is 0, outputs.
            weight: Share of the outputs' distance in the loss; 1 where there are no labels.
            classes: For each output whether it holds class scores; None for no.
            temperature: Class scores' logits are divided by this, and their divergence is multiplied by its square.
            features: What this network and the teacher have in common, if that is matched.
            feature_weight: Factor of the features' distance.
        """
        # A function and objects, not layers: Keras must not count the teacher's weights as this network's.
        self._ask = _asking(teacher, features)
        self._distance = _distances(self.outputs, classes, temperature) if weight else None
        self._weight, self._features, self._feature_weight = weight, features, feature_weight
        self._seen = _Seen()
        return self

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if self._features is None:
            return super().call(inputs, training=training, mask=mask)
        outputs, self._seen.features = self._features.network.run(inputs, training)
        self._seen.by = outputs[0]
        return tree.pack_sequence_as(self._outputs_struct, outputs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        expected, features = self._ask(x)
        loss = 0.0
        if self._distance is not None:
            # What regularizers add counts whole, whatever the teacher's share; Keras has put it into the label loss.
            loss = sum(self.losses, self._distance(expected, tree.flatten(y_pred)))
        if y is not None:
            label_loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            loss = (1 - self._weight) * label_loss + self._weight * loss
        return loss if self._features is None else loss + self._of_features(x, y_pred, features, training)

    def _of_features(self, x: Any, y_pred: Any, expected: dict[str, list[Any]], training: bool) -> Any:
        assert self._features is not None
        assert self._feature_loss is not None
        if self._seen.by is not tree.flatten(y_pred)[0]:
            # Keras asks for the loss of outputs that no pass made, to learn its form.
            self(x, training=training)
        seen = self._seen.taken()
        distance = self._features.distance(seen, expected)
        self._feature_loss.update_state(distance)
        return self._feature_weight * distance


class _Seen:
    """What the last pass saw, and the first output that it gave: kept from a network's call to its loss.

    No layer's attribute, for Keras would wrap it.
    """

    by: Any = None
    features: dict[str, list[Any]]

    def taken(self) -> dict[str, list[Any]]:
        self.by = None
        return self.__dict__.pop("features")


def _asking(teacher: Any, features: Features | None) -> Callable[[Any], tuple[list[Any], dict[str, list[Any]]]]:
    """What gives the teacher's outputs and features on a batch; no gradient runs into it."""

    def ask(x: Any) -> tuple[list[Any], dict[str, list[Any]]]:
        told = (tree.flatten(teacher(x, training=False)), {}) if features is None else features.teacher.run(x, False)
        return tree.map_structure(ops.stop_gradient, told)

    return ask


def _distances(outputs: list[Any], classes: list[bool] | None, temperature: float) -> Callable[[list, list], Any]:
    """The mean over the outputs of each one's distance to the teacher's."""
    distances = [
        _divergence(last_activation(tensor), temperature) if of_classes else _squared
        for tensor, of_classes in zip(outputs, classes or [False] * len(outputs), strict=True)
    ]
    return lambda teacher, ours: sum(d(*p) for d, *p in zip(distances, teacher, ours, strict=True)) / len(distances)


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

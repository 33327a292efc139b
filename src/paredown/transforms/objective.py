"""What a training run aims at: optimizer, loss and metrics."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops, tree

from paredown.data import Split
from paredown.data.checks import label_kind, last_activation
from paredown.errors import DataError, SettingError
from paredown.gradients import ExampleLoss, own_output_loss, per_example
from paredown.rebuild import compile_configuration

LEARNING_RATE = 1e-3
FROM_MODEL, CHOSEN, GIVEN = "the model's compile configuration", "paredown's choice", "settings"

# Losses for one-hot labels -> the same for class numbers.
_SPARSE = {"CategoricalCrossentropy": "SparseCategoricalCrossentropy"}


@dataclass(frozen=True)
class Objective:
    """Arguments of `compile`, and where they are from.

    Args:
        compile: `optimizer`, `loss`, `metrics`, ….
        origin: "optimizer" and "loss" -> the settings, the model's compile configuration, or paredown's choice.
    """

    compile: dict[str, Any]
    origin: dict[str, str] = field(default_factory=dict)


def choose(model: Any, split: Split, optimizer: str | dict | None, loss: str | None) -> Objective:
    """What is given, else what the model was compiled with, else a sensible choice.

    Args:
        model: The network; its compile configuration is read, nothing else.
        split: The training data; without labels only the optimizer is chosen.
        optimizer, loss: Keras names, or None; the optimizer also as {"class_name": ..., "config": {...}}.
    Raises:
        SettingError: If Keras knows no such optimizer or loss.
        DataError: If there is no label for some output.
    """
    own = compile_configuration(model)
    options: dict[str, Any] = {}
    origin: dict[str, str] = {}
    options["optimizer"], origin["optimizer"] = _first(
        (_known(keras.optimizers, "optimizer", optimizer), GIVEN),
        (own.get("optimizer"), FROM_MODEL),
        (keras.optimizers.Adam(LEARNING_RATE), CHOSEN),
    )
    if split.y is None:
        return Objective({**options, "loss": None}, origin)
    _see_labels_fit(model, split)
    given = _known(keras.losses, "loss", loss)
    own_loss, replaced = _for_class_numbers(own.get("loss"), model, split)
    options["loss"], origin["loss"] = _first(
        (given, GIVEN), (own_loss, FROM_MODEL), (_default_losses(model, split), CHOSEN)
    )
    if origin["loss"] == FROM_MODEL and not replaced:
        kept = ("loss_weights", "metrics", "weighted_metrics")
        options.update({key: own[key] for key in kept if own.get(key) is not None})
    elif "classes" in (kinds := _kinds(model, split)) or "binary" in kinds:
        options["metrics"] = (
            ["accuracy"] if len(kinds) == 1 else [["accuracy"] if k != "targets" else [] for k in kinds]
        )
    return Objective(options, origin)


def example_loss(model: Any, split: Split) -> ExampleLoss:
    """The loss of each example on its own, shape (n,): the one that fine-tuning on the same data would choose.

    Args:
        model: The network.
        split: The data; without labels the network's own outputs make the loss (`own_output_loss`).
    Raises:
        DataError: If there is no label for some output.
    """
    if split.y is None:
        return own_output_loss(model)
    objective = choose(model, split, None, None)
    losses = [_unreduced(loss) for loss in _for_each_output(objective.compile["loss"], model)]
    weights = _for_each_output(objective.compile.get("loss_weights") or 1.0, model)

    def loss(outputs: list, labels: list) -> Any:
        given = zip(losses, weights, labels, outputs, strict=True)
        return sum(weight * per_example(of(y, output)) for of, weight, y, output in given if of is not None)

    return loss


def _for_each_output(value: Any, model: Any) -> list[Any]:
    """A setting of `compile` per output of the model: given once for all, in order, or by the outputs' names."""
    if isinstance(value, dict):
        return [value.get(name) for name in model.output_names]
    return list(value) if isinstance(value, list | tuple) else [value] * len(model.outputs)


def _unreduced(loss: Any) -> Callable | None:
    """A loss of Keras, or a function, without the mean over the examples."""
    known = keras.losses.get(loss)
    if known is None:
        return None
    if isinstance(known, keras.losses.Loss):
        # Made anew for this use (`compile_configuration`, `_default_losses`): it is nobody else's.
        known.reduction = None
        return known

    def function(y: Any, output: Any) -> Any:
        missing = len(output.shape) - len(y.shape)
        return known(ops.expand_dims(y, -1) if missing == 1 and output.shape[-1] == 1 else y, output)

    return function


def plain_optimizer(optimizer: Any) -> bool:
    """Whether a setting names an optimizer in plain data, with nothing in it that Keras would import."""
    if not isinstance(optimizer, dict):
        return optimizer is None or isinstance(optimizer, str)
    config = optimizer.get("config", {})
    return (
        set(optimizer) <= {"class_name", "config"}
        and isinstance(optimizer.get("class_name"), str)
        and isinstance(config, dict)
        and all(value is None or isinstance(value, bool | int | float | str) for value in config.values())
    )


def loss_name(loss: Any) -> str:
    """A loss, or a structure of losses, in words."""
    names = [getattr(item, "name", None) or getattr(item, "__name__", str(item)) for item in tree.flatten(loss)]
    return ", ".join(dict.fromkeys(str(name) for name in names))


def class_like(model: Any, split: Split) -> list[bool]:
    """For each output whether its last axis holds the scores of classes that the labels number."""
    return [kind == "classes" for kind in _kinds(model, split)]


def _first(*choices: tuple[Any, str]) -> tuple[Any, str]:
    return next((value, origin) for value, origin in choices if value is not None)


def _known(module: Any, what: str, name: str | dict | None) -> Any:
    if name is None:
        return None
    try:
        return module.get({"config": {}, **name} if isinstance(name, dict) else name)
    except (ValueError, TypeError) as error:
        instead = "adam, or {class_name: SGD, config: {momentum: 0.9}}" if what == "optimizer" else "mean_squared_error"
        raise SettingError(
            f"{what} must be one that Keras knows. Received: {what}={name!r} (FineTune). Use e.g. {instead}."
        ) from error


def _labels(split: Split) -> list[Any]:
    return list(split.y) if isinstance(split.y, tuple) else [split.y]


def _kinds(model: Any, split: Split) -> list[str | None]:
    return [
        label_kind(y, tensor.shape, last_activation(tensor))
        for y, tensor in zip(_labels(split), model.outputs, strict=True)
    ]


def _see_labels_fit(model: Any, split: Split) -> None:
    labels = _labels(split)
    if len(labels) != len(model.outputs):
        raise DataError(
            f"To train on labels, each output needs its own: {len(model.outputs)} outputs. Received: {len(labels)} "
            "label array(s) (FineTune). Give y as a tuple, or leave the labels out to match the original's outputs."
        )


def _for_class_numbers(loss: Any, model: Any, split: Split) -> tuple[Any, bool]:
    """The model's own loss; the same loss for class numbers where it asks for one-hot labels and classes are given."""
    if _kinds(model, split) != ["classes"]:
        return loss, False
    known = keras.losses.get(loss) if isinstance(loss, str) else loss
    name = getattr(known, "__name__", type(known).__name__).replace("_", "").lower()
    sparse = {one_hot.lower(): getattr(keras.losses, number) for one_hot, number in _SPARSE.items()}.get(name)
    if sparse is None:
        return loss, False
    return sparse(from_logits=bool(getattr(known, "_fn_kwargs", {}).get("from_logits", False))), True


def _default_losses(model: Any, split: Split) -> Any:
    losses = [
        _default_loss(kind, last_activation(tensor))
        for kind, tensor in zip(_kinds(model, split), model.outputs, strict=True)
    ]
    return losses[0] if len(losses) == 1 else losses


def _default_loss(kind: str | None, activation: str | None) -> Any:
    if kind == "classes":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=activation != "softmax")
    if kind == "binary":
        return keras.losses.BinaryCrossentropy()
    return keras.losses.CategoricalCrossentropy() if activation == "softmax" else keras.losses.MeanSquaredError()

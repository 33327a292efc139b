"""What a training run may push towards zero beside its loss; nothing of it stays in the trained network.

A penalty is `strength` times a sum that the training twin of a network adds to its loss (see `twin.for_training`):
a regularizer on the twin's variables, or a layer in front of the readers of hidden activations.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from paredown.channels import Channels
from paredown.errors import ModelError
from paredown.flows import channel_axis
from paredown.network import Call
from paredown.rebuild import Arguments, unchanged

#: Penalty on weights -> the names of the variables whose absolute values are summed.
ON_WEIGHTS: dict[str, Callable[[Any], bool]] = {
    "l1_weights": lambda variable: variable.name.endswith(("kernel", "bias")),
    "batch_norm_scale": lambda variable: variable.name == "gamma",
}
ON_ACTIVATIONS = "l1_activations"
PENALTIES = (*ON_WEIGHTS, ON_ACTIVATIONS)


def penalize_weights(layers: list[Any], penalty: str | None, strength: float) -> None:
    """Puts L1 regularizers on the variables that a penalty is about, beside those that are there.

    Args:
        layers: Layers of a training twin; changed in place.
        penalty: Row of `PENALTIES`; one that is not about weights does nothing.
        strength: Factor of the sum of absolute values, in units of the loss per unit of the weights.
    Raises:
        ModelError: If the network has no such variable that is trained.
    Source:
        `batch_norm_scale`: Liu et al. 2017, arXiv:1708.06519, section 3 (network slimming).
    """
    if penalty not in ON_WEIGHTS:
        return
    concerned = {id(v): v for layer in layers for v in layer.trainable_variables if _concerned(layer, v, penalty)}
    if not concerned:
        raise ModelError(
            f"regularization {penalty!r} needs variables that it is about. Received: a network with none that is "
            "trained (FineTune). Use 'l1_weights' where there is no BatchNormalization, or leave it out."
        )
    for variable in concerned.values():
        variable.regularizer = _added(variable.regularizer, strength)


def _concerned(layer: Any, variable: Any, penalty: str) -> bool:
    right_layer = penalty != "batch_norm_scale" or isinstance(layer, keras.layers.BatchNormalization)
    return right_layer and ON_WEIGHTS[penalty](variable)


def _added(own: Callable | None, strength: float) -> Callable[[Any], Any]:
    def regularizer(value: Any) -> Any:
        penalty = strength * ops.sum(ops.abs(value))
        return penalty if own is None else own(value) + penalty

    return regularizer


def penalize_activations(model: Any, penalty: str | None, strength: float) -> Arguments:
    """What mends the arguments of calls so that hidden activations are penalized where layers with a kernel read them.

    These are the places at which pruning counts activations. The penalty is the mean over examples and positions of
    the sum over channels of |activation|, times `strength`, summed over the places.

    Args:
        model: The network whose calls will be asked for.
        penalty, strength: As for `penalize_weights`.
    """
    if penalty != ON_ACTIVATIONS:
        return unchanged
    channels, wanted = Channels(model), {}
    prunable = channels.prunable
    for call in channels.network.all_calls():
        reads = channels.reads.get(call.path)
        if reads is not None and prunable[reads].any() and _has_kernel(call):
            # A tensor that several layers read is penalized once.
            wanted.setdefault(id(call.inputs[0]), call.path)
    if not wanted:
        raise ModelError(
            f"regularization {penalty!r} needs hidden activations. Received: {model.name!r}, where no layer with a "
            "kernel reads channels of another (FineTune). Use 'l1_weights', or leave it out."
        )

    def arguments(call: Call, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if not call.inputs or wanted.get(id(call.inputs[0])) != call.path:
            return args, kwargs
        first, *rest = tree.flatten((args, kwargs))
        axis = channel_axis(call.operation, len(first.shape))
        observed = keras.layers.Identity(activity_regularizer=_mean_sum(strength, axis))(first)
        return tree.pack_sequence_as((args, kwargs), [observed, *rest])

    return arguments


def _mean_sum(strength: float, axis: int) -> Callable[[Any], Any]:
    def regularizer(x: Any) -> Any:
        # Keras divides what a layer gives by the batch's size; the mean over positions is taken here.
        positions = 1
        for a, size in enumerate(ops.shape(x)):
            if a not in (0, axis):
                positions = positions * size
        return strength * ops.sum(ops.abs(x)) / ops.cast(positions, x.dtype)

    return regularizer


def _has_kernel(call: Call) -> bool:
    return any(weight.name.endswith("kernel") for weight in call.operation.weights)

"""What a network costs in multiply-adds, in closed form; the same forms with some channels left out.

One multiply-add is one MAC. Only work that stays at inference and is a multiply-add of a kernel counts:
BatchNormalization folds into its neighbour, pooling and element-wise work are no MACs.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from paredown.allocation import AdditiveCost, CostTerm
from paredown.channels import Channels
from paredown.errors import SettingError
from paredown.flows import channel_axis
from paredown.layer_rules import rule_for, weight_axes
from paredown.network import Call, Network


@dataclass(frozen=True)
class Term:
    """`factor` MACs per kept input channel (where `reads`) and kept output channel (where `makes`).

    `channels` is the number of pairs (or of channels) with all of them kept.
    """

    path: str
    factor: int
    reads: bool
    makes: bool
    channels: int


def mac_terms(call: Call, shapes: "Shapes") -> list[Term] | None:
    """The MACs of one call as products: [positions · window · in · out]; None where no rule knows them."""
    rule = rule_for(call.operation)
    if rule is None:
        return None
    if rule.macs_at is None:
        return []
    tensor = call.outputs[0] if rule.macs_at == "output" else call.inputs[0]
    shape = shapes.of(tensor)
    axis = channel_axis(call.operation, len(shape))
    positions = math.prod(size for a, size in enumerate(shape) if a not in (0, axis))
    terms = []
    for weight in call.operation.weights:
        if weight.name.endswith("kernel"):
            axes = weight_axes(rule, weight)
            # In a grouped convolution an output reads only its own group; its channels stay, so one product does.
            grouped = getattr(call.operation, "groups", 1) > 1
            reads, makes = not grouped and ("i" in axes or "im" in axes), not grouped and "o" in axes
            window = math.prod(n for a, n in zip(axes, weight.shape, strict=True) if a not in ("i", "o", "im"))
            multiplier = getattr(call.operation, "depth_multiplier", 1) if "im" in axes else 1
            channels = math.prod(weight.shape) // (window * multiplier)
            factor = positions * window * multiplier * (channels if grouped else 1)
            terms.append(Term(call.path, factor, reads, makes, 1 if grouped else channels))
    return terms


class Shapes:
    """Every tensor's shape, the batch taken as 1 and unknown sizes as given.

    Args:
        network: The network.
        input_shape: The first input's shape without the batch, for networks that leave sizes open.
    Raises:
        SettingError: If sizes are open and no `input_shape` is given, or it does not fit.
    """

    def __init__(self, network: Network, input_shape: tuple[int, ...] | None = None):
        self._known: dict[int, tuple[int, ...]] = {}
        open_sizes = any(None in tensor.shape[1:] for tensor in network.inputs)
        if not open_sizes:
            return
        given = [self._filled(network, tensor, input_shape) for tensor in network.inputs]

        def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
            outputs = keras.tree.flatten(call.operation.compute_output_spec(*args, **kwargs))
            for tensor, output in zip(call.outputs, outputs, strict=True):
                self._known[id(tensor)] = tuple(output.shape)
            for tensor, arg in zip(call.inputs, _tensors(args, kwargs), strict=True):
                self._known[id(tensor)] = tuple(arg.shape)
            return outputs

        network.walk(given, step)

    @staticmethod
    def _filled(network: Network, tensor: Any, input_shape: tuple[int, ...] | None) -> keras.KerasTensor:
        shape = (1, *tensor.shape[1:])
        if None in shape:
            fits = input_shape is not None and len(input_shape) == len(shape) - 1
            fits = fits and all(a in (None, b) for a, b in zip(shape[1:], input_shape or (), strict=False))
            if input_shape is None or not fits:
                raise SettingError(
                    f"{network.model.name} leaves sizes of its input open: {tuple(tensor.shape)}. Received: "
                    f"input_shape={input_shape}. Give the size to count with, e.g. input_shape=(224, 224, 3)."
                )
            shape = (1, *input_shape)
        return keras.KerasTensor(shape, tensor.dtype)

    def of(self, tensor: Any) -> tuple[int, ...]:
        shape = self._known.get(id(tensor), tuple(tensor.shape))
        return (1, *shape[1:])


def _tensors(*values: Any) -> list[Any]:
    return [v for v in keras.tree.flatten(values) if isinstance(v, keras.KerasTensor)]


class MacCount(AdditiveCost):
    """The MACs of one example with some of a network's channels: `MacCount(channels)(keep)`.

    Args:
        channels: The network with its channels.
        input_shape: As for `Shapes`.
    """

    def __init__(self, channels: Channels, input_shape: tuple[int, ...] | None = None):
        shapes = Shapes(channels.network, input_shape)
        terms = [term for call in channels.network.all_calls() for term in mac_terms(call, shapes) or []]
        super().__init__([_counted(term, channels) for term in terms])


def _counted(term: Term, channels: Channels) -> CostTerm:
    first = channels.reads[term.path] if term.reads else None
    second = channels.outputs[term.path] if term.makes else None
    return CostTerm(term.path, term.factor, first, second)

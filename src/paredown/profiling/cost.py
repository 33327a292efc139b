"""What a network costs in multiply-adds, in closed form; the same forms with some channels left out.

One multiply-add is one MAC. Only work that stays at inference and is a multiply-add of a kernel counts:
BatchNormalization folds into its neighbour, pooling and element-wise work are no MACs.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras

from paredown.allocation import AdditiveCost, CostTerm
from paredown.channels import Channels
from paredown.errors import SettingError
from paredown.flows import channel_axis
from paredown.layer_rules import rule_for
from paredown.network import Call, Network
from paredown.weight_places import Place, blocks, keeps_inputs, places


@dataclass(frozen=True)
class Term:
    """`factor` MACs per combination of kept channels.

    Args:
        path: The layer.
        over: Whose channels are combined, two at most: keys of `Channels`, such as ("reads", "conv") and
            ("outputs", "conv"). The same one twice is a square: a recurrent layer's units, each of which reads all.
        channels: The number of combinations with all channels kept.
        groups: Into how many groups the pairs fall that do not meet.
    """

    path: str
    factor: int
    over: tuple[tuple[str, str], ...]
    channels: int
    groups: int = 1


def mac_terms(call: Call, shapes: "Shapes") -> list[Term] | None:
    """The MACs of one call as products: [positions · window · in · out]; None where no rule knows them."""
    rule = rule_for(call.operation)
    if rule is None:
        return None
    terms = [_term(call, place, place.at, shapes) for place in places(call) if place.is_kernel and place.at]
    products = rule.products(call, shapes.of) if rule.products else []
    return terms + [Term(call.path, *product) for product in products]


def _term(call: Call, place: Place, at: str, shapes: "Shapes") -> Term:
    """One kernel's multiply-adds at every position: [window · in · out]."""
    sizes = list(zip(place.axes, place.weight.shape, strict=True))
    window = math.prod(size for letter, size in sizes if not _over(place, letter)) * math.prod(
        max(1, blocks(letter)) for letter in place.axes
    )
    multiplier = getattr(place.owner, "depth_multiplier", 1) if "im" in place.axes else 1
    channels = math.prod(place.weight.shape) // (window * multiplier)
    factor = _positions(call, at, shapes) * window * multiplier
    over = tuple(filter(None, (_over(place, letter) for letter in place.axes)))
    return Term(call.path, factor, over, channels, 1 if keeps_inputs(place) else place.groups)


def _over(place: Place, letter: str) -> tuple[str, str] | None:
    """Whose channels an axis carries."""
    if letter in ("i", "im"):
        return None if keeps_inputs(place) else ("reads", place.reads)
    if letter == "r":
        return "outputs", place.own
    return ("outputs", place.makes) if blocks(letter) else None


def _positions(call: Call, at: str, shapes: "Shapes") -> int:
    """At how many positions of one example a kernel multiplies."""
    ends = {"output": call.outputs, "input": call.inputs}
    tensor = ends[at][0] if at in ends else _argument(call, at)
    shape = shapes.of(tensor)
    axis = channel_axis(call.operation, len(shape))
    return math.prod(size for a, size in enumerate(shape) if a not in (0, axis))


def _argument(call: Call, name: str) -> Any:
    named = call.named
    # Attention layers take the value for the key where no key is given.
    return named["value"] if name == "key" and named.get("key") is None else named[name]


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
        self._known |= {id(tensor): tuple(full.shape) for tensor, full in zip(network.inputs, given, strict=True)}

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
    places = {"reads": channels.reads, "outputs": channels.outputs}
    first, second = (*(places[side][key] for side, key in term.over), None, None)[:2]
    return CostTerm(term.path, term.factor, first, second, term.groups)

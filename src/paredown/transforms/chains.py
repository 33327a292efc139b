"""A network with chains of layers in the place of some of its layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from paredown.checks import Check, largest_difference
from paredown.factors import Chain, Piece
from paredown.narrow import masked_outputs
from paredown.network import Call, Network
from paredown.rebuild import Carry, copied, rebuild

_HALF = ("float16", "bfloat16")
#: The pieces that take a layer's place, and whether the last has a bias; None: as the layer has.
Places = Mapping[int, tuple[Sequence[Piece], bool | None]]


def with_chains(model: Any, network: Network, places: Places, carry: Carry) -> Any:
    """Builds a network anew, with a `Chain` for each layer of `places`.

    Args:
        model: The network; it is not touched.
        network: Its calls.
        places: By the layer's `id`.
        carry: `carry(call, new)` gives a new layer, or a `Chain`, its weights.
    """
    names, ends = names_of(network), {id(tensor) for tensor in network.outputs}
    last = {id(call.operation) for call in network.all_calls() if any(id(tensor) in ends for tensor in call.outputs)}

    def remake(call: Call) -> Any:
        layer = call.operation
        if id(layer) not in places:
            return copied(call)
        pieces, use_bias = places[id(layer)]
        use_bias = layer.use_bias if use_bias is None else use_bias
        # Losses, metrics and the exported file know an output by its layer's name.
        kept = layer.name if id(layer) in last else ""
        return Chain(layer, pieces, use_bias, free_name(layer.name, pieces, names), kept)

    return rebuild(model, remake, carry, opened=lambda call: holds(call, places))


def equal_to_rounding(name: str, reference: Any, model: Any, inputs: Sequence[Any]) -> Check:
    """Whether two networks give the same, to what rounding allows: in half precision what lies between two layers of a
    chain is rounded to 3 to 4 digits."""
    difference = largest_difference(*(masked_outputs(Network(m), {}, inputs) for m in (reference, model)))
    return Check(name, difference, 2e-2 if in_half(Network(model)) else 1e-4)


def in_half(network: Network) -> bool:
    """Whether anything is computed in half precision."""
    return any(getattr(call.operation, "compute_dtype", None) in _HALF for call in network.all_calls())


def names_of(network: Network) -> set[str]:
    return {call.operation.name for call in network.all_calls()}


def holds(call: Call, places: Mapping[int, Any]) -> bool:
    """Whether one of the layers stands in a custom layer."""
    return any(id(layer) in places for layer in call.operation._flatten_layers())


def free_name(name: str, pieces: Sequence[Piece], taken: set[str]) -> str:
    """The name, with as many underscores behind it as no piece's name is taken with."""
    while any(f"{name}_{piece.suffix}" in taken for piece in pieces):
        name += "_"
    taken.update(f"{name}_{piece.suffix}" for piece in pieces)
    return name

"""What factors take in LiteRT on this computer: measured before any are found, since only their shapes matter."""

import math
from collections.abc import Sequence

import keras

from paredown.factors import Candidate, Chain
from paredown.factors.options import Price, Priced
from paredown.factors.pieces import piece_of
from paredown.latency import measured_table


def host_price(candidates: Sequence[Candidate]) -> Price:
    """The milliseconds of layers and of their factors at any rank that saves MACs; infinite beyond.

    All layers, and all kinds of factors that save anything, become one network side by side; `measured_table` then
    measures each piece over a grid of ranks.

    Args:
        candidates: The layers, priced in MACs. A layer with several calls is measured at its first one's size.
    """
    inputs, outputs, fixed = [], [], {}
    for number, candidate in enumerate(candidates):
        for kind in ("", *candidate.kinds):
            rank = candidate.bound(kind) if kind else 0
            pieces = candidate.pieces(kind, rank) if rank else (piece_of(candidate.layer),)
            if kind and not rank:
                continue
            x = keras.Input(candidate.shapes[0][1:], dtype=candidate.layer.compute_dtype)
            name = _name(number, kind)
            chain = Chain(candidate.layer, pieces, candidate.use_bias, name)
            inputs.append(x)
            outputs.append(chain(x))
            fixed |= dict.fromkeys((layer.name for layer in chain.layers[1:-1]), "")
            fixed |= {chain.layers[0].name: "in", chain.layers[-1].name: "out"}
            if len(chain.layers) == 1:
                fixed[chain.layers[0].name] = "both"
    table = measured_table(keras.Model(inputs, outputs), fixed=fixed)
    numbers = {candidate.path: number for number, candidate in enumerate(candidates)}

    def price(piece: Priced) -> float:
        name = f"{_name(numbers[piece.path], piece.kind)}_{piece.suffix}"
        row = table.layers[name]
        if piece.inputs > row.channels_in[-1] or piece.outputs > row.channels_out[-1]:
            return math.inf
        return piece.calls * table.of(name, piece.inputs, piece.outputs)

    return price


def _name(number: int, kind: str) -> str:
    """Of a layer (or its factors of a kind) in the measured network, whatever their names in the user's."""
    return f"layer{number}_{kind}"

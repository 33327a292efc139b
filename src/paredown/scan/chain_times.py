"""What chains of layers take in LiteRT here, against the layers whose places they would take."""

from collections.abc import Sequence

import keras

from paredown.factors import Chain, Piece
from paredown.factors.pieces import piece_of
from paredown.latency import predict_latency
from paredown.scan.scope import Scope


def saved_ms(scope: Scope, chains: Sequence[tuple[str, Sequence[Piece]]]) -> list[float | None]:
    """Milliseconds that each chain saves: all of them side by side in one network, each operation measured alone.

    Args:
        chains: (path of a layer, the pieces that would take its place).
    """
    inputs, outputs = [], []

    def put(path: str, pieces: Sequence[Piece], name: str) -> list[str]:
        layer = scope.calls[path][0].operation
        x = keras.Input(scope.shapes.of(scope.calls[path][0].inputs[0])[1:], dtype=layer.compute_dtype)
        chain = Chain(layer, pieces, layer.use_bias, name)
        inputs.append(x)
        outputs.append(chain(x))
        return [one.name for one in chain.layers]

    own = {}
    for number, path in enumerate(dict.fromkeys(path for path, _ in chains)):
        own[path] = put(path, [piece_of(scope.calls[path][0].operation)], f"layer{number}")
    new = [put(path, pieces, f"chain{number}") for number, (path, pieces) in enumerate(chains)]
    ms = predict_latency(keras.Model(inputs, outputs)).layers()

    def of(names: Sequence[str]) -> float:
        # What the converter made nothing of takes no time.
        return sum(ms.get(name, 0.0) for name in names)

    return [len(scope.calls[path]) * (of(own[path]) - of(names)) for (path, _), names in zip(chains, new, strict=True)]

"""What can be proven of a network with substituted additive layers: the definition, term by term, on what they read.

y = f(a · Σ sign(x·w)·(|x| + |w|) + b)        written out for rows of inputs, in float64, without the layer's code
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from paredown.checks import Check, largest_difference
from paredown.narrow import fresh_states
from paredown.network import Call, Network
from paredown.patches import LinearLayer, known_shape
from paredown.transforms.chains import in_half

#: So many terms of sums are written out per layer; at least one position of one example is looked at.
_TERMS = 1 << 22
#: As many of them at once.
_AT_ONCE = 1 << 20


def proofs(model: Any, changed: Any, paths: Sequence[str], inputs: Sequence[Any]) -> tuple[Check, ...]:
    """Tries what `SubstituteAdditive` promises.

    Args:
        model, changed: The network before and after.
        paths: Of the layers that became additive.
        inputs: One array per network input, shape (a few, ...).
    """
    network = Network(changed)
    before, after = ({c.path: c.operation for c in n.all_calls() if c.is_layer} for n in (Network(model), network))
    ordinary = {path: before[path] for path in paths}
    off = max((_off_scale(layer.kernel, after[path].kernel) for path, layer in ordinary.items()), default=0.0)
    differ = sum(_differing(layer, after[path]) for path, layer in before.items() if path not in ordinary)
    half = in_half(network)
    return (
        Check("additive layers equal their definition", _largest(network, ordinary, inputs), 2e-2 if half else 1e-4),
        Check("weights are the trained ones but for one size per output", off, 1e-2 if half else 1e-5),
        Check("all other weights are as they were", float(differ), 0.0),
    )


def definition(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Σ sign(x·w)·(|x| + |w|), float64.

    Args:
        rows: Inputs, shape (p, n).
        matrix: Weights, shape (n, m).
    Returns:
        Shape (p, m).
    """
    wide = max(1, _AT_ONCE // max(1, rows.size))
    x = rows.astype("float64")[..., None]
    blocks = [matrix[:, at : at + wide].astype("float64") for at in range(0, matrix.shape[1], wide)]
    return np.concatenate([(np.sign(x * w) * (np.abs(x) + np.abs(w))).sum(1) for w in blocks], 1)


def _largest(network: Network, ordinary: Mapping[str, Any], inputs: Sequence[Any]) -> float:
    """Of all additive layers, on what each reads in the network, the largest difference from the definition."""
    worst = [0.0]

    def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
        results = call.infer(args, kwargs)
        if call.path in ordinary:
            worst.append(_difference(call, ordinary[call.path], tree.flatten((args, kwargs))[0], results[0]))
        return results

    with fresh_states(network):
        network.walk(network.cast_inputs(inputs), step)
    return max(worst)


def _difference(call: Call, ordinary: Any, x: Any, y: Any) -> float:
    """Of one layer at some positions, which the ordinary layer's settings say how to read."""
    layer, linear = call.operation, LinearLayer(ordinary)
    limit = max(1, _TERMS // int(np.prod(linear.shape)))
    x, y = x[:limit], y[:limit]
    lattice = linear.lattice(known_shape(call, x), max(1, limit // len(x)), np.random.default_rng(0))
    # In half precision the layer reads its weights rounded.
    kernel, scale, bias = (_read(weight, layer.compute_dtype) for weight in (layer.kernel, layer.scale, layer.bias))
    sums = definition(_numpy(linear.rows(x, lattice)), kernel.reshape(linear.shape)) * scale + bias
    expected = layer.activation(ops.convert_to_tensor(sums.astype("float32")))
    return largest_difference([_numpy(expected)], [_numpy(linear.outputs(y, lattice))])


def _off_scale(trained: Any, now: Any) -> float:
    """How far a kernel is from the trained one times a positive number per output, as a share of its largest weight."""
    old, new = (_numpy(kernel).reshape(-1, kernel.shape[-1]).astype("float64") for kernel in (trained, now))
    if (np.sign(old) != np.sign(new)).any():
        return float("inf")
    size = np.abs(old).max(0)
    factor = np.abs(new).max(0) / np.where(size, size, 1)
    return float((np.abs(new - factor * old).max(0) / np.where(size, factor * size, 1)).max())


def _differing(old: Any, new: Any) -> int:
    """How many numbers differ between the weights of two layers."""
    pairs = zip(old.weights, new.weights, strict=True)
    return sum(int((keras.ops.convert_to_numpy(a) != keras.ops.convert_to_numpy(b)).sum()) for a, b in pairs)


def _read(weight: Any, dtype: str) -> np.ndarray:
    return _numpy(ops.cast(weight, dtype))


def _numpy(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(ops.cast(tensor, "float32"))

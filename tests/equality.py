"""What pruning must give, worked out without paredown: masks hooked into a network's own layers."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from paredown import export_litert
from paredown.channels import Channels
from paredown.measure import LiteRTRunner
from paredown.network import Network
from paredown.profiling import MacCount, ParameterCount, profile
from paredown.transform import TransformResult
from sequence_params import PARAMS

TOLERANCE = 1e-5
#: Of the phone's runtime, whose kernels add up in another order than Keras's.
FILE_TOLERANCE = 1e-4
RECURRENT = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN, keras.layers.ConvLSTM1D)
RECURRENT += (keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)


def layer_at(model: Any, path: str) -> Any:
    """The layer behind a path such as `"encoder/conv"`."""
    for name in path.split("/"):
        if hasattr(model, "get_layer"):
            model = model.get_layer(name)
        else:
            found = [x for x in model._flatten_layers(include_self=False, recursive=False) if x.name == name]
            if not found:
                raise ValueError(f"{model.name} holds no {name}")
            (model,) = found
    return model


def run(model: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The network's outputs at inference, flat and in order; stateful layers start from zero."""
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            layer.reset_state()
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    packed = keras.tree.pack_sequence_as(structure, list(inputs))
    return [keras.ops.convert_to_numpy(y).astype("float32") for y in keras.tree.flatten(model(packed, training=False))]


@contextlib.contextmanager
def masked(model: Any, removed: dict[str, np.ndarray], inside: dict[str, np.ndarray] | None = None) -> Iterator[None]:
    """Within the block the layers of `removed` give zero in these channels, by their axis (mostly the last).

    What a layer itself reads of its removed channels is zero too: the rows of a recurrent kernel, and, for what
    is `inside` layers, the heads' slices of an output projection.
    """
    hooked, silenced = [], []
    for path, indices in removed.items():
        layer = layer_at(model, path)
        original = layer.call
        hooked.append((layer, original))
        layer.call = _masking(layer, original, indices)
        if isinstance(layer, RECURRENT):
            silenced += _silence(layer.cell.recurrent_kernel, indices)
    for key, indices in (inside or {}).items():
        path, _, name = key.rpartition("/")
        layer = layer_at(model, path)
        if name == "heads":
            silenced += _silence(layer._output_dense.kernel, indices, axis=0)
        elif name == "units":
            silenced += _silence(layer.forward_layer.cell.recurrent_kernel, indices)
            silenced += _silence(layer.backward_layer.cell.recurrent_kernel, indices)
            both = [*indices, *(indices + layer.forward_layer.units)]
            assert np.array_equal(removed[path], both if layer.merge_mode == "concat" else indices)
        else:
            assert name == "key_value_heads"
            shared = layer.num_query_heads // layer.num_key_value_heads
            assert set(inside[f"{path}/heads"]) == {shared * i + k for i in indices for k in range(shared)}
    try:
        yield
    finally:
        for layer, original in hooked:
            layer.call = original
        for weight, value in silenced:
            weight.assign(value)


def _silence(weight: Any, rows: np.ndarray, axis: int = -2) -> list[tuple[Any, np.ndarray]]:
    """Zeroes rows of a weight; returns it with its former value."""
    before = np.array(keras.ops.convert_to_numpy(weight))
    after = before.copy()
    np.moveaxis(after, axis, 0)[rows] = 0
    weight.assign(after)
    return [(weight, before)]


def _masking(layer: Any, original: Any, indices: np.ndarray) -> Any:
    inner = layer.layer if _is_distributed(layer) else layer
    axis = inner.axis if isinstance(inner, keras.layers.BatchNormalization) else -1

    def zeroed(y: Any, gone: np.ndarray) -> Any:
        mask = np.ones([size if a == axis % len(y.shape) else 1 for a, size in enumerate(y.shape)], "float32")
        np.moveaxis(mask, axis, 0)[gone] = 0
        return y * keras.ops.cast(mask, y.dtype)

    def call(*args, **kwargs):
        y = original(*args, **kwargs)
        if not isinstance(y, tuple | list):
            return zeroed(y, indices)
        if isinstance(layer, RECURRENT):
            return [zeroed(state, indices) for state in y]
        if isinstance(layer, keras.layers.Bidirectional):
            units = layer.forward_layer.units
            return [zeroed(y[0], indices), *(zeroed(state, indices[indices < units]) for state in y[1:])]
        return [zeroed(y[0], indices), *y[1:]]

    return call


def difference(reference: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Largest |reference - other| as a share of the reference's range."""
    worst = 0.0
    assert len(reference) == len(other)
    for a, b in zip(reference, other, strict=True):
        assert a.shape == b.shape
        assert np.isfinite(a).all()
        assert np.isfinite(b).all()
        worst = max(worst, float(np.abs(a - b).max() / max(np.ptp(a), 1e-3 * np.abs(a).max(), 1e-12)))
    return worst


def assert_pruned_equals_masked(
    model: Any, result: TransformResult, inputs: list[np.ndarray], tolerance: float = TOLERANCE
) -> None:
    with masked(model, result.removed, result.inside):
        expected = run(model, inputs)
    assert difference(expected, run(result.model, inputs)) <= tolerance


def assert_file_equals_masked(model: Any, result: TransformResult, inputs: list[np.ndarray], path: Path) -> None:
    """The exported pruned file, written to `path`, gives in LiteRT what the masked network gives in Keras."""
    with masked(model, result.removed, result.inside):
        expected = run(model, inputs)
    export_litert(result.model, path)
    outputs = LiteRTRunner(path).run(tuple(inputs))
    assert sum(len(indices) for indices in result.removed.values()) > 0
    assert max(np.ptp(y) for y in expected) > 0
    assert difference(expected, outputs) <= FILE_TOLERANCE


def assert_counts_fit(
    model: Any, result: TransformResult, input_shape: tuple | None = None, channels: Channels | None = None
) -> None:
    """Widths, parameters and MACs of the result are those that the removed channels predict."""
    channels = channels or Channels(model)
    keep = np.ones(channels.count, bool)
    gone = {**result.removed, **result.inside}
    assert not set(result.removed) & set(result.inside)
    for path, indices in gone.items():
        keep[channels.outputs[path][indices]] = False
    for path, components in channels.outputs.items():
        assert np.array_equal(np.flatnonzero(~keep[components]), gone.get(path, []))
    assert profile(result.model, input_shape).macs == MacCount(channels, input_shape)(keep)
    assert result.model.count_params() == expected_params(model, channels, keep) == ParameterCount(channels)(keep)


def expected_params(model: Any, channels: Channels, keep: np.ndarray) -> int:
    """Parameters with some channels gone: each weight's size times the share that is left along its axes."""
    total = 0
    left_in, left_out = (
        {key: int(keep[c].sum()) for key, c in places.items()} for places in (channels.reads, channels.outputs)
    )
    for path in {call.path for call in channels.network.all_calls()}:
        layer = layer_at(model, path) if has_layer(model, path) else None
        kind = type(getattr(layer, "layer", layer)).__name__ if _is_distributed(layer) else type(layer).__name__
        if kind in PARAMS and any(key == path or key.startswith(f"{path}/") for key in left_in):
            total += PARAMS[kind](layer, path, left_in, left_out)
            continue
        for weight in getattr(layer, "weights", []):
            size = math.prod(weight.shape)
            if path not in channels.reads and path not in channels.outputs:
                total += size
                continue
            into = keep[channels.reads[path]] if path in channels.reads else np.ones(1, bool)
            out = keep[channels.outputs[path]] if path in channels.outputs else np.ones(1, bool)
            if weight.name == "kernel" and getattr(layer, "groups", 1) > 1:
                total += _left_in_groups(tuple(weight.shape), layer.groups, into, out)
            else:
                total += _left(kind, weight.name, tuple(weight.shape), size, into, out)
    return total


def _is_distributed(layer: Any) -> bool:
    return isinstance(layer, keras.layers.TimeDistributed)


def _left_in_groups(shape: tuple, groups: int, into: np.ndarray, out: np.ndarray) -> int:
    """A grouped kernel's size: all pairs of channels that are left within one group."""
    pairs = into.reshape(groups, -1).sum(1) * out.reshape(groups, -1).sum(1)
    return math.prod(shape[:-2]) * int(pairs.sum())


def _left(kind: str, name: str, shape: tuple, size: int, into: np.ndarray, out: np.ndarray) -> int:
    if kind.startswith("Depthwise"):
        return size // (out.size if name == "bias" else into.size) * int((out if name == "bias" else into).sum())
    if kind.startswith("Separable") and name == "depthwise_kernel":
        return size // into.size * int(into.sum())
    if kind == "PReLU":
        return size // into.size * int(into.sum()) if shape[-1] == into.size else size
    if kind == "BatchNormalization":
        return int(into.sum())
    if name == "bias" or (kind in ("Gained", "AdditiveDense", "AdditiveConv2D") and len(shape) == 1):
        return int(out.sum())
    if name.endswith("kernel") and (into.size > 1 or out.size > 1) and into.all() and out.all():
        return size
    if name.endswith("kernel") and size % (into.size * out.size) == 0:
        return size // (into.size * out.size) * int(into.sum()) * int(out.sum())
    if name == "embeddings":
        return size // out.size * int(out.sum())
    return size


def has_layer(model: Any, path: str) -> bool:
    try:
        layer_at(model, path)
    except ValueError:
        return False
    return True


def assert_nothing_silent(model: Any, result: TransformResult) -> None:
    """Every layer with weights lost channels, or a skip says why not."""
    named = {skip.layer for skip in result.skips} | set(result.removed)
    silent = [
        call.path
        for call in Network(model).all_calls()
        if getattr(call.operation, "weights", None) and call.path not in named
    ]
    assert not silent


def assert_groups_partition(channels: Channels) -> None:
    """Every prunable output channel of every layer is in exactly one group, at the index that the group names."""
    seen = {path: np.zeros(len(components), int) for path, components in channels.outputs.items()}
    for group in channels.groups:
        assert len(np.unique(group.components)) == group.size
        for path, indices in group.outputs.items():
            assert indices.shape[0] == group.size
            assert (channels.outputs[path][indices] == group.components[:, None]).all()
            np.add.at(seen[path], indices.ravel(), 1)
        for path, indices in group.inputs.items():
            assert (channels.reads[path][indices] == group.components[:, None]).all()
    for path, components in channels.outputs.items():
        assert np.array_equal(seen[path], channels.prunable[components].astype(int))

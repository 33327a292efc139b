"""What pruning must give, worked out without paredown: masks hooked into a network's own layers."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from paredown.channels import Channels
from paredown.profiling import MacCount, profile
from paredown.transform import TransformResult

TOLERANCE = 1e-5


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
    """The network's outputs at inference, flat and in order."""
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    packed = keras.tree.pack_sequence_as(structure, list(inputs))
    return [keras.ops.convert_to_numpy(y).astype("float32") for y in keras.tree.flatten(model(packed, training=False))]


@contextlib.contextmanager
def masked(model: Any, removed: dict[str, np.ndarray]) -> Iterator[None]:
    """Within the block the layers of `removed` give zero in these channels, by their axis (mostly the last)."""
    hooked = []
    for path, indices in removed.items():
        layer = layer_at(model, path)
        original = layer.call
        axis = layer.axis if isinstance(layer, keras.layers.BatchNormalization) else -1

        def call(*args, original=original, axis=axis, indices=indices, **kwargs):
            y = original(*args, **kwargs)
            mask = np.ones([size if a == axis % len(y.shape) else 1 for a, size in enumerate(y.shape)], "float32")
            np.moveaxis(mask, axis, 0)[indices] = 0
            return y * keras.ops.cast(mask, y.dtype)

        layer.call = call
        hooked.append((layer, original))
    try:
        yield
    finally:
        for layer, original in hooked:
            layer.call = original


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
    with masked(model, result.removed):
        expected = run(model, inputs)
    assert difference(expected, run(result.model, inputs)) <= tolerance


def assert_counts_fit(model: Any, result: TransformResult, input_shape: tuple | None = None) -> None:
    """Widths, parameters and MACs of the result are those that the removed channels predict."""
    channels = Channels(model)
    keep = np.ones(channels.count, bool)
    for path, indices in result.removed.items():
        keep[channels.outputs[path][indices]] = False
    for path, components in channels.outputs.items():
        assert np.array_equal(np.flatnonzero(~keep[components]), result.removed.get(path, []))
    assert profile(result.model, input_shape).macs == MacCount(channels, input_shape)(keep)
    assert result.model.count_params() == expected_params(model, channels, keep)


def expected_params(model: Any, channels: Channels, keep: np.ndarray) -> int:
    """Parameters with some channels gone: each weight's size times the share that is left along its axes."""
    total = 0
    for path in {call.path for call in channels.network.all_calls()}:
        layer = layer_at(model, path) if has_layer(model, path) else None
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
                total += _left(type(layer).__name__, weight.name, tuple(weight.shape), size, into, out)
    return total


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
    if name == "bias" or (kind == "Gained" and len(shape) == 1):
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
        for call in Channels(model).network.all_calls()
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

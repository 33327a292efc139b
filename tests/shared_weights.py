"""Networks whose kernels share few values, made by hand, and their files."""

from pathlib import Path

import keras
import numpy as np
from keras import layers

from paredown.packed.editor import Editor, Kernel

#: Keras's layout of a kernel -> the file's.
TO_FILE = {
    "conv": (3, 0, 1, 2),
    "depthwise": (3, 0, 1, 2),
    "pointwise": (3, 0, 1, 2),
    "transposed": (2, 0, 1, 3),
    "dense": (1, 0),
}
#: Layer -> (output channels, weights of each), large enough to be worth packing at every width.
SHAPES = {
    "conv": (64, 9 * 8),
    "depthwise": (64, 7 * 7),
    "pointwise": (48, 64),
    "transposed": (16, 9 * 48),
    "dense": (100, 16),
}


def four_kinds() -> keras.Model:
    """One layer of each kind whose kernel is packed, named after it; and a pointwise one."""
    return keras.Sequential(
        [
            keras.Input((10, 10, 8)),
            layers.Conv2D(64, 3, activation="relu", name="conv"),
            layers.DepthwiseConv2D(7, padding="same", name="depthwise"),
            layers.Conv2D(48, 1, activation="relu6", name="pointwise"),
            layers.Conv2DTranspose(16, 3, strides=2, name="transposed"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(100, name="dense"),
        ]
    )


def normalized(k: int, channels: int = 32) -> keras.Model:
    """Convolutions with shared weights; BatchNormalization that folds into them has scales of both signs."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((9, 9, 8)),
            layers.Conv2D(channels, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.DepthwiseConv2D(5, padding="same", name="depthwise"),
            layers.BatchNormalization(),
            layers.Conv2D(48, 1, use_bias=False, name="pointwise"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(70, name="scores"),
        ]
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma = rng.uniform(0.5, 1.5, layer.gamma.shape) * rng.choice([-1, 1, 1], layer.gamma.shape)
            layer.set_weights([gamma, *(rng.uniform(0.1, 1, layer.gamma.shape) for _ in range(3))])
        elif hasattr(layer, "kernel"):
            layer.kernel.assign(clustered(layer.kernel.shape, codebook(k, rng), rng))
    return model


def codebook(k: int, rng: np.random.Generator, step: float | None = None) -> np.ndarray:
    """k different values of a bell curve, float32; whole multiples of `step` up to 127 times, where it is given."""
    if step is None:
        return np.float32(rng.normal(0, 0.1, k))
    return np.float32(step) * np.float32(rng.choice(np.arange(-127, 128), min(k, 255), replace=False))


def clustered(shape, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A kernel of those values alone, each of them in it where there is room."""
    places = np.concatenate([np.arange(len(values)), rng.integers(0, len(values), int(np.prod(shape)))])
    return values[rng.permutation(places[: int(np.prod(shape))])].reshape(shape)


def written(content: bytes, kernels: dict[str, np.ndarray]) -> bytes:
    """A file of `four_kinds` with other kernels: Keras's, by layer."""
    editor = Editor(content)
    for kernel in editor.kernels()[0]:
        layer = layer_of(kernel)
        data = np.ascontiguousarray(kernels[layer].transpose(TO_FILE[layer]).reshape(kernel.values.shape))
        buffer = editor.graph.tensors[kernel.index].buffer
        editor.model.buffers[buffer].data = np.frombuffer(data.tobytes(), np.uint8)
    return editor.content()


def layer_of(kernel: Kernel) -> str:
    return {
        "CONV_2D": "pointwise" if kernel.values.shape[1] == 1 else "conv",
        "DEPTHWISE_CONV_2D": "depthwise",
        "TRANSPOSE_CONV": "transposed",
        "FULLY_CONNECTED": "dense",
    }[kernel.kind]


def packed_files(folder: Path) -> dict[str, Path]:
    """A network's plain file and its packed ones, by form; five bits, on a grid, so that all give the same."""
    from paredown.export import export_litert
    from paredown.packed import FORMS, pack_litert

    rng = np.random.default_rng(0)
    model = four_kinds()
    for name in TO_FILE:
        kernel = model.get_layer(name).kernel
        kernel.assign(clustered(kernel.shape, codebook(32, rng, 0.001), rng))
    plain = export_litert(model, folder / "plain.tflite").path
    for form in FORMS:
        pack_litert(plain, folder / f"{form}.tflite", form)
    return {"plain": plain, **{form: folder / f"{form}.tflite" for form in FORMS}}

"""SqueezeNet as Deep Compression's authors published it: a third of the weights, 256 values for each layer's.

The file has, little-endian: for each layer the number of its entries (32 bits); then layer by layer the codebook (256
float32, the first of them 0), the biases (float32), one byte for each entry (which value), and half a byte for each,
the low one first (how many zeros lie before it). Where more zeros follow one another than half a byte can say, an entry
of value 0 stands between. Kernels lie as Caffe has them: [outputs, inputs, height, width]; blue, green, red.

Sources: Iandola et al. 2016, arXiv:1602.07360 (the network); Han et al. 2016, arXiv:1510.00149, section 3 (the
storage).
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paredown.errors import ModelError

SIZE = 227
#: Module -> channels that it squeezes to, and gives on each of its two branches.
_FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}
#: Modules behind which the image is halved.
_HALVED = (4, 8)
_VALUES = 256
#: Mean of the training images: red, green, blue.
_MEAN = (122.679, 116.669, 104.007)


def network(path: Path) -> Any:
    """The network with the file's weights.

    Args:
        path: Of `compressed_SqueezeNet.net`.
    Returns:
        A Functional model: images, shape (n, 227, 227, 3), red, green, blue, 0..255, to class probabilities (n, 1000).
    Raises:
        ModelError: If the file is not what it should be.
    """
    model = _architecture()
    layers = [layer for layer in model.layers if hasattr(layer, "kernel")]
    for layer, (kernel, bias) in zip(layers, _read(path, [layer.kernel.shape for layer in layers]), strict=True):
        layer.set_weights([kernel[:, :, ::-1] if layer.name == "conv1" else kernel, bias])
    return model


def _architecture() -> Any:
    import keras
    from keras import layers

    def convolution(x: Any, filters: int, window: int, name: str, padding: str = "same", strides: int = 1) -> Any:
        return layers.Conv2D(filters, window, strides, padding, activation="relu", name=name)(x)

    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(1.0, [-value for value in _MEAN], name="mean")(image)
    x = convolution(x, 96, 7, "conv1", "valid", 2)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    for number, (squeezed, given) in _FIRES.items():
        x = convolution(x, squeezed, 1, f"fire{number}_squeeze")
        sides = [convolution(x, given, window, f"fire{number}_{window}x{window}") for window in (1, 3)]
        x = layers.Concatenate(name=f"fire{number}")(sides)
        if number in _HALVED:
            x = layers.MaxPooling2D(3, 2, name=f"pool{number}")(x)
    # Caffe's padding of this 1 × 1 convolution lets the biases alone into the mean, as the authors' network does.
    x = layers.ZeroPadding2D(1, name="pad_final")(x)
    x = convolution(x, 1000, 1, "conv_final", "valid")
    x = layers.GlobalAveragePooling2D(name="pool_final")(x)
    return keras.Model(image, layers.Softmax(name="classes")(x), name="squeezenet")


def _read(path: Path, shapes: list[tuple[int, ...]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(kernel, bias) of each layer, as Keras has them."""
    content = path.read_bytes()
    entries = np.frombuffer(content, "<u4", len(shapes)).tolist()
    whole = 4 * len(shapes) + sum(
        4 * (_VALUES + shape[-1]) + count + (count + 1) // 2 for shape, count in zip(shapes, entries, strict=True)
    )
    if len(content) != whole:
        raise ModelError(
            f"A compressed SqueezeNet must be as long as its {len(shapes)} layers' entries say. Received: {path} with "
            f"{len(content):,} bytes, not {whole:,}. Fetch the file anew."
        )
    at = 4 * len(shapes)

    def taken(kind: str, count: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(content, kind, count, at)
        at += found.nbytes
        return found

    for (height, width, inputs, outputs), count in zip(shapes, entries, strict=True):
        values, bias = taken("<f4", _VALUES), taken("<f4", outputs)
        codes, halves = taken("u1", count), taken("u1", (count + 1) // 2)
        gaps = np.stack([halves & 15, halves >> 4], -1).ravel()[:count].astype(int)
        weights = np.zeros(math.prod((height, width, inputs, outputs)), "float32")
        weights[np.cumsum(gaps + 1) - 1] = values[codes]
        yield weights.reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0), bias

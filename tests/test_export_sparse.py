"""Sparse storage: the same numbers from a smaller file, and a word where zeros are stored all the same."""

import keras
import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from keras import layers

from network_parts import randomize
from paredown import PruneWeights, export_litert
from paredown.errors import SettingError
from paredown.measure.litert_runner import LiteRTRunner


def small():
    image = keras.Input((8, 8, 8))
    x = layers.Conv2D(16, 1, activation="relu", name="pointwise")(image)
    x = layers.Conv2D(16, 3, activation="relu", name="window")(x)
    x = layers.Conv2DTranspose(8, 3, name="up")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomize(keras.Model(image, layers.Dense(64, name="scores")(layers.Dense(64, name="hidden")(x))))


@pytest.mark.parametrize("pattern", ["unstructured", "block 4"])
def test_the_numbers_stay_and_the_file_shrinks(pattern, tmp_path):
    model = PruneWeights(sparsity=0.75, pattern=pattern)(small()).model
    full = export_litert(model, tmp_path / "full.tflite")
    sparse = export_litert(model, tmp_path / "sparse.tflite", sparse=True)
    assert sparse.checks[0].passed
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 8)).astype("float32")
    (a,), (b,) = (LiteRTRunner(each.path).run(x) for each in (full, sparse))
    np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    # Three quarters of the 4-byte weights of these layers go; an index takes up to as much as the weight that stays.
    kernels = [model.get_layer(name).kernel for name in ("window", "hidden", "scores")]
    gone = sum(4 * int((np.asarray(kernel) == 0).sum()) for kernel in kernels)
    assert full.size_bytes - sparse.size_bytes > 0.5 * gone


@pytest.mark.parametrize(("sparsity", "stored"), [(0.1, 0), (0.75, 5)])
def test_kernels_are_stored_sparse_once_enough_of_them_is_zero(sparsity, stored, tmp_path):
    model = PruneWeights(sparsity=sparsity)(small()).model
    path = export_litert(model, tmp_path / "a.tflite", sparse=True).path
    tensors = flatbuffer_utils.read_model(str(path)).subgraphs[0].tensors
    assert sum(tensor.sparsity is not None for tensor in tensors) == stored


@pytest.mark.parametrize("chosen", ["float16", "dynamic", "int8", "int4"])
def test_quantized_files_are_refused(chosen, tmp_path):
    from paredown import Data

    with pytest.raises(SettingError, match=f"Received: sparse=True with quantization='{chosen}'"):
        export_litert(small(), tmp_path / "a.tflite", chosen, Data(np.zeros((2, 8, 8, 8), "float32")), sparse=True)
    assert list(tmp_path.iterdir()) == []

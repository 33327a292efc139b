"""Pruned equals masked in the phone's runtime: the exported pruned file against the masked original in Keras."""

import keras
import numpy as np
import pytest
from keras import applications, layers

from equality import difference, masked, run
from networks import NETWORKS, examples, randomize
from paredown import PruneChannels, export_litert
from paredown.measure import LiteRTRunner

PRUNE = PruneChannels(criterion="l1_norm", sparsity=0.3)


def _application(name, size):
    build = getattr(applications, name)
    return lambda: build(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)


def _vgg16():
    """With its flattening, and without the two layers of 4096 units, which would take most of the time to draw."""
    body = applications.VGG16(weights=None, input_shape=(64, 64, 3), include_top=False)
    x = layers.Dense(16, activation="relu")(layers.Flatten()(body.output))
    return keras.Model(body.input, layers.Dense(10)(x))


CASES = {
    "ResNet50": _application("ResNet50", 32),
    "MobileNetV2": _application("MobileNetV2", 32),
    "MobileNetV3Small": _application("MobileNetV3Small", 32),
    "InceptionV3": _application("InceptionV3", 75),
    "DenseNet121": _application("DenseNet121", 32),
    "EfficientNetB0": _application("EfficientNetB0", 32),
    "VGG16": _vgg16,
    **{name: NETWORKS[name] for name in ("autoencoder", "resnext", "shufflenet", "composite", "own_rows", "additive")},
    **{name: NETWORKS[name] for name in ("recurrent_masked", "bidirectional_merged", "encoder_decoder")},
    **{name: NETWORKS[name] for name in ("video", "transformer_pre_norm", "transformer_post_norm", "grouped_query")},
}


@pytest.mark.parametrize("name", CASES)
def test_the_pruned_file_equals_the_masked_network(name, tmp_path):
    keras.utils.clear_session()
    model = randomize(CASES[name]())
    inputs = examples(model, 3)
    result = PRUNE(model)
    with masked(model, result.removed, result.inside):
        expected = run(model, inputs)
    export_litert(result.model, tmp_path / "pruned.tflite")
    outputs = LiteRTRunner(tmp_path / "pruned.tflite").run(tuple(inputs))
    assert sum(len(indices) for indices in result.removed.values()) > 0
    assert max(np.ptp(y) for y in expected) > 0
    assert difference(expected, outputs) <= 1e-4

"""Pruned equals masked over keras.applications, and the cost figures that everybody knows."""

import keras
import numpy as np
import pytest

from equality import (
    assert_counts_fit,
    assert_file_equals_masked,
    assert_groups_partition,
    assert_nothing_silent,
    difference,
    masked,
    run,
)
from networks import examples, randomize
from paredown import layer_rules
from paredown.channels import Channels
from paredown.profiling import profile
from paredown.transforms.prune_channels import PruneChannels

#: Input size in pixels: the smallest that the network takes, or near it.
SIZES = {
    "ResNet50": 32,
    "ResNet50V2": 32,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "MobileNetV3Large": 32,
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "VGG16": 32,
    "VGG19": 32,
    "Xception": 71,
    "NASNetMobile": 32,
    "ConvNeXtTiny": 32,
}
#: Those whose pruned files are run in LiteRT, too; `test_litert_equality` has VGG16 with its flattening.
EXPORTED = {"ResNet50", "MobileNetV2", "MobileNetV3Small", "InceptionV3", "DenseNet121", "EfficientNetB0"}


def _built(name: str, size: int):
    keras.utils.clear_session()
    kwargs = {"weights": None, "input_shape": (size, size, 3), "classes": 10}
    if name.startswith("VGG"):  # its two layers of 4096 units would take a minute to draw
        kwargs |= {"include_top": False, "pooling": "avg"}
    if "include_top" not in kwargs:
        kwargs["classifier_activation"] = None
    return getattr(keras.applications, name)(**kwargs)


@pytest.mark.parametrize("name", SIZES)
def test_pruned_equals_masked(name, tmp_path):
    model = randomize(_built(name, SIZES[name]))
    inputs = [np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")]
    result = PruneChannels(criterion="random", sparsity=0.3)(model)
    assert result.removed
    with masked(model, result.removed):
        expected = run(model, inputs)
    assert difference(expected, run(result.model, inputs)) <= 1e-5
    assert_counts_fit(model, result)
    assert_nothing_silent(model, result)
    channels = Channels(model)
    assert_groups_partition(channels)
    assert_nothing_pinned_without_need(channels, LEAST_REMOVABLE.get(name, 0.99))
    if name in EXPORTED:
        assert_file_equals_masked(model, result, examples(model, 3), tmp_path / "pruned.tflite")


#: Share of all channels of layers with weights that can go, where it is less than nearly all.
LEAST_REMOVABLE = {
    "VGG16": 0.87,  # the last block is the output here
    "VGG19": 0.9,
    "ConvNeXtTiny": 0.54,  # LayerNormalization holds the residual streams; the four times wider layers can go
}


def assert_nothing_pinned_without_need(channels, least):
    removable = {path: channels.prunable[components] for path, components in channels.outputs.items()}
    share = sum(kept.sum() for kept in removable.values()) / sum(kept.size for kept in removable.values())
    assert share >= least
    assert set(channels.barriers.values()) <= {layer_rules.TOGETHER, layer_rules.INPUT_STATISTICS}
    wide = [path for path in removable if path.endswith("_pointwise_conv_1")]
    assert all(removable[path].all() for path in wide)


@pytest.mark.parametrize(("name", "macs"), [("ResNet50", 3.86e9), ("VGG16", 15.47e9), ("MobileNetV2", 0.30e9)])
def test_multiply_adds_at_full_size(name, macs):
    keras.utils.clear_session()
    model = getattr(keras.applications, name)(weights=None)
    assert profile(model).macs == pytest.approx(macs, rel=0.01)
    assert profile(model).params == model.count_params()
    assert profile(model).unknown == []

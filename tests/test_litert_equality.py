"""Pruned equals masked in the phone's runtime: the exported pruned file against the masked original in Keras.

So do most of the known networks in `test_applications`, which are built and pruned there anyhow.
"""

import keras
import pytest
from keras import applications, layers

from equality import assert_file_equals_masked
from networks import NETWORKS, examples, randomize
from paredown import PruneChannels

PRUNE = PruneChannels(criterion="l1_norm", sparsity=0.3)


def _vgg16():
    """With its flattening, and without the two layers of 4096 units, which would take most of the time to draw."""
    body = applications.VGG16(weights=None, input_shape=(64, 64, 3), include_top=False)
    x = layers.Dense(16, activation="relu")(layers.Flatten()(body.output))
    return keras.Model(body.input, layers.Dense(10)(x))


CASES = {
    "VGG16": _vgg16,
    **{name: NETWORKS[name] for name in ("autoencoder", "resnext", "shufflenet", "composite", "own_rows", "additive")},
    **{name: NETWORKS[name] for name in ("recurrent_masked", "bidirectional_merged", "encoder_decoder")},
    **{name: NETWORKS[name] for name in ("video", "transformer_pre_norm", "transformer_post_norm", "grouped_query")},
}


@pytest.mark.parametrize("name", CASES)
def test_the_pruned_file_equals_the_masked_network(name, tmp_path):
    keras.utils.clear_session()
    model = randomize(CASES[name]())
    assert_file_equals_masked(model, PRUNE(model), examples(model, 3), tmp_path / "pruned.tflite")

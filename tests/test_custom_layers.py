"""Custom layers: what is looked into, what becomes of it, and rows of one's own."""

import keras
import numpy as np
import pytest
from keras import layers

from equality import assert_pruned_equals_masked
from networks import NETWORKS, examples, image, randomize
from networks_custom import Block
from paredown import Data, FineTune, PruneChannels, Rule, register_layer_rule, rules
from paredown.channels import Channels
from paredown.errors import SettingError


def test_a_layer_that_loses_channels_becomes_a_nested_model_and_others_stay_what_they_are():
    model = randomize(NETWORKS["composite"]())
    inside = {"twice/first", "twice/norm"}
    held = tuple(path for path in Channels(model).outputs if path not in inside)
    result = PruneChannels(criterion="random", sparsity=0.4, exclude=held)(model)
    assert set(result.removed) == inside
    assert type(result.model.get_layer("block")) is Block
    assert isinstance(result.model.get_layer("twice"), keras.Model)
    assert result.model.get_layer("twice").get_layer("first").filters == 4
    assert_pruned_equals_masked(model, result, examples(model))


def test_looking_into_a_layer_leaves_nothing_behind():
    model = NETWORKS["composite_in_composite"]()
    sublayers = [sub for layer in model.layers for sub in layer._flatten_layers()]
    before = [(len(sub._inbound_nodes), len(sub._outbound_nodes)) for sub in sublayers]
    Channels(model)
    assert before == [(len(sub._inbound_nodes), len(sub._outbound_nodes)) for sub in sublayers]


def test_what_is_not_looked_into_says_why():
    barriers = Channels(NETWORKS["not_looked_into"]()).barriers
    assert barriers["uneven"] == (
        "no rule for Uneven, and its call does other work in training: its neighbours must stay"
    )
    assert "no rule for Looking, and its call cannot be traced (AttributeError: 'KerasTensor'" in barriers["looking"]


def test_a_layer_that_is_called_on_two_sizes_stays_whole():
    i = image()
    block = Block(6, name="block")
    x = layers.Conv2D(8, 1)(i)
    x = layers.GlobalAveragePooling2D()(layers.Concatenate(1)([block(x), block(x[:, 1:])]))
    barriers = Channels(keras.Model(i, layers.Dense(2)(x))).barriers
    assert "it is called on tensors of several shapes" in barriers["block"]


def test_a_network_with_custom_layers_is_trained():
    model = randomize(NETWORKS["composite"]())
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")
    data = Data(train=x)
    result = FineTune(epochs=1, batch_size=8)(model, data)
    before, after = (m.get_layer("block").first.kernel for m in (model, result.model))
    assert not np.array_equal(before, after)


class Own(layers.Layer):
    pass


@pytest.mark.parametrize(
    ("layer_class", "rule", "message"),
    [
        ("Own", Rule(rules.keep), r"a subclass of keras\.layers\.Layer\. Received: 'Own'"),
        (layers.Dense, Rule(rules.keep), r"a class of your own\. Received: Dense of Keras"),
        (Own, rules.keep, r"must be a paredown\.rules\.Rule with a flow\. Received: <function keep .* for Own"),
        (Own, Rule(rules.make, {"kernel": "x y"}), r"Received: kernel='x y' for Own"),
        (Own, Rule(rules.make, macs_at="here"), r"Received: macs_at='here' for Own"),  # type: ignore
    ],
)
def test_rows_that_cannot_be(layer_class, rule, message):
    with pytest.raises(SettingError, match=message):
        register_layer_rule(layer_class, rule)

"""FineTune's features: what is matched where, how it is weighed, and that it is learned."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from networks import randomize
from paredown import Recipe
from paredown.data import Data
from paredown.errors import ModelError, SettingError
from paredown.network import Network
from paredown.transforms.features import Features, Seeing, counterparts, outputs_of
from paredown.transforms.fine_tune import FineTune

MATCH = FineTune(
    epochs=20, batch_size=16, learning_rate=0.01, features="auto", feature_weight=1.0, frozen_statistics=True
)
BATCH_STATISTICS = {"frozen_statistics": False, "patience": 40, "epochs": 40}
ONE_STEP = dataclasses.replace(MATCH, epochs=1, batch_size=32, optimizer="sgd")


def network(seed=0, width=4, strides=1):
    """A convolution, a nested model that is called twice, a residual sum and a 1x1 convolution with strides."""
    i = keras.Input((6, 6, 3), name="image")
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(layers.Conv2D(width, 3, name="conv")(i)))
    inner = keras.Input((4, 4, width), name="inner")
    y = layers.Conv2D(width, 3, padding="same", activation="relu", name="conv")(inner)
    block = keras.Model(inner, layers.BatchNormalization(name="norm")(y), name="block")
    x = layers.Add(name="add")([block(block(x)), x])
    x = layers.Conv2D(5, 1, strides=strides, name="narrow")(x)
    x = layers.Dense(3, activation="softmax", name="scores")(layers.GlobalAveragePooling2D(name="pool")(x))
    return randomize(keras.Model(i, x, name="net"), seed)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return Data((rng.normal(size=(32, 6, 6, 3)).astype("float32"), rng.integers(0, 3, 32)))


def weights(model):
    return [np.array(w) for w in model.weights]


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


AUTO = ["norm", "relu", "block/conv", "block/norm", "add"]


# The figure.


def test_the_loss_holds_the_relative_distance(data):
    model, teacher = network(1), network(2)
    tune = dataclasses.replace(ONE_STEP, features=("relu", "add"), feature_weight=0.25)
    plain = dataclasses.replace(tune, features=(), feature_weight=0.0)
    for some in (data, Data(data.train.x)):
        log, without = (t(model, some, teacher=teacher).log for t in (tune, plain))
        expected = []
        for name in ("relu", "add"):
            seen = [keras.Model(m.inputs, m.get_layer(name).output).predict(data.train.x[:], verbose=0)
                    for m in (model, teacher)]  # fmt: skip
            expected.append(np.square(seen[0] - seen[1]).mean() / seen[1].var())
        assert log["features"] == {"relu": "relu", "add": "add"}
        assert log["history"]["feature_loss"] == pytest.approx([np.mean(expected)], rel=1e-4)
        more = log["history"]["loss"][0] - without["history"]["loss"][0]
        assert more == pytest.approx(0.25 * np.mean(expected), rel=1e-3)


def test_where_the_teacher_is_constant_the_difference_counts_as_it_is(data):
    model, teacher = network(1), network(2)
    teacher.get_layer("norm").gamma.assign(np.zeros(4))
    teacher.get_layer("norm").beta.assign(np.full(4, 0.5))
    log = dataclasses.replace(ONE_STEP, features=("relu",))(model, data, teacher=teacher).log
    seen = keras.Model(model.inputs, model.get_layer("relu").output).predict(data.train.x[:], verbose=0)
    assert log["history"]["feature_loss"] == pytest.approx([np.square(seen - 0.5).mean()], rel=1e-4)


# What is learned.


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("settings", [{}, {"teacher_weight": 0.5}, BATCH_STATISTICS])
def test_the_feature_loss_falls(data, labelled, settings):
    model, teacher = network(1, strides=2), network(2, strides=2)
    before, told = weights(model), weights(teacher)
    some = data if labelled else Data(data.train.x)
    result = dataclasses.replace(MATCH, **settings)(model, some, teacher=teacher)
    losses = result.log["history"]["feature_loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert ("val_feature_loss" in result.log["history"]) == ("patience" in settings)
    assert list(result.log["features"]) == AUTO
    assert all(np.array_equal(*pair) for pair in zip(before, weights(model), strict=True))
    assert all(np.array_equal(*pair) for pair in zip(told, weights(teacher), strict=True))
    # What was learned is in the tuned network, whatever was trained in its place.
    assert [layer.name for layer in result.model.layers] == [layer.name for layer in model.layers]
    seen = Features(Network(result.model), Network(teacher), "auto")
    after = seen.distance(seen.network.run(data.train.x[:], False)[1], seen.teacher.run(data.train.x[:], False)[1])
    assert float(after) < 0.6 * losses[0]


def test_a_network_that_equals_its_teacher_stays(data):
    model = network()
    result = ONE_STEP(model, Data(data.train.x))
    assert result.log["history"]["feature_loss"] == [pytest.approx(0, abs=1e-9)]
    assert result.log["history"]["loss"] == [pytest.approx(0, abs=1e-9)]
    for before, after in zip(weights(model), weights(result.model), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-7)


def test_nothing_else_of_training_changes(data):
    """With next to no weight, the passes, statistics and steps are those without features."""
    # Not Adam: it would make whole steps of what rounding leaves of a gradient that is 0 (a bias before a norm).
    tune = dataclasses.replace(ONE_STEP, epochs=2, features=(), feature_weight=0.0, frozen_statistics=False)
    model, teacher = network(1), network(2)
    plain = tune(model, data, teacher=teacher).model
    matched = dataclasses.replace(tune, features="auto", feature_weight=1e-12)(model, data, teacher=teacher).model
    for before, after in zip(plain.weights, matched.weights, strict=True):
        np.testing.assert_allclose(np.array(after), np.array(before), atol=1e-5, err_msg=before.path)


def test_same_seed_same_weights(data):
    model, teacher = network(1), network(2)
    tune = dataclasses.replace(MATCH, epochs=2)
    first, again, other = (tune(model, data, seed=seed, teacher=teacher).model for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)


def test_the_outputs_may_differ_where_only_features_are_matched(data):
    model = network(1)
    body = keras.Model(model.inputs, model.get_layer("add").output, name="body")
    log = dataclasses.replace(ONE_STEP, features=("relu",))(model, data, teacher=body).log
    assert log["history"]["feature_loss"] == [pytest.approx(0, abs=1e-9)]


# Where.


def test_a_nested_models_outputs_are_those_of_its_layers(data):
    model = network()
    tensors = outputs_of(Network(model))
    assert list(map(id, tensors["block"])) == list(map(id, tensors["block/norm"]))
    seen = Seeing(Network(model), {"block": tensors["block"], "add": tensors["add"]})
    outputs, found = seen.run(data.train.x[:], training=False)
    # It is called twice; the sum is of its second output and of relu's.
    assert len(found["block"]) == 2
    np.testing.assert_allclose(array(outputs[0]), model.predict(data.train.x[:], verbose=0), atol=1e-6)
    relu = keras.Model(model.inputs, model.get_layer("relu").output).predict(data.train.x[:], verbose=0)
    np.testing.assert_allclose(array(found["add"][0]), array(found["block"][1]) + relu, atol=1e-5)


def test_a_layer_matches_the_nested_model_that_took_its_place(data):
    teacher = network()
    i = keras.Input((6, 6, 3), name="image")
    inner = keras.Input((6, 6, 3))
    parts = keras.Model(inner, layers.Conv2D(4, (1, 3))(layers.Conv2D(2, (3, 1))(inner)), name="conv")
    student = randomize(keras.Model(i, layers.BatchNormalization(name="norm")(parts(i))))
    features = Features(Network(student), Network(teacher), ("conv", "norm"))
    seen = features.network.run(data.train.x[:], False)[1]
    np.testing.assert_allclose(array(seen["conv"][0]), parts.predict(data.train.x[:], verbose=0), atol=1e-5)


def test_a_layer_matches_the_last_of_its_factors(data):
    teacher = network()
    i = keras.Input((6, 6, 3), name="image")
    parts = layers.Conv2D(2, (3, 1), name="conv_vertical"), layers.Conv2D(4, (1, 3), name="conv_horizontal")
    x = layers.ReLU(name="relu")(parts[1](parts[0](i)))
    student = randomize(keras.Model(i, layers.Dense(3, name="scores")(layers.Flatten(name="flatten")(x))))
    log = dataclasses.replace(ONE_STEP, features=("conv", "relu"))(student, data, teacher=teacher).log
    assert log["features"] == {"conv": "conv_horizontal", "relu": "relu"}


def test_names_of_factors_are_told_from_numbers():
    ours = ["a_vertical", "a_horizontal", "a_1_vertical", "a_1_horizontal", "b", "add_3", "c__expand"]
    assert counterparts(ours, ["a", "a_1", "b", "add", "c", "d"]) == {
        "a": "a_horizontal", "a_1": "a_1_horizontal", "b": "b", "c": "c__expand"
    }  # fmt: skip


def test_auto_leaves_out_what_has_another_shape():
    found = Features(Network(network()), Network(network(strides=2)), "auto")
    assert list(found.paths) == AUTO
    narrow = keras.Model((i := keras.Input((6, 6, 3))), layers.ReLU(name="relu")(layers.Conv2D(3, 3, name="conv")(i)))
    with pytest.raises(
        ModelError, match=r"same names and output shapes .* Received: '\w+' and 'net', which share none"
    ):
        Features(Network(narrow), Network(network()), "auto")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conv9", r"'conv9', which is not in the network and not in its teacher \(FineTune\)\. There are: .*pool"),
        ("extra", r"Received: 'extra', which is not in its teacher"),
        ("conv", r"'conv', of \(None, 4, 4, 3\) in the network and \(None, 4, 4, 4\) in its .*There are: none\."),
    ],
)  # fmt: skip
def test_names_that_cannot_be_matched(data, name, message):
    model = teacher = network()
    if name != "conv9":
        i = keras.Input((6, 6, 3))
        x = layers.ReLU(name="extra")(layers.Conv2D(3, 3, name="conv")(i))
        model = keras.Model(i, layers.Dense(3, name="last")(layers.Flatten(name="flat")(x)))
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(ONE_STEP, features=(name,))(model, data, teacher=teacher)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": "relu", "feature_weight": 1}, r"'auto' or a list .*: features='relu' \(FineTune\). .*\['relu'\]"),
        ({"features": "auto"}, r"feature_weight must be above 0 with features .*: feature_weight=0.0 \(FineTune\)"),
        ({"feature_weight": 1}, r"0 without any. Received: feature_weight=1 "),
        ({"features": ("relu",), "feature_weight": -1}, r"Received: feature_weight=-1 "),
        ({"features": (1,), "feature_weight": 1}, r"Received: features=\(1,\) "),
        ({"features": 3, "feature_weight": 1}, r"Received: features=3 "),
    ],
)  # fmt: skip
def test_settings_outside_their_domain(settings, message):
    with pytest.raises(SettingError, match=message):
        FineTune(**settings)


@pytest.mark.parametrize("features", ["auto", ("relu", "block/norm")])
def test_recipes_hold_them(features):
    recipe = Recipe([FineTune(features=features, feature_weight=0.5)])
    assert Recipe.from_yaml(recipe.to_yaml()).transforms == recipe.transforms

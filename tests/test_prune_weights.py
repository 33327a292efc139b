"""PruneWeights: budgets and patterns met exactly, nothing else moved, and zeros that survive training."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from networks import NETWORKS, examples, randomize
from paredown import Data, FineTune, PruneWeights, Recipe
from paredown.errors import DataError, SettingError
from paredown.network import Network
from paredown.sparse import METHODS, kernels
from paredown.transforms.gradual import gradual_pruning

#: Every kind of kernel, a shared layer, a nested model, grouped and separable convolutions.
TREATED = ["plain", "mlp", "autoencoder", "one_dimensional", "three_dimensional", "depthwise", "separable", "grouped"]
TREATED += ["frozen", "mixed_precision", "shared_after_constant", "sequential"]


array = keras.ops.convert_to_numpy


def weights(model):
    return [array(w) for w in model.weights]


def of(model):
    return {kernel.key: kernel for kernel in kernels(Network(model))[0]}


def images(count=96, seed=0):
    """A network of convolutions and a classifier whose inputs are correlated, with something to learn."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, activation="relu", name="first")(image)
    x = layers.Conv2D(8, 3, activation="relu", name="second")(x)
    x = layers.Flatten(name="flat")(x)
    model = keras.Model(image, layers.Dense(4, activation="softmax", name="scores")(x))
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(count, 8, 8, 1)) + 0.5 * rng.normal(size=(count, 8, 8, 4))).astype("float32")
    return randomize(model, seed), Data((x, (x.mean((1, 2)).argmax(-1)).astype("int32")))


@pytest.mark.parametrize("name", TREATED)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_every_kind_of_kernel(name, method):
    model = randomize(NETWORKS[name]())
    before, inputs = weights(model), examples(model, 4)
    transform = PruneWeights(method, sparsity=0.6, include=("dense", "conv", "transposed", "depthwise"))
    result = transform(model, Data(inputs[0]), seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(model), strict=True))
    assert all(check.passed for check in transform.prove(model, result, inputs))
    skipped = {skip.layer for skip in result.skips}
    changed = {change.layer: change for change in result.changes}
    assert changed
    assert not skipped & set(changed)
    new = of(result.model)
    for key, kernel in of(model).items():
        if kernel.path in skipped:
            assert np.array_equal(new[key].value(), kernel.value())
        else:
            assert (new[key].value() == 0).sum() == round(0.6 * kernel.value().size)
    for path, change in changed.items():
        mine = [kernel.value() for kernel in new.values() if kernel.path == path]
        assert (change.what, change.before) == ("zero weights", 0)
        assert change.after == sum(int((value == 0).sum()) for value in mine)
    again = transform(model, Data(inputs[0]), seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(weights(again.model), weights(result.model), strict=True))


def test_magnitude_takes_the_smallest_and_leaves_the_others_to_the_bit():
    model, _ = images()
    result = PruneWeights(sparsity=0.7)(model)
    for key, kernel in of(result.model).items():
        old, new = of(model)[key].value(), kernel.value()
        assert np.array_equal(new[new != 0], old[new != 0])
        assert np.abs(old[new == 0]).max() <= np.abs(old[new != 0]).min()


def test_globally_the_smallest_of_all_kernels_go():
    model, _ = images()
    model.get_layer("second").kernel.assign(model.get_layer("second").kernel * 1e-3)
    result = PruneWeights(sparsity=0.5, scope="global")(model)
    zeros = {key: (kernel.value() == 0) for key, kernel in of(result.model).items()}
    assert sum(z.sum() for z in zeros.values()) == round(0.5 * sum(z.size for z in zeros.values()))
    assert zeros["second/kernel"].all()
    old = [of(model)[key].value() for key in zeros]
    gone = np.concatenate([o[z] for o, z in zip(old, zeros.values(), strict=True)])
    left = np.concatenate([o[~z] for o, z in zip(old, zeros.values(), strict=True)])
    assert np.abs(gone).max() <= np.abs(left).min()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("pattern", "sparsity"), [("2:4", None), ("block 4", 0.75), ("unstructured", 0.75)])
def test_patterns_hold_and_obs_keeps_outputs_closest(method, scope, pattern, sparsity):
    model, data = images()
    transform = PruneWeights(method, sparsity=sparsity, pattern=pattern, scope=scope)
    result = transform(model, data)
    assert all(check.passed for check in transform.prove(model, result, []))
    for kernel in of(result.model).values():
        parts = kernel.split(kernel.value()).reshape(kernel.groups, -1, 4, kernel.value().shape[-1])
        if pattern == "2:4":
            assert ((parts != 0).sum(2) == 2).all()
        if pattern == "block 4":
            # An unlucky zero inside a surviving block would be seen here, too.
            assert np.isin((parts != 0).sum(2), [0, 4]).all()


@pytest.mark.parametrize(("pattern", "sparsity"), [("2:4", None), ("block 4", 0.5), ("unstructured", 0.5)])
@pytest.mark.parametrize("seed", range(3))
def test_obs_moves_a_layer_less_than_the_others_do(pattern, sparsity, seed):
    """The first layer's outputs on the calibration inputs, for which its Hessian is exact."""
    model, data = images(seed=seed)
    x = data.train.x
    look = keras.Model(model.inputs, model.get_layer("first").output)

    def moved(method):
        result = PruneWeights(method, sparsity=sparsity, pattern=pattern, exclude=("second", "scores"))(model, data)
        layer = result.model.get_layer("first")
        after = keras.ops.conv(x, layer.kernel) + layer.bias
        before = keras.ops.conv(x, model.get_layer("first").kernel) + model.get_layer("first").bias
        return float(keras.ops.sum(keras.ops.square(after - before))), result.log

    assert look.output.shape[-1] == 8
    errors = {method: moved(method)[0] for method in METHODS}
    assert errors["obs"] < errors["obd"]
    assert errors["obs"] < errors["magnitude"] < errors["random"]
    told = moved("obs")[1]["output_error"]["first/kernel"]
    whole = np.square(array(keras.ops.conv(x, model.get_layer("first").kernel)).astype("float64")).sum()
    assert told["result"] == pytest.approx(errors["obs"] / whole, rel=0.01)
    assert told["result"] < told["masked"]


def test_a_pruned_network_is_pruned_further_not_anew():
    model, data = images()
    for method in METHODS:
        once = PruneWeights(method, sparsity=0.4)(model, data, seed=0).model
        twice = PruneWeights(method, sparsity=0.6)(once, data, seed=5).model
        less = PruneWeights(method, sparsity=0.2)(once, data, seed=7)
        for key, kernel in of(twice).items():
            zero = of(once)[key].value() == 0
            assert (kernel.value()[zero] == 0).all()
            assert (kernel.value() == 0).sum() == round(0.6 * zero.size)
        assert less.changes == ()
        assert {skip.layer for skip in less.skips} == {"first", "second", "scores"}
        assert all(np.array_equal(a, b) for a, b in zip(weights(less.model), weights(once), strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adamw"])
def test_zeros_survive_training_to_the_bit(optimizer):
    model, data = images()
    pruned = PruneWeights(sparsity=0.7)(model).model
    tuned = FineTune(batch_size=16, optimizer=optimizer, keep_zeros=True)(pruned, data).model
    moved = 0
    for key, kernel in of(tuned).items():
        zero = of(pruned)[key].value() == 0
        value = kernel.value()
        assert (value[zero] == 0).all()
        assert not np.signbit(value[zero]).any()
        moved += (value != of(pruned)[key].value()).sum()
    assert moved > 50
    assert (array(tuned.get_layer("first").bias) != 0).all()
    assert [type(layer) for layer in tuned.layers] == [type(layer) for layer in pruned.layers]
    assert all(weight.constraint is None for weight in tuned.weights)


def test_without_keep_zeros_training_fills_them():
    model, data = images()
    lost = FineTune(batch_size=16)(PruneWeights(sparsity=0.7)(model).model, data).model
    assert all((kernel.value() == 0).sum() < 5 for kernel in of(lost).values())


def test_a_constraint_of_the_network_holds_beside_the_zeros():
    image = keras.Input((4,))
    model = keras.Model(image, layers.Dense(3, kernel_constraint="non_neg", name="dense")(image))
    model.layers[-1].kernel.assign(np.abs(np.random.default_rng(0).normal(size=(4, 3))))
    x = np.random.default_rng(1).normal(size=(40, 4)).astype("float32")
    pruned = PruneWeights(sparsity=0.5)(model).model
    tuned = FineTune(epochs=3, learning_rate=0.1, keep_zeros=True)(pruned, Data((x, -x[:, :3]))).model
    kernel = array(tuned.layers[-1].kernel)
    assert (kernel >= 0).all()
    assert (kernel[array(pruned.layers[-1].kernel) == 0] == 0).all()
    assert type(tuned.layers[-1].kernel.constraint) is keras.constraints.NonNeg


@pytest.mark.parametrize("penalty", [{}, {"regularization": "l1_activations", "strength": 1e-3}])
def test_strided_pointwise_convolutions_keep_their_zeros(penalty):
    """They are trained through a twin of the network; so is what has a penalty."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 1, strides=2, name="pointwise")(image)
    model = keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    x = np.random.default_rng(1).normal(size=(32, 8, 8, 3)).astype("float32")
    pruned = PruneWeights(sparsity=0.5)(model).model
    tuned = FineTune(keep_zeros=True, learning_rate=0.1, **penalty)(pruned, Data((x, x.mean((1, 2))[:, :2]))).model
    before, after = (array(m.get_layer("pointwise").kernel) for m in (pruned, tuned))
    assert np.array_equal(before == 0, after == 0)
    assert not np.array_equal(before, after)


def test_gradual_pruning_follows_the_cubic_course():
    prune, tune = PruneWeights(sparsity=0.8, exclude=("scores",)), FineTune(batch_size=32)
    steps = gradual_pruning(prune, tune, 3)
    assert [s.sparsity for s in steps[::2]] == pytest.approx([0.8 * (1 - (1 - t / 3) ** 3) for t in (1, 2, 3)])
    assert steps[-2] == prune
    assert steps[1::2] == (dataclasses.replace(tune, keep_zeros=True),) * 3
    recipe = Recipe(steps)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    model, data = images(32)
    before = np.zeros((3, 3, 8, 8), bool)
    for step in steps:
        model = step(model, data).model
        zero = array(model.get_layer("second").kernel) == 0
        assert zero[before].all()
        before = zero
    assert zero.sum() == round(0.8 * zero.size)
    assert not (array(model.get_layer("scores").kernel) == 0).any()


def test_gradual_pruning_refuses_what_has_no_course():
    with pytest.raises(SettingError, match="Received: pattern='2:4'"):
        gradual_pruning(PruneWeights(pattern="2:4"), FineTune(), 3)
    with pytest.raises(SettingError, match="Received: steps=0 "):
        gradual_pruning(PruneWeights(sparsity=0.5), FineTune(), 0)
    with pytest.raises(SettingError, match=r"start must be in \[0, sparsity=0\.5\]\. Received: start=0\.7"):
        gradual_pruning(PruneWeights(sparsity=0.5), FineTune(), 2, start=0.7)


def test_what_is_left_alone_says_why():
    model = randomize(NETWORKS["depthwise"]())
    names = [layer.name for layer in model.layers if isinstance(layer, layers.Dense)]
    result = PruneWeights(pattern="2:4", exclude=names)(model)
    reasons = {skip.layer: skip.reason for skip in result.skips}
    assert reasons[names[0]] == "excluded"
    assert reasons["depthwise_conv2d"].startswith("its kernel is depthwise, which include=")
    # The image has 3 channels; the convolution before the last reads 6 * 2.
    assert reasons["conv2d"] == "its kernel reads 3 neighbouring inputs, no multiple of 4 (2:4)"
    assert "conv2d_2" not in reasons
    separable = PruneWeights("obd", sparsity=0.5)(randomize(NETWORKS["separable"]()), Data(np.ones((2, 8, 8, 3))))
    assert "what its pointwise_kernel reads lies inside the layer, where obd does not see it" in {
        skip.reason for skip in separable.skips
    }
    embedded = PruneWeights(sparsity=0.5)(randomize(NETWORKS["embedded"]()))
    assert ("embedding", "Embedding has no kernel of a kind that is treated") in {
        (skip.layer, skip.reason) for skip in embedded.skips
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity must be in \[0, 1\)\. Received: sparsity=1\.0 \(PruneWeights\)\. Use 0\.5"),
        ({}, r"sparsity must be in \[0, 1\)\. Received: sparsity=None"),
        ({"sparsity": 0.5, "pattern": "2:4"}, r"left out with pattern='2:4', .*Received: sparsity=0\.5"),
        ({"sparsity": 0.5, "method": "magic"}, r"one of magnitude, obd, obs, random\. Received: method='magic'"),
        ({"sparsity": 0.5, "scope": "all"}, r"Received: scope='all'"),
        ({"sparsity": 0.5, "include": ("dense", "convs")}, r"Received: include=\('dense', 'convs'\)"),
        ({"sparsity": 0.5, "exclude": "scores"}, r"Received: exclude='scores' .*Use \['scores'\]"),
        ({"sparsity": 0.5, "examples": 0}, r"Received: examples=0"),
        ({"sparsity": 0.5, "ridge": 0}, r"ridge must be above 0\. Received: ridge=0 "),
        ({"sparsity": 0.5, "pattern": "rows"}, r"Received: pattern='rows'"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        PruneWeights(**settings)


def test_wrong_use_is_named():
    model, _ = images()
    with pytest.raises(DataError, match=r"method 'obs' needs data to run the network on\. Received: data=None"):
        PruneWeights("obs", sparsity=0.5)(model)
    with pytest.raises(SettingError, match=r"Received: \['flat'\] \(PruneWeights\)\. The network has: first, scores"):
        PruneWeights(sparsity=0.5, exclude=("flat",))(model)
    with pytest.raises(SettingError, match=r"keep_zeros must be true or false\. Received: keep_zeros=1 "):
        FineTune(keep_zeros=1)


def test_a_result_that_broke_its_promise_is_seen():
    model, _ = images()
    transform = PruneWeights(sparsity=0.5, pattern="block 4")
    result = transform(model)
    first = result.model.get_layer("first")
    kernel = array(first.kernel).copy()
    at = np.argwhere(kernel == 0)[0]
    kernel[tuple(at)] = 1
    first.kernel.assign(kernel)
    first.bias.assign(first.bias + 1)
    figures = {check.name: check.value for check in transform.prove(model, result, [])}
    assert figures == {
        "zeros lie in the pattern": 4,
        "all other weights are as they were": 8,
        "surviving weights are as they were": 1,
    }

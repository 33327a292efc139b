"""ShareWeights: at most k values, budgets met, nothing else moved, and sharing that survives training."""

import keras
import numpy as np
import pytest
from keras import layers

from networks import NETWORKS, examples, randomize
from paredown import Data, FineTune, PruneWeights, Recipe, ShareWeights
from paredown.errors import DataError, SettingError
from paredown.network import Network
from paredown.sharing import METHODS, error, fisher, scale_of, spread
from paredown.sparse import hessians, kernels
from paredown.transforms.objective import example_loss
from test_prune_weights import TREATED, images, of, weights

array = keras.ops.convert_to_numpy


def count(values):
    return len(np.unique(values))


@pytest.mark.parametrize("name", TREATED)
def test_every_kind_of_kernel(name):
    model = randomize(NETWORKS[name]())
    before, inputs = weights(model), examples(model, 4)
    transform = ShareWeights(k=3)
    result = transform(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(model), strict=True))
    assert all(check.passed for check in transform.prove(model, result, inputs))
    new, told = of(result.model), result.log["shared"]
    assert told
    for key, kernel in of(model).items():
        value = new[key].value()
        assert value.dtype == kernel.value().dtype
        if key in told:
            assert count(value) == told[key]["k"] == 3
            assert told[key]["loss"] == pytest.approx(error(kernel.value(), value) / spread(kernel.value()))
            assert told[key]["bits"] == value.size * 2 + 3 * 32
        else:
            assert kernel.path in {skip.layer for skip in result.skips}
            assert np.array_equal(value, kernel.value())
    assert {c.layer for c in result.changes} == {key.rsplit("/", 1)[0] for key in told}


def test_loss_falls_with_k_and_the_optimum_is_least():
    model, _ = images()
    losses = {
        (method, k): [row["loss"] for row in ShareWeights(k=k, method=method)(model).log["shared"].values()]
        for method in METHODS
        for k in (2, 6, 16)
    }
    for k in (2, 6, 16):
        for method in METHODS:
            pairs = zip(losses["optimal", k], losses[method, k], strict=True)
            assert all(best <= other + 1e-12 for best, other in pairs)
    assert all(a > b > c for a, b, c in zip(*(losses["optimal", k] for k in (2, 6, 16)), strict=True))


def test_codebooks_by_output_channels():
    model, _ = images()
    result = ShareWeights(bits=1, channels=4)(model)
    value = array(result.model.get_layer("second").kernel)
    assert [count(value[..., at : at + 4]) for at in (0, 4)] == [2, 2]
    row = result.log["shared"]["second/kernel"]
    assert (row["codebooks"], row["bits"]) == (2, 3 * 3 * 8 * 8 + 2 * 2 * 32)
    assert row["loss"] < ShareWeights(bits=1)(model).log["shared"]["second/kernel"]["loss"]
    grouped = randomize(NETWORKS["grouped"]())
    transform = ShareWeights(k=2, channels=1)
    found = transform(grouped)
    assert all(check.passed for check in transform.prove(grouped, found, []))
    for key in found.log["shared"]:
        if of(found.model)[key].kind == "conv":
            kernel = of(found.model)[key].value()
            assert max(count(kernel[..., o]) for o in range(kernel.shape[-1])) == 2


@pytest.mark.parametrize("size", [0.04, 0.1, 0.3, 1])
def test_a_budget_is_kept_with_the_least_loss(size):
    model, _ = images()
    transform = ShareWeights(size=size)
    result = transform(model)
    assert all(check.passed for check in transform.prove(model, result, []))
    whole = sum(kernel.value().size * 32 for kernel in of(model).values())
    told = result.log["shared"]
    if size == 1:
        assert not told
        assert {skip.reason for skip in result.skips} == {"the budget is met with its kernel as it is"}
        return
    stay = sum(kernel.value().size * 32 for key, kernel in of(model).items() if key not in told)
    assert result.log["bits"] + stay <= size * whole
    assert result.log["bits"] == sum(row["bits"] for row in told.values())
    # No same k for all that fits loses less.
    for bits in (1, 2, 3, 4, 5, 6, 8):
        same = ShareWeights(bits=bits)(model).log
        if same["bits"] <= size * whole and len(same["shared"]) == 3:
            assert (
                sum(row["loss"] for row in told.values()) <= sum(row["loss"] for row in same["shared"].values()) + 1e-9
            )


def test_the_hessian_keeps_outputs_and_fisher_keeps_the_loss():
    """Each weighting is the best of all at what it is about, as its own formula says."""
    model, data = images()
    network, found = Network(model), kernels(Network(model))[0]
    diagonals = hessians(network, found, data.calibration, 32, whole=False)
    matter = {
        "hessian": {k.key: np.concatenate(diagonals[k.key].blocks, 1)[:, :, None] for k in found},
        "fisher": {
            key: of(model)[key].split(value)
            for key, value in fisher(
                network, {k.key: k.variable(k.layer) for k in found}, data.train, example_loss(model, data.train)
            ).items()
        },
    }
    results = {w: of(ShareWeights(k=4, weighting=w)(model, data).model) for w in (None, "hessian", "fisher")}
    for weighting, factor in matter.items():
        for kernel in found:
            lost = {
                w: (
                    factor[kernel.key]
                    * np.square(kernel.split(kernel.value()) - new[kernel.key].split(new[kernel.key].value()))
                ).sum()
                for w, new in results.items()
            }
            assert lost[weighting] < lost[None]
            assert lost[weighting] <= min(lost.values()) * (1 + 1e-6)


def test_fisher_is_the_mean_square_of_the_gradient_by_hand():
    """For softmax and cross-entropy, d loss / d W = x·(p - y)ᵀ."""
    image = keras.Input((5,))
    model = randomize(keras.Model(image, layers.Dense(3, activation="softmax", name="scores")(image)))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5)).astype("float32"), np.array([0, 1, 2, 0, 1, 1])
    data = Data((x, y))
    found = fisher(Network(model), {"w": model.layers[-1].kernel}, data.train, example_loss(model, data.train))
    slope = array(model(x)) - np.eye(3)[y]
    np.testing.assert_allclose(found["w"], np.square(x[:, :, None] * slope[:, None]).mean(0), rtol=1e-4, atol=1e-9)


def test_zeros_of_pruning_stay_or_are_shared_like_others():
    model, data = images()
    # At random, so that weights near zero are left, which share its value unless it is kept apart.
    pruned = PruneWeights("random", sparsity=0.5)(model).model
    kept, lost = (ShareWeights(k=4, keep_zeros=keep)(pruned).model for keep in (True, False))
    for key, kernel in of(pruned).items():
        zero = kernel.value() == 0
        assert np.array_equal(of(kept)[key].value() == 0, zero)
        assert count(of(kept)[key].value()) == 4
        assert not np.array_equal(of(lost)[key].value() == 0, zero)
    tuned = FineTune(epochs=2, batch_size=16, keep_zeros=True, keep_shared=True)(kept, data).model
    for key, kernel in of(kept).items():
        assert np.array_equal(of(tuned)[key].value() == 0, kernel.value() == 0)
        assert count(of(tuned)[key].value()) <= 4


OPTIMIZERS = ["sgd", "adamw", {"class_name": "Muon", "config": {"learning_rate": 1e-3}}]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "adamw", "muon"])
def test_sharing_survives_training_to_the_bit(optimizer, tmp_path):
    model, data = images()
    shared = ShareWeights(k=5)(model).model
    tuned = FineTune(epochs=2, batch_size=16, optimizer=optimizer, learning_rate=1e-3, keep_shared=True)(shared, data)
    tuned.model.save(tmp_path / "tuned.keras")
    loaded = keras.models.load_model(tmp_path / "tuned.keras")
    assert tuned.log["optimizer"].lower() == str(optimizer if isinstance(optimizer, str) else "muon").lower()
    for key, kernel in of(shared).items():
        value = of(loaded)[key].value()
        assert np.array_equal(value, of(tuned.model)[key].value())
        assert count(value) <= 5
        for each in np.unique(kernel.value()):
            assert count(value[kernel.value() == each]) == 1
        assert not np.array_equal(value, kernel.value())
    assert all(weight.constraint is None for weight in tuned.model.weights)


@pytest.mark.parametrize("name", [*TREATED])
def test_values_on_a_grid(name):
    model = randomize(NETWORKS[name]())
    transform = ShareWeights(bits=3, channels=2, grid="int8")
    result = transform(model)
    assert all(check.passed for check in transform.prove(model, result, []))
    for key, row in result.log["shared"].items():
        kernel = of(model)[key]
        value = of(result.model)[key].value()
        assert scale_of(value) is not None
        assert row["loss"] == pytest.approx(error(kernel.value(), value) / spread(kernel.value()))
    assert transform(result.model).changes == ()


def test_a_grid_survives_training(tmp_path):
    """Also where every weight has a value of its own, as in a small kernel with many values."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(2, 1, strides=2, name="few")(image)
    x = layers.Conv2D(8, 3, padding="same", name="many")(x)
    model = randomize(keras.Model(image, layers.Dense(2, name="scores")(layers.GlobalAveragePooling2D()(x))))
    x = np.random.default_rng(1).normal(size=(32, 8, 8, 3)).astype("float32")
    shared = ShareWeights(k=12, grid="int8")(model).model
    assert count(of(shared)["few/kernel"].value()) == 6
    tuned = FineTune(epochs=2, learning_rate=0.01, keep_shared=True)(shared, Data((x, x.mean((1, 2))[:, :2]))).model
    tuned.save(tmp_path / "tuned.keras")
    loaded = keras.models.load_model(tmp_path / "tuned.keras")
    for key, kernel in of(shared).items():
        value = of(loaded)[key].value()
        assert scale_of(value) is not None
        assert not np.array_equal(value, kernel.value())
        for each in np.unique(kernel.value()):
            assert count(value[kernel.value() == each]) == 1


def test_few_values_off_the_grid_are_put_on_it():
    model, _ = images()
    few = ShareWeights(k=4)(model).model
    result = ShareWeights(k=16, grid="int8")(few)
    assert {change.layer for change in result.changes} == {"first", "second", "scores"}
    for key, kernel in of(result.model).items():
        assert scale_of(kernel.value()) is not None
        np.testing.assert_allclose(kernel.value(), of(few)[key].value(), atol=np.abs(kernel.value()).max() / 250)


def test_a_shared_value_learns_by_the_sum_of_its_members_gradients():
    """One step of SGD against the gradient of a codebook: d loss / d value = Σ over members of d loss / d weight."""
    image = keras.Input((6,))
    model = randomize(keras.Model(image, layers.Dense(4, use_bias=False, name="dense")(image)))
    shared = ShareWeights(k=3)(model).model
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 6)).astype("float32"), rng.normal(size=(20, 4)).astype("float32")
    tuned = FineTune(batch_size=20, optimizer="sgd", learning_rate=0.01, loss="mean_squared_error", keep_shared=True)
    after = array(tuned(shared, Data((x, y))).model.layers[-1].kernel)
    before = array(shared.layers[-1].kernel)
    slope = 2 * x.T @ (x @ before - y) / y.size
    for value in np.unique(before):
        member = before == value
        np.testing.assert_allclose(after[member], value - 0.01 * slope[member].sum(), rtol=1e-4, atol=1e-6)


def test_what_shares_nothing_is_trained_as_ever():
    model, data = images()
    plain, kept = (FineTune(batch_size=16, keep_shared=keep)(model, data).model for keep in (False, True))
    assert all(np.array_equal(a, b) for a, b in zip(weights(plain), weights(kept), strict=True))


def test_frozen_kernels_and_twins_keep_sharing():
    """Strided pointwise convolutions are trained through a twin of the network."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 1, strides=2, name="pointwise")(image)
    x = layers.Conv2D(4, 1, name="frozen", trainable=False)(x)
    model = keras.Model(image, layers.Dense(2, name="scores")(layers.GlobalAveragePooling2D()(x)))
    x = np.random.default_rng(1).normal(size=(32, 8, 8, 3)).astype("float32")
    shared = ShareWeights(k=4)(model).model
    tuned = FineTune(keep_shared=True, learning_rate=0.1)(shared, Data((x, x.mean((1, 2))[:, :2]))).model
    before, after = (array(m.get_layer("pointwise").kernel) for m in (shared, tuned))
    assert count(after) == 4
    assert not np.array_equal(before, after)
    assert np.array_equal(array(shared.get_layer("frozen").kernel), array(tuned.get_layer("frozen").kernel))


def test_what_is_left_alone_says_why():
    model, _ = images()
    result = ShareWeights(k=256, exclude=("first",))(model)
    reasons = {skip.layer: skip.reason for skip in result.skips}
    assert reasons == {"first": "excluded"}
    again = ShareWeights(k=4)(ShareWeights(k=4)(model).model)
    assert again.changes == ()
    assert {skip.reason for skip in again.skips} == {"its kernel has no more than 4 different values in a codebook"}
    embedded = ShareWeights(k=2)(randomize(NETWORKS["embedded"]()))
    assert ("embedding", "Embedding has no kernel of a kind that is treated") in {
        (skip.layer, skip.reason) for skip in embedded.skips
    }
    separable = ShareWeights(k=2, weighting="hessian")(randomize(NETWORKS["separable"]()), Data(np.ones((2, 8, 8, 3))))
    assert "what its pointwise_kernel reads lies inside the layer, where 'hessian' does not see it" in {
        skip.reason for skip in separable.skips
    }
    half = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="float16", name="half")])
    assert [(skip.layer, skip.reason) for skip in ShareWeights(k=2, grid="int8")(half).skips] == [
        ("half", "its kernel is float16, and grids are made for float32")
    ]


def test_wrong_use_is_named():
    model, _ = images()
    with pytest.raises(DataError, match=r"weighting 'fisher' needs data to run the network on\. Received: data=None"):
        ShareWeights(k=4, weighting="fisher")(model)
    with pytest.raises(SettingError, match=r"Received: \['flat'\] \(ShareWeights\)\. The network has: first, scores"):
        ShareWeights(k=4, exclude=("flat",))(model)
    with pytest.raises(SettingError, match=r"Received: size=0\.01, .* bits; one bit a weight takes \d+ \(ShareWeights"):
        ShareWeights(size=0.01)(model)
    with pytest.raises(SettingError, match=r"keep_shared must be true or false\. Received: keep_shared=1 "):
        FineTune(keep_shared=1)


def test_a_result_that_broke_its_promise_is_seen():
    model, _ = images()
    transform = ShareWeights(size=0.1)
    result = transform(PruneWeights(sparsity=0.5)(model).model)
    first = result.model.get_layer("first")
    kernel = array(first.kernel).copy()
    kernel.flat[np.flatnonzero(kernel == 0)[0]] = 1
    first.kernel.assign(kernel)
    first.bias.assign(first.bias + 1)
    result.log["shared"]["first/kernel"]["bits"] += 10**6
    figures = {
        check.name: check.value for check in transform.prove(PruneWeights(sparsity=0.5)(model).model, result, [])
    }
    assert figures["values beyond k in a codebook"] == 1
    assert figures["all other weights are as they were"] == 8
    assert figures["zeros that were lost"] == 1
    assert figures["bits beyond the budget"] > 9e5


def test_recipes_hold_it():
    recipe = Recipe([ShareWeights(bits=4, weighting="fisher"), FineTune(keep_shared=True)])
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe

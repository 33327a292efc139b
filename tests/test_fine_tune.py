"""FineTune: what it learns from, what it leaves alone, and that it repeats."""

from itertools import chain

import keras
import numpy as np
import pytest
import scipy.special
from keras import layers

from paredown import progress
from paredown.data import Data, Split
from paredown.errors import DataError, ModelError, ParedownError, SettingError
from paredown.transforms.batches import AUGMENT, LITTLE, MUCH, ShuffledBatches
from paredown.transforms.fine_tune import FineTune
from paredown.transforms.watch import Pace, paced


def network(activation="softmax", seed=0, classes=10):
    """About 4 channels on 28 x 28 images, raw values in."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Rescaling(1 / 255, name="rescale")(image)
    x = layers.Conv2D(4, 5, strides=3, name="conv")(x)
    x = layers.BatchNormalization(momentum=0.8, name="norm")(x)
    x = layers.Flatten(name="flatten")(layers.ReLU(name="relu")(x))
    return keras.Model(image, layers.Dense(classes, activation, name="scores")(x), name="little")


@pytest.fixture(scope="module")
def digits():
    data = Data.load("digits")
    x, y = data.train.rows(np.arange(200))
    return Data((x, y), data.validation)


def weights(model):
    return [np.asarray(w) for w in model.weights]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_it_learns_and_the_input_model_is_untouched(digits):
    model = network()
    before = weights(model)
    result = FineTune(epochs=8, batch_size=32)(model, digits, seed=1)
    assert same(before, weights(model))
    assert not model.compiled
    assert [layer.name for layer in result.model.layers] == [layer.name for layer in model.layers]
    scores = result.model.predict(digits.validation.x[:], verbose=0)
    assert np.mean(scores.argmax(-1) == digits.validation.y) > 0.6
    assert result.changes == result.skips == ()


def test_the_log_says_what_was_chosen(digits):
    log = FineTune(epochs=2)(network(), digits).log
    assert log["target"] == "labels"
    assert (log["optimizer"], log["optimizer_from"]) == ("Adam", "paredown's choice")
    assert (log["loss"], log["loss_from"]) == ("sparse_categorical_crossentropy", "paredown's choice")
    assert log["learning_rate"] == pytest.approx(1e-3)
    assert (log["train"], log["held_out"], log["stopped_epoch"], log["best_epoch"]) == (200, 0, 2, None)
    assert set(log["history"]) == {"loss", "accuracy"}
    assert [type(value) for value in log["history"]["loss"]] == [float, float]


def test_same_seed_same_weights(digits):
    model = network()
    tune = FineTune(epochs=2, batch_size=64, augment="crop_flip")
    first, again, other = (weights(tune(model, digits, seed=s).model) for s in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)


def test_the_callers_random_numbers_go_on_as_if_nothing_had_been(digits):
    model = network()
    np.random.seed(5)  # noqa: NPY002 - the global state is what is tested
    expected = np.random.random(2)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    FineTune(steps_per_epoch=1)(model, digits)
    assert np.array_equal(np.random.random(2), expected)  # noqa: NPY002


# Settings: given, else the model's own, else a choice.


def test_the_models_own_compilation_is_used_and_kept(digits, tmp_path):
    model = network("linear")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss, metrics=["sparse_top_k_categorical_accuracy"])
    result = FineTune()(model, digits)
    assert (result.log["optimizer"], result.log["optimizer_from"]) == ("SGD", "the model's compile configuration")
    assert result.log["loss_from"] == "the model's compile configuration"
    assert result.log["learning_rate"] == pytest.approx(0.02)
    assert "sparse_top_k_categorical_accuracy" in result.log["history"]
    assert result.model.get_compile_config() == model.get_compile_config()
    result.model.save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras").optimizer.momentum == 0.9


def test_given_settings_come_first(digits, tmp_path):
    model = network()
    model.compile("sgd", "sparse_categorical_crossentropy")
    tune = FineTune(optimizer="rmsprop", learning_rate=0.005, loss="sparse_categorical_crossentropy")
    result = tune(model, digits)
    assert (result.log["optimizer"], result.log["optimizer_from"]) == ("RMSprop", "settings")
    assert (result.log["loss_from"], result.log["learning_rate"]) == ("settings", 0.005)
    assert isinstance(result.model.optimizer, keras.optimizers.SGD)
    plain = FineTune()(network(), digits).model
    plain.save(tmp_path / "m.keras")
    assert not keras.models.load_model(tmp_path / "m.keras").compiled


def test_own_loss_for_one_hot_labels_takes_class_numbers(digits):
    model = network("linear")
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    log = FineTune()(model, digits, seed=2).log
    chosen = FineTune()(network("linear"), digits, seed=2).log
    assert log["loss"] == "sparse_categorical_crossentropy"
    assert log["history"]["loss"] == pytest.approx(chosen["history"]["loss"])


@pytest.mark.parametrize(
    ("activation", "classes", "y", "loss"),
    [
        ("softmax", 10, lambda y: y, "sparse_categorical_crossentropy"),
        ("linear", 10, lambda y: y, "sparse_categorical_crossentropy"),
        ("softmax", 10, lambda y: np.eye(10)[y], "categorical_crossentropy"),
        ("sigmoid", 1, lambda y: y % 2, "binary_crossentropy"),
        ("linear", 1, lambda y: y / 10, "mean_squared_error"),
    ],
)
def test_a_loss_that_suits_labels_and_output(digits, activation, classes, y, loss):
    model = network(activation, classes=classes)
    x = digits.train.x
    result = FineTune(steps_per_epoch=1, batch_size=200)(model, Data((x, y(digits.train.y))))
    assert result.log["loss"] == loss
    # The first step's loss is that of the untouched network: cross-entropies lie near log(classes).
    near = {"mean_squared_error": (0, 5)}.get(loss, (0.3 * np.log(max(classes, 2)), 2 * np.log(max(classes, 2))))
    assert near[0] < result.log["history"]["loss"][0] < near[1]


def test_cosine_falls_to_nothing(digits):
    model = network()
    still = FineTune(epochs=2, batch_size=50, learning_rate=0.01, schedule="cosine")(model, digits)
    assert still.log["learning_rate"] == 0.01
    # After 2 * 200 / 50 steps the rate is 0.01 * (1 + cos(pi)) / 2 = 0: a further epoch would change nothing.
    rate = keras.optimizers.schedules.CosineDecay(0.01, 2 * 200 // 50)
    assert float(rate(2 * 200 // 50)) == pytest.approx(0, abs=1e-9)
    constant = FineTune(epochs=2, batch_size=50, learning_rate=0.01)(model, digits)
    assert not same(weights(still.model), weights(constant.model))


def test_frozen_layers_stay(digits):
    model = network()
    model.get_layer("conv").trainable = False
    result = FineTune(epochs=1, batch_size=50)(model, digits).model
    assert same(weights(model.get_layer("conv")), weights(result.get_layer("conv")))
    assert not same(weights(model.get_layer("scores")), weights(result.get_layer("scores")))
    assert not result.get_layer("conv").trainable
    assert result.get_layer("norm").momentum == 0.8
    model.trainable = False
    with pytest.raises(ModelError, match=r"needs a trainable weight\. Received: 'little'"):
        FineTune()(model, digits)


def test_early_stop_keeps_the_best_weights(digits):
    model = network()
    tune = FineTune(epochs=30, batch_size=16, learning_rate=0.05, patience=1, holdout=0.2)
    result = tune(model, digits, seed=1)
    losses = result.log["history"]["val_loss"]
    assert (result.log["train"], result.log["held_out"]) == (160, 40)
    assert result.log["stopped_epoch"] == len(losses) < 30
    assert result.log["best_epoch"] == 1 + int(np.argmin(losses)) == len(losses) - 1
    shorter = FineTune(epochs=len(losses) - 1, batch_size=16, learning_rate=0.05, patience=1, holdout=0.2)
    assert same(weights(shorter(model, digits, seed=1).model), weights(result.model))


def test_validation_is_never_read(digits):
    class Forbidden:
        shape, dtype = (50, 28, 28, 1), np.dtype("uint8")

        def __len__(self):
            return 50

        def __getitem__(self, key):
            raise AssertionError("validation was read")

    FineTune(patience=1)(network(), Data(digits.train, Split(Forbidden())))


# Towards the original's outputs.


def test_without_labels_it_matches_the_teacher(digits):
    teacher = FineTune(epochs=5, batch_size=32)(network(), digits).model
    before = weights(teacher)
    student = network(seed=7)
    unlabelled = Data(digits.train.x)
    result = FineTune(epochs=6, batch_size=32, learning_rate=0.005)(student, unlabelled, teacher=teacher)
    assert (result.log["target"], result.log["loss"]) == ("original outputs", "mean_squared_error")
    expected = teacher.predict(digits.validation.x[:], verbose=0)
    error = [np.square(m.predict(digits.validation.x[:], verbose=0) - expected).mean() for m in (student, result.model)]
    assert error[1] < 0.5 * error[0]
    assert same(before, weights(teacher))
    assert len(result.model.weights) == len(student.weights)


def two_outputs(seed):
    keras.utils.set_random_seed(seed)
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    both = layers.Concatenate(name="both")([a, b])
    outs = {"left": layers.Dense(2, name="left")(both), "right": layers.Dense(1, name="right")(both)}
    return keras.Model({"b": b, "a": a}, outs, name="two")


def test_several_inputs_and_outputs_without_labels():
    rng = np.random.default_rng(0)
    teacher, student = two_outputs(1), two_outputs(2)
    # Data follow model.inputs, whose order is that of the network's own structure.
    x = tuple(rng.normal(size=(256, *t.shape[1:])).astype("float32") for t in student.inputs)
    tune = FineTune(epochs=60, batch_size=64, learning_rate=0.05, schedule="cosine")
    result = tune(student, Data(Split(x)), teacher=teacher)
    # Both are linear: the student can become the teacher.
    assert result.log["history"]["loss"][-1] < 1e-3
    feed = {t.name: v for t, v in zip(student.inputs, x, strict=True)}
    expected, got = teacher.predict(feed, verbose=0), result.model.predict(feed, verbose=0)
    assert set(got) == {"left", "right"}
    for name in got:
        np.testing.assert_allclose(got[name], expected[name], atol=0.1)


def test_several_outputs_with_labels():
    rng = np.random.default_rng(0)
    x = tuple(rng.normal(size=(64, *t.shape[1:])).astype("float32") for t in two_outputs(2).inputs)
    y = (np.zeros((64, 2), "float32"), np.ones((64, 1), "float32"))
    log = FineTune(epochs=30, learning_rate=0.05)(two_outputs(2), Data(Split(x, y))).log
    assert log["history"]["loss"][-1] < 0.5 * log["history"]["loss"][0]
    with pytest.raises(DataError, match=r"each output needs its own: 2 outputs. Received: 1 label"):
        FineTune()(two_outputs(2), Data(Split(x, y[0])))


def test_labels_and_teacher_together(digits):
    model = network("linear")
    model.get_layer("norm").trainable = False  # In training mode it would not normalize as the teacher does.
    one_step = {"steps_per_epoch": 1, "batch_size": 200}
    plain = FineTune(**one_step)(model, digits)
    # The model as its own teacher: no divergence, so half the label loss is left.
    mixed = FineTune(teacher_weight=0.5, **one_step)(model, digits)
    assert mixed.log["teacher_weight"] == 0.5
    assert mixed.log["history"]["loss"][0] == pytest.approx(0.5 * plain.log["history"]["loss"][0], rel=1e-4)
    assert mixed.log["history"]["accuracy"] == plain.log["history"]["accuracy"]
    # Another teacher: KL(teacher || model) at the first step, in NumPy.
    teacher = network("linear", seed=9)
    x = digits.train.x
    expected, got = (scipy.special.log_softmax(m.predict(x, verbose=0), -1) for m in (teacher, model))
    divergence = np.mean(np.sum(np.exp(expected) * (expected - got), -1))
    other = FineTune(teacher_weight=0.5, **one_step)(model, digits, teacher=teacher).log["history"]["loss"][0]
    assert other == pytest.approx(0.5 * plain.log["history"]["loss"][0] + 0.5 * divergence, rel=1e-4)


def test_a_teacher_of_other_outputs_is_refused(digits):
    with pytest.raises(ModelError, match=r"Received: \[\(None, 10\)\] against \[\(None, 3\)\]"):
        FineTune()(network(), Data(digits.train.x), teacher=network(classes=3))


# What cannot be trained.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, r"epochs must be at least 1. Received: epochs=0 \(FineTune\)"),
        ({"epochs": 1.5}, "Received: epochs=1.5"),
        ({"batch_size": True}, "Received: batch_size=True"),
        ({"patience": 0}, "Received: patience=0"),
        (
            {"learning_rate": -1},
            r"learning_rate must be above 0. Received: learning_rate=-1 \(FineTune\). Use e.g. 0.001",
        ),
        ({"learning_rate": "fast"}, "Received: learning_rate='fast'"),
        ({"holdout": 1.0}, r"holdout must be in \(0, 1\). Received: holdout=1.0"),
        ({"teacher_weight": 1}, "Received: teacher_weight=1 "),
        ({"augment": "flip"}, "augment must be one of none, shift, crop, crop_flip. Received: augment='flip'"),
        ({"schedule": "linear"}, "one of constant, cosine. Received: schedule='linear'"),
    ],
)
def test_settings_outside_their_domain(settings, message):
    with pytest.raises(SettingError, match=message):
        FineTune(**settings)


def test_what_keras_does_not_know(digits):
    with pytest.raises(SettingError, match="Received: optimizer='adamant'"):
        FineTune(optimizer="adamant")(network(), digits)
    with pytest.raises(SettingError, match="Received: loss='sorrow'"):
        FineTune(loss="sorrow")(network(), digits)


def test_data_that_cannot_be_learned_from(digits):
    for data in (None, Data(validation=digits.validation)):
        with pytest.raises(DataError, match=r"learns from data\.train\. Received: no training data"):
            FineTune()(network(), data)
    with pytest.raises(DataError, match=r"y\[0\] = 10 \(train\)"):
        FineTune()(network(), Data((digits.train.x[:2], np.array([10, 0]))))
    with pytest.raises(SettingError, match="augment='crop'"):
        FineTune(augment="crop")(
            two_outputs(0), Data(Split(tuple(np.zeros((4, t.shape[1])) for t in two_outputs(0).inputs)))
        )
    with pytest.raises(DataError, match=r"must fit the data. Received: .*FineTune\(loss="):
        FineTune(loss="categorical_crossentropy")(network(), digits)


def test_a_loss_that_is_no_number_ends_the_run(digits):
    with pytest.raises(ParedownError, match=r"in epoch \d, step \d+, with learning_rate=1e\+38.*learning_rate=1e\+37"):
        FineTune(optimizer="sgd", learning_rate=1e38, epochs=3)(network("linear"), digits)


# How it reads, and what it shows.


def test_every_row_once_per_pass_in_changing_order():
    split = Split(np.arange(10), np.arange(10))
    batches = ShuffledBatches(split, 4, None, 0, "none", lambda x, y: (x, y))
    epochs = []
    for batches.epoch in range(2):
        epochs.append([batches[i][0].tolist() for i in range(len(batches))])
    assert [len(batch) for batch in epochs[0]] == [4, 4, 2]
    assert [sorted(chain(*epoch)) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]


def test_short_epochs_go_on_where_the_last_one_ended(digits):
    split = Split(np.arange(12))
    batches = ShuffledBatches(split, 4, 2, 0, "none", lambda x, y: (x,))
    seen = []
    for batches.epoch in range(3):
        seen += [batches[i][0].tolist() for i in range(2)]
    assert sorted(chain(*seen[:3])) == sorted(chain(*seen[3:])) == list(range(12))
    log = FineTune(epochs=3, steps_per_epoch=2, batch_size=20)(network(), digits).log
    assert len(log["history"]["loss"]) == 3


def test_fit_moves_on_through_the_data(digits, monkeypatch):
    """Each epoch of `fit` reads the batches of its own number."""
    seen = []
    real = ShuffledBatches.__getitem__

    def watched(self, index):
        seen.append((self.epoch, index))
        return real(self, index)

    monkeypatch.setattr(ShuffledBatches, "__getitem__", watched)
    FineTune(epochs=3, batch_size=100)(network(), digits)
    # Before that, Keras looks at the first batches to learn their shapes.
    assert seen[-6:] == [(epoch, index) for epoch in range(3) for index in range(2)]


@pytest.mark.parametrize(("name", "most"), [("shift", LITTLE), ("crop", MUCH)])
def test_images_are_shifted(name, most):
    images = np.zeros((400, 9, 9, 1), "uint8")
    images[:, 4, 2] = 255
    shifted = AUGMENT[name](images, np.random.default_rng(0))
    assert (shifted.shape, shifted.dtype) == (images.shape, images.dtype)
    rows, columns = np.argwhere(shifted[..., 0])[:, 1:].T
    assert set(rows) == set(range(4 - most, 4 + most + 1))
    # What is left of column 0 lies outside: those pixels are gone.
    assert set(columns) == set(range(max(0, 2 - most), 2 + most + 1))


def test_flip_mirrors():
    images = np.zeros((400, 9, 9, 1), "uint8")
    images[:, 4, 2] = 255
    mirrored = AUGMENT["crop_flip"](images, np.random.default_rng(0))
    # Mirrored, the pixel starts from column 8 - 2 and gets as far as the edge.
    assert set(np.argwhere(mirrored[..., 0])[:, 2]) == set(range(9))


def test_the_pace_is_that_of_steps_behind_the_first(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("paredown.transforms.watch.time.monotonic", lambda: now[0])
    pace = Pace()
    for epoch in range(2):
        pace.on_epoch_begin(epoch)
        # Before the first execution of ten steps everything is compiled.
        for batch, seconds in ((9, 100.0), (19, 1.0), (29, 3.0)):
            now[0] += seconds
            pace.on_train_batch_end(batch)
    assert pace.seconds_per_step == pytest.approx(4.0 / 20)


def test_one_execution_has_no_pace(digits):
    for tune, told in (
        (FineTune(steps_per_epoch=2, steps_per_execution=2), False),
        (FineTune(steps_per_epoch=3), True),
    ):
        with paced() as pace:
            tune(network(), digits)
        assert (pace.seconds_per_step is not None) == told


def test_progress_says_epoch_and_figures(digits):
    shown = []

    class Display:
        def __init__(self, label, total):
            shown.append([label, total, 0])

        def __enter__(self):
            return self.advance

        def advance(self, amount):
            shown[-1][2] += amount

        def __exit__(self, *error):
            return None

    with progress.showing(Display):
        FineTune(epochs=2, batch_size=50)(network(), digits)
    assert [(total, done) for _, total, done in shown] == [(200 / 50, 200 / 50)] * 2
    assert shown[0][0] == "Fine-tune, epoch 1 of 2"
    assert shown[1][0].startswith("Fine-tune, epoch 2 of 2 (")
    assert "accuracy 0." in shown[1][0]


def test_the_temperature_softens_what_the_teacher_says(digits):
    model, teacher = network("linear"), network("linear", seed=9)
    model.get_layer("norm").trainable = False  # In training mode it would not normalize as the teacher does.
    one_step = {"steps_per_epoch": 1, "batch_size": 200}
    x, _ = digits.train.rows(np.arange(200))
    hot = FineTune(teacher_weight=0.5, temperature=4.0, **one_step)
    seen = hot(model, Data(train=(x, digits.train.y[:200])), teacher=teacher).log["history"]["loss"][0]
    plain = FineTune(**one_step)(model, Data(train=(x, digits.train.y[:200]))).log["history"]["loss"][0]
    expected, got = (scipy.special.log_softmax(np.array(m(x, training=False)) / 4, -1) for m in (teacher, model))
    divergence = 4**2 * (np.exp(expected) * (expected - got)).sum(-1).mean()
    assert seen == pytest.approx(0.5 * plain + 0.5 * divergence, rel=1e-3)


def test_frozen_statistics_stay_and_gamma_learns(digits):
    model = network()
    frozen = FineTune(epochs=1, frozen_statistics=True)(model, digits).model.get_layer("norm")
    free = FineTune(epochs=1)(model, digits).model.get_layer("norm")
    before = model.get_layer("norm")
    assert type(frozen) is layers.BatchNormalization
    for name, stays in (("moving_mean", True), ("moving_variance", True), ("gamma", False), ("beta", False)):
        assert np.array_equal(*(np.array(getattr(layer, name)) for layer in (before, frozen))) is stays
        assert not np.array_equal(*(np.array(getattr(layer, name)) for layer in (before, free)))

"""compress, whole: what it writes, what it records, how it goes on after an interruption, what it refuses."""

import dataclasses
import errno
import json
import os
import shutil

import keras
import numpy as np
import pytest
from keras import layers

from paredown import Data, FineTune, PruneChannels, Recipe, compress, pipeline
from paredown.errors import CheckError, DataError, ModelError, OutputError, SettingError
from paredown.measure import latency, score_litert
from paredown.report.notices import notices
from paredown.run import RESULTS, WORK
from paredown.transforms.prune_channels import PruneChannels as Prune


@pytest.fixture(scope="module")
def digits():
    full = Data.load("digits")
    return Data(full.train.take(256), full.validation.take(100), name="digits")


def network(seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Rescaling(1 / 255, name="rescale")(image)
    x = layers.Conv2D(12, 5, strides=2, name="conv")(x)
    x = layers.BatchNormalization(momentum=0.7, name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="conv2")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="scores")(x), name="small")


RECIPE = Recipe([PruneChannels(criterion="activation_count", macs=0.5), FineTune(epochs=1)], "int8")


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = network()
    before = [w.numpy() for w in model.weights]
    run = compress(model, RECIPE, digits, out=folder)
    return model, before, run, folder


def test_writes_its_files_and_nothing_else(finished):
    *_, folder = finished
    assert sorted(p.name for p in folder.iterdir()) == sorted(RESULTS)


def test_the_input_model_is_untouched(finished):
    model, before, *_ = finished
    assert all(np.array_equal(a, w.numpy()) for a, w in zip(before, model.weights, strict=True))
    assert not model.compiled


def test_the_record_is_true(finished, digits):
    model, _, run, folder = finished
    record = json.loads((folder / "run.json").read_text())
    assert record == json.loads(json.dumps(run.record))
    before, after = record["original"], record["compressed"]
    conv, conv2 = 12 * 12 * 25 * 12, 5 * 5 * 9 * 12 * 16
    assert before["macs"] == conv + conv2 + 16 * 10
    assert after["macs"] <= 0.5 * before["macs"]
    assert before["params"] == model.count_params()
    assert after["params"] == run.model.count_params()
    assert after["size_bytes"] == (folder / "model.tflite").stat().st_size
    assert after["score"] == score_litert(folder / "model.tflite", digits.validation).value
    assert after["latency_ms"] > 0
    assert [row["label"] for row in record["latency"]["rows"]] == ["original", "1 prune_channels", "compressed"]
    assert [step["name"] for step in record["steps"]] == ["prune_channels", "fine_tune"]
    assert all(check["passed"] for step in record["steps"] for check in step["checks"])
    assert [check["name"] for check in record["steps"][0]["checks"]] == ["pruned equals masked", "litert equals keras"]
    assert Recipe.from_yaml(record["recipe"]) == RECIPE == Recipe.load(folder / "recipe.yaml")
    assert record["environment"]["keras"] == keras.__version__
    conv_row = next(row for row in record["layers"] if row["name"] == "conv")
    assert (conv_row["channels_before"], conv_row["macs_before"]) == (12, conv)
    assert conv_row["channels_after"] == run.model.get_layer("conv").filters < 12


def test_the_saved_network_is_the_runs_and_plain_keras(finished, digits):
    _, _, run, folder = finished
    again = keras.models.load_model(folder / "model.keras")
    x = np.asarray(digits.validation.x[:8], "float32")
    assert np.array_equal(again.predict(x, verbose=0), run.model.predict(x, verbose=0))
    assert {"conv", "norm", "conv2", "scores"} <= {layer.name for layer in again.layers}


def test_the_page_stands_alone(finished):
    *_, folder = finished
    page = (folder / "report.html").read_text()
    assert "small" in page
    assert 'src="http' not in page


@pytest.fixture(scope="module")
def again(digits):
    """The run once more, where no step is slower than what was before it."""
    with pytest.MonkeyPatch.context() as patched:
        _slow(patched)
        return compress(network(), RECIPE, digits, no_slower=True)


def test_same_seed_same_network(finished, again):
    _, _, run, _ = finished
    for a, b in zip(run.model.weights, again.model.weights, strict=True):
        assert np.array_equal(a.numpy(), b.numpy()), a.path


class _Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def _killed(self, *args):
    raise _Killed


@pytest.fixture(scope="module")
def interrupted(digits, tmp_path_factory):
    """The folder of a run that was killed in its second step, and how often it pruned."""
    folder, calls, real = tmp_path_factory.mktemp("interrupted"), [], Prune.apply

    def pruned(self, *args):
        calls.append("prune")
        return real(self, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Prune, "apply", pruned)
        patched.setattr(FineTune, "apply", _killed)
        with pytest.raises(_Killed):
            compress(network(), RECIPE, digits, out=folder)
    return folder, calls


def test_an_interrupted_run_continues(finished, interrupted, digits, tmp_path, monkeypatch):
    _, _, whole, _ = finished
    folder, calls = interrupted
    assert calls == ["prune"]
    assert [p.name for p in folder.iterdir()] == [WORK]
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(Prune, "apply", _killed)
    run = compress(network(), RECIPE, digits, out=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(RESULTS)
    for a, b in zip(whole.model.weights, run.model.weights, strict=True):
        assert np.array_equal(a.numpy(), b.numpy()), a.path


def test_a_changed_recipe_does_not_continue_from_another(interrupted, digits, tmp_path):
    shutil.copytree(interrupted[0], tmp_path, dirs_exist_ok=True)
    other = Recipe([PruneChannels(criterion="l2_norm", sparsity=0.25), FineTune(epochs=1)])
    run = compress(network(), other, digits, out=tmp_path)
    assert run.model.get_layer("conv").filters == 12 - 12 // 4


def _slow(monkeypatch, *stems):
    """Files with one of these in their names take twice as long as others, as the pipeline sees it."""

    def measured(paths, threads=1, runs=50):
        found = latency.measure_latency(paths, threads, 1)
        speeds = [0.5 if any(stem in os.fspath(path) for stem in stems) else 1.0 for path in paths]
        ratios = zip(found.rows, speeds, strict=True)
        rows = [dataclasses.replace(row, speedup_median=speed / speeds[0]) for row, speed in ratios]
        return dataclasses.replace(found, rows=tuple(rows))

    monkeypatch.setattr(pipeline, "measure_latency", measured)


TWO = [PruneChannels(criterion="l1_norm", sparsity=0.5), PruneChannels(criterion="l2_norm", sparsity=0.25)]


@pytest.fixture(scope="module")
def first_key(digits):
    """The key of the first step of TWO, which its file is named by."""
    return pipeline.next_key(*_first_step(digits))


def test_a_step_that_is_slower_is_undone(first_key, digits, tmp_path, monkeypatch):
    once = TWO[1](network(), digits)
    _slow(monkeypatch, first_key)
    run = compress(network(), Recipe(TWO), digits, out=tmp_path, no_slower=True)
    one, two = run.record["steps"]
    assert one["undone"]["speedup"] == 0.5
    assert one["changes"] == []
    assert one["macs"] == run.record["original"]["macs"]
    assert one["score"] == run.record["original"]["keras_score"]
    assert "undone" not in two
    for a, b in zip(once.model.weights, run.model.weights, strict=True):
        assert np.array_equal(a.numpy(), b.numpy())
    (said,) = [notice for notice in notices(run.record) if "undone" in notice.title]
    assert said.title == "1 prune_channels was undone: it made the network 2.00 × slower"


def _first_step(digits):
    """What the first step's key is made of."""
    arguments = []

    def stopped(*given):
        arguments.extend(given)
        raise _Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "next_key", stopped)
        with pytest.raises(_Killed):
            compress(network(), Recipe(TWO), digits, no_slower=True)
    return arguments


def test_an_undone_step_stays_undone_when_a_run_continues(first_key, digits, tmp_path, monkeypatch):
    _slow(monkeypatch, first_key)
    real = FineTune.apply
    monkeypatch.setattr(FineTune, "apply", _killed)
    recipe = Recipe([*TWO, FineTune(epochs=1)])
    with pytest.raises(_Killed):
        compress(network(), recipe, digits, out=tmp_path, no_slower=True)
    monkeypatch.setattr(FineTune, "apply", real)
    monkeypatch.setattr(Prune, "apply", _killed)
    run = compress(network(), recipe, digits, out=tmp_path, no_slower=True)
    assert [bool(step.get("undone")) for step in run.record["steps"]] == [True, False, False]
    assert run.model.get_layer("conv").filters == 12 - 12 // 4


def test_a_quantization_that_is_slower_is_undone(digits, tmp_path, monkeypatch):
    _slow(monkeypatch, "model.tflite")
    run = compress(network(), Recipe([], "int8"), digits, out=tmp_path, no_slower=True)
    assert run.record["export"]["quantization"] is None
    assert run.record["export"]["undone"]["quantization"] == "int8"
    assert score_litert(tmp_path / "model.tflite", digits.validation).value == run.record["compressed"]["score"]
    assert run.record["compressed"]["size_bytes"] == (tmp_path / "model.tflite").stat().st_size
    (said,) = [notice for notice in notices(run.record) if "undone" in notice.title]
    assert said.title.startswith("Quantization (int8) was undone")


def shared() -> keras.Model:
    model = network()
    kernel = model.get_layer("conv2").kernel
    kernel.assign(np.float32([-0.1, 0, 0.1, 0.2])[np.random.default_rng(0).integers(0, 4, kernel.shape)])
    return model


def test_shared_weights_are_packed(digits):
    run = compress(shared(), Recipe([], pack="ship"), digits)
    packing, after = run.record["export"]["packing"], run.record["compressed"]
    (kernel,) = packing["kernels"]
    assert (packing["form"], kernel["name"], kernel["bits"]) == ("ship", "conv2", 2)
    assert len(run.tflite) == after["size_bytes"] == packing["after"]["file_bytes"]
    assert "packed equals plain" in {check["name"] for check in run.record["export"]["checks"]}
    # All that a packed network runs is in the report's shares of its time.
    assert {"conv", "conv2"} <= {row["layer"] for row in run.record["roofline"]["compressed"]["layers"]}


def test_packing_that_is_slower_is_undone(digits, tmp_path, monkeypatch):
    _slow(monkeypatch, "model.tflite")
    run = compress(shared(), Recipe([], pack="ship"), digits, out=tmp_path, no_slower=True)
    assert "packing" not in run.record["export"]
    assert run.record["compressed"]["size_bytes"] == (tmp_path / "model.tflite").stat().st_size
    (said,) = [notice for notice in notices(run.record) if "undone" in notice.title]
    assert said.title.startswith("Packing (ship) was undone")


def test_what_is_not_slower_stays(again):
    assert not any(step.get("undone") for step in again.record["steps"])
    assert again.record["export"]["quantization"] == "int8"
    assert again.model.count_params() < network().count_params()


def test_a_full_disk_leaves_nothing_half_written(digits, tmp_path, monkeypatch):
    real = os.replace

    def full(source, target):
        if str(target).endswith("run.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"run\.json.*No space left on device"):
        compress(network(), Recipe([PruneChannels(criterion="random", sparsity=0.5)]), digits, out=tmp_path)
    assert not (tmp_path / "run.json").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".run")]


def test_a_change_that_does_not_prove_itself_is_refused(digits, monkeypatch):
    def wrong(self, model, data, seed, teacher):
        result = real(self, model, data, seed, teacher)
        kernel = result.model.get_layer("conv").kernel
        kernel.assign(kernel * 2)
        return result

    real = Prune.apply
    monkeypatch.setattr(Prune, "apply", wrong)
    with pytest.raises(CheckError, match=r"pruned equals masked to .* \(transform 1, PruneChannels\)"):
        compress(network(), Recipe([PruneChannels(criterion="l1_norm", sparsity=0.5)]), digits)


def test_without_labels_the_originals_outputs_are_the_target(digits):
    data = Data(train=digits.train.x, validation=digits.validation.x)
    prune = PruneChannels(criterion="l2_norm", sparsity=0.25, compensate=False)
    run = compress(network(), Recipe([prune, FineTune(epochs=12)]), data)
    steps = run.record["steps"]
    assert run.record["metric"] == {"name": "output_error", "higher_is_better": False}
    assert run.record["original"]["keras_score"] == 0
    assert 0 < steps[1]["score"] < steps[0]["score"]
    assert steps[1]["log"]["target"] == "original outputs"


@pytest.fixture(scope="module")
def exported(finished, digits, tmp_path_factory):
    """A run of the empty recipe, in a folder that holds another's results; and the folder."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copytree(finished[3], folder, dirs_exist_ok=True)
    return compress(network(), Recipe(), digits, out=folder), folder


def test_an_empty_recipe_is_an_export(exported):
    run, _ = exported
    assert run.record["steps"] == []
    assert run.record["original"]["macs"] == run.record["compressed"]["macs"]
    assert abs(run.record["original"]["score"] - run.record["compressed"]["score"]) < 1e-9


def test_the_users_own_files_are_never_overwritten(digits, tmp_path):
    theirs = tmp_path / "model.keras"
    network().save(theirs)
    content = theirs.read_bytes()
    with pytest.raises(OutputError, match="must not overwrite the network it is made from"):
        compress(theirs, Recipe(), digits, out=tmp_path)
    with pytest.raises(OutputError, match=r"model\.keras', which no run wrote"):
        compress(network(), Recipe(), digits, out=tmp_path)
    assert theirs.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]


def test_a_second_run_replaces_the_first(finished, exported):
    run, folder = exported
    params = json.loads((folder / "run.json").read_text())["compressed"]["params"]
    assert params == run.model.count_params() > finished[2].model.count_params()
    assert (folder / "model.tflite").read_bytes() == run.tflite != finished[2].tflite
    assert sorted(p.name for p in folder.iterdir()) == sorted(RESULTS)


def test_bad_input_is_refused_before_any_work(digits, tmp_path):
    with pytest.raises(SettingError, match=r"data must be a paredown\.Data\. Received: tuple"):
        compress(network(), Recipe(), (digits.train.x, None))
    with pytest.raises(DataError, match=r"28, 28"):
        compress(network(), Recipe(), Data(train=np.zeros((4, 28, 28), "float32")))
    broken = network()
    broken.get_layer("conv").bias.assign(np.full(12, np.nan))
    with pytest.raises(ModelError, match="conv"):
        compress(broken, Recipe(), digits)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match=r"file/out"):
        compress(network(), Recipe(), digits, out=blocked / "out")


def test_latency_is_measured_on_one_thread(finished):
    _, _, run, _ = finished
    latency = run.record["latency"]
    assert (latency["threads"], latency["runs"]) == (1, pipeline.LATENCY_RUNS)
    assert len(latency["rows"][2]["times_ms"]) == pipeline.LATENCY_RUNS


def test_bytes_go_into_a_network_that_starts_with_a_convolution(digits):
    keras.utils.set_random_seed(0)
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(6, 5, strides=4, activation="relu", name="conv")(image)
    x = layers.Conv2D(6, 3, activation="relu", name="conv2")(x)
    model = keras.Model(image, layers.Dense(10, activation="softmax")(layers.Flatten()(x)), name="bytes")
    assert digits.train.x.dtype == np.uint8
    run = compress(model, Recipe([PruneChannels(criterion="activation_count", sparsity=0.5)]), digits)
    assert run.model.get_layer("conv").filters == 6 - 6 // 2


def test_without_validation_data_a_tenth_is_held_out(digits):
    run = compress(network(), Recipe(), Data(train=digits.train))
    assert (run.record["data"]["train"], run.record["data"]["validation"]) == (256 - 26, 26)
    assert "26 rows held out of train" in run.record["data"]["note"]


def test_another_tools_run_json_is_no_permission(digits, tmp_path):
    (tmp_path / "run.json").write_text('{"tool": "other"}')
    with pytest.raises(OutputError, match=r"run\.json', which no run wrote"):
        compress(network(), Recipe(), digits, out=tmp_path)


def cubed_error(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** 3, axis=-1)


def test_a_run_with_a_loss_of_ones_own_continues(digits, tmp_path, monkeypatch):
    def compiled():
        model = network()
        model.compile("sgd", cubed_error)
        return model

    data = Data((digits.train.x, np.eye(10, dtype="float32")[digits.train.y]), digits.validation)
    real = FineTune.apply
    monkeypatch.setattr(FineTune, "apply", _killed)
    with pytest.raises(_Killed):
        compress(compiled(), RECIPE, data, out=tmp_path)
    monkeypatch.setattr(FineTune, "apply", real)
    run = compress(compiled(), RECIPE, data, out=tmp_path)
    assert run.record["steps"][1]["log"]["loss"] == "cubed_error"

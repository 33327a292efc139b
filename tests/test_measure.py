"""Size, latency and accuracy of .tflite files, with expected values worked out by hand."""

import logging
import os
import sys
import zlib

import keras
import numpy as np
import pytest
from keras import layers

import export_nets
from paredown import progress
from paredown.data import Split
from paredown.errors import DataError, ModelError, SettingError
from paredown.export import export_litert
from paredown.measure import (
    LiteRTRunner,
    Score,
    latency,
    measure_latency,
    score_keras,
    score_litert,
    size_bytes,
    zipped_bytes,
)
from paredown.measure.quiet import quiet


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """files(name, model) -> path of the model's float32 .tflite, made once for each name."""
    folder = tmp_path_factory.mktemp("measure")

    def write(name, model):
        path = folder / f"{name}.tflite"
        if not path.exists():
            export_litert(model, path, data=export_nets.data(model))
        return path

    return write


def same(shape=(3,), outputs=1):
    """A network that gives its input back (a Dense layer of ones on the diagonal, so that LiteRT has work)."""
    x = keras.Input(shape)
    given = [layers.Dense(shape[-1], kernel_initializer="identity", use_bias=False)(x) for _ in range(outputs)]
    return keras.Model(x, given)


def both(model, path, split, reference=None):
    """The score, which is the same from Keras and from the file."""
    a, b = score_keras(model, split, reference), score_litert(path, split, reference)
    assert (a.name, a.higher_is_better) == (b.name, b.higher_is_better)
    assert a.value == pytest.approx(b.value, rel=1e-5)
    return b


SCORES = np.array([[0.1, 0.7, 0.2], [0.9, 0.0, 0.1], [0.2, 0.3, 0.5], [0.4, 0.5, 0.1]], "float32")


@pytest.mark.parametrize(
    "labels",
    [
        np.array([1, 0, 2, 0]),
        np.array([[1], [0], [2], [0]], "uint8"),
        np.eye(3)[[1, 0, 2, 0]],
        np.eye(3, dtype="int64")[[1, 0, 2, 0]],
        (np.array([1, 0, 2, 0]),),
    ],
    ids=["indices", "column", "one-hot", "one-hot integers", "tuple"],
)
def test_accuracy_of_class_scores(files, labels):
    model = same()
    assert both(model, files("three", model), Split(SCORES, labels)) == Score("accuracy", 3 / 4, True)


def test_accuracy_of_a_map_counts_positions(files):
    model = same((2, 2, 3))
    x = SCORES.reshape(1, 2, 2, 3)
    split = Split(np.repeat(x, 2, 0), np.array([[[1, 0], [2, 0]], [[1, 1], [1, 1]]]))
    assert both(model, files("map", model), split) == Score("accuracy", (3 + 2) / 8, True)


def test_accuracy_of_a_single_score_is_taken_at_one_half(files):
    model = same((1,))
    split = Split(np.array([[0.6], [0.2], [0.9]], "float32"), np.array([1, 1, 1]))
    assert both(model, files("one", model), split) == Score("accuracy", 2 / 3, True)


def test_mean_squared_error_of_other_targets(files):
    model = same()
    split = Split(np.zeros((2, 3), "float32"), np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 2.0]]))
    score = both(model, files("three", model), split)
    assert (score.name, score.higher_is_better) == ("mean_squared_error", False)
    assert score.value == pytest.approx((1 + 4 + 9 + 0 + 0 + 4) / 6)
    counts = Split(np.zeros((2, 1), "float32"), np.array([3, 1]))
    assert both(same((1,)), files("one", same((1,))), counts).value == pytest.approx((9 + 1) / 2)


def test_output_error_is_over_the_reference_spread(files):
    model = same(outputs=2)
    path = files("pair", model)
    x = SCORES
    reference = [x + 0.5, x]
    expected = np.sqrt((0.25 / np.var(x.astype("float64")) + 0.0) / 2)
    score = both(model, path, Split(x), reference)
    assert score == Score("output_error", pytest.approx(expected, rel=1e-5), False)
    assert both(model, path, Split(x)) == Score("output_error", 0.0, False)
    constant = [np.full_like(x, 2.0), x]
    expected = np.sqrt((np.square(x.astype("float64") - 2).mean() / 2**2 + 0.0) / 2)
    assert both(model, path, Split(x), constant).value == pytest.approx(expected, rel=1e-5)


def test_scores_stream_in_batches_of_any_length(files):
    model = same()
    path = files("three", model)
    x = np.random.default_rng(0).random((600, 3)).astype("float32")  # 600 rows: batches of 256, 256 and 88.
    y = x.argmax(-1)
    y[:30] = (y[:30] + 1) % 3
    assert both(model, path, Split(x, y)).value == pytest.approx(570 / 600)
    assert both(model, path, Split(x), [x]).value < 1e-6


def test_wrong_labels_and_references(files):
    model = same()
    with pytest.raises(DataError, match=r"first output, \(n, 3\). Received: \(n, 5\) of float64"):
        score_keras(model, Split(SCORES, np.zeros((4, 5))))
    with pytest.raises(DataError, match=r"Received: \[\(4, 2\)\] for rows 0 to 4; the network gives \[\(4, 3\)\]"):
        score_litert(files("three", model), Split(SCORES), [np.zeros((4, 2))])


def test_nan_scores_hit_nothing():
    nan = np.full((2, 3), np.nan, "float32")
    assert score_keras(same(), Split(nan, np.array([0, 0]))).value == 0.0


def test_runner_equals_keras_over_batches_and_inputs(files):
    model = export_nets.make("two_inputs")
    columns = export_nets.inputs(model, 7)
    (got,) = LiteRTRunner(files("two_inputs", model), threads=2).run(columns)
    assert got.shape == (7, 4)
    np.testing.assert_allclose(got, model(list(columns)).numpy(), atol=1e-5)


def test_runner_follows_the_signature_of_a_keras_export(tmp_path):
    model = export_nets.make("two_outputs")
    signature = [keras.InputSpec(shape=(1, 8, 8, 3), dtype="float32")]
    model.export(str(tmp_path / "x.tflite"), format="litert", input_signature=signature, verbose=False)
    (x,) = export_nets.inputs(model, 3)
    for got, wanted in zip(LiteRTRunner(tmp_path / "x.tflite").run(x), model(x), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_runner_refuses_what_does_not_fit(files, tmp_path):
    path = files("three", same())
    runner = LiteRTRunner(path)
    with pytest.raises(DataError, match=r"shape \(n, 3\), n >= 1. Received: \(2, 4\)"):
        runner.run(np.zeros((2, 4)))
    with pytest.raises(DataError, match=r"three.tflite \(1\). Received: 2"):
        runner.run((np.zeros((2, 3)), np.zeros((2, 3))))
    with pytest.raises(SettingError, match="threads=0"):
        LiteRTRunner(path, threads=0)
    same().export(str(tmp_path / "free.tflite"), format="litert", verbose=False)
    assert LiteRTRunner(tmp_path / "free.tflite").run(SCORES)[0].shape == (4, 3)
    image = keras.Input((None, None, 3))
    keras.Model(image, layers.Conv2D(2, 1)(image)).export(str(tmp_path / "size.tflite"), format="litert", verbose=False)
    with pytest.raises(ModelError, match=r"size.tflite with an input of shape \(-1, -1, -1, 3\)"):
        LiteRTRunner(tmp_path / "size.tflite")


def test_quiet_holds_back_standard_error_only(capfd):
    def speak(word):
        os.write(2, f"C++ {word}\n".encode())
        print("Python", word, file=sys.stderr)
        print("result", word)

    level = logging.getLogger("absl").level
    with quiet():
        speak("inside")
        assert logging.getLogger("absl").level == logging.ERROR
    speak("outside")
    captured = capfd.readouterr()
    assert captured.err == "C++ outside\nPython outside\n"
    assert captured.out == "result inside\nresult outside\n"
    assert logging.getLogger("absl").level == level


def test_sizes(tmp_path):
    content = b"\x1c\0\0\0TFL3" + b"a" * 10_000
    (tmp_path / "x.tflite").write_bytes(content)
    assert size_bytes(tmp_path / "x.tflite") == 8 + 10_000
    # A zlib stream is the raw deflate stream with 2 bytes before and 4 after.
    assert zipped_bytes(str(tmp_path / "x.tflite")) == len(zlib.compress(content, 9)) - 6


@pytest.mark.parametrize("use", [size_bytes, zipped_bytes, LiteRTRunner, measure_latency])
def test_no_tflite_file(use, tmp_path):
    with pytest.raises(ModelError, match=r"must exist. Received: .*none.tflite, which is no file"):
        use(tmp_path / "none.tflite")
    (tmp_path / "x.tflite").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ModelError, match=r"x.tflite, which begins with b'PK"):
        use(tmp_path / "x.tflite")


def test_damaged_file(files, tmp_path):
    (tmp_path / "x.tflite").write_bytes(files("three", same()).read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"able to load the file. Received: .*x.tflite: .*[Ff]latbuffer"):
        LiteRTRunner(tmp_path / "x.tflite")


def test_latency_is_paired_with_the_first(files):
    small = files("three", same())
    image = keras.Input((48, 48, 8))
    large = files("large", keras.Model(image, layers.Conv2D(64, 5)(layers.Conv2D(64, 5)(image))))
    report = measure_latency([large, small], threads=1, runs=12, warmup=2)
    assert (report.threads, report.runs, report.warmup) == (1, 12, 2)
    assert report.runtime.startswith("ai-edge-litert 2.")
    first, second = report.rows
    assert (first.path, second.path) == (str(large), str(small))
    assert (first.speedup_median, first.speedup_p10, first.speedup_p90) == (1.0, 1.0, 1.0)
    assert len(first.times_ms) == len(second.times_ms) == 12
    ratios = np.array(first.times_ms) / second.times_ms
    assert second.speedup_median == pytest.approx(np.median(ratios))
    assert second.speedup_p10 <= second.speedup_median <= second.speedup_p90
    assert second.p10_ms <= second.median_ms <= second.p90_ms
    # 44² x 64 x 5² x 8 + 40² x 64 x 5² x 64 = 189 M MACs against 9.
    assert second.speedup_median > 20
    assert report.to_dict()["rows"][1]["speedup_median"] == second.speedup_median


def test_files_take_turns_and_short_ones_are_timed_several_at_once(files, monkeypatch):
    path, calls, advanced = files("three", same()), [], []
    monkeypatch.setattr(latency, "_time_ms", lambda runner, repeat: calls.append((id(runner), repeat)) or 0.3)
    display = progress.contextmanager(lambda label, total: iter([advanced.append]))
    with progress.showing(display):
        report = measure_latency([path, path], runs=3, warmup=2)
    a, b = calls[0][0], calls[2][0]
    # Warm-up one inference at a time; then 1 ms / 0.3 ms = 3.3, so four in one timing.
    assert calls == [(a, 1)] * 2 + [(b, 1)] * 2 + [(a, 4), (b, 4)] * 3
    assert advanced == [1, 1, 1]
    assert report.rows[1].times_ms == [0.3, 0.3, 0.3]


def test_one_file_alone(files):
    (row,) = measure_latency(files("three", same()), runs=2, warmup=1).rows
    assert row.speedup_median == 1.0
    assert 0 < row.median_ms < 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 0}, "threads must be a whole number, at least 1. Received: threads=0"),
        ({"threads": 1.5}, "Received: threads=1.5"),
        ({"runs": 0}, "runs must be at least 1. Received: runs=0"),
        ({"warmup": 0}, "warmup must be at least 1. Received: warmup=0"),
        ({"paths": []}, "files must be at least 1. Received: files=0"),
    ],
)
def test_latency_settings(files, settings, message):
    with pytest.raises(SettingError, match=message):
        measure_latency(**{"paths": [files("three", same())], **settings})

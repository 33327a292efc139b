"""Reading and writing `.keras` files, and everything that can be wrong with one."""

import errno
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from paredown.errors import ModelError, OutputError
from paredown.model_file import check_model, load_model, save_model


def small(name="small"):
    x = keras.Input((4,), name="x")
    return keras.Model(x, keras.layers.Dense(3, name="dense")(x), name=name)


class Odd(keras.layers.Layer):
    def call(self, x):
        return x


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "m.keras"
    small().save(path)
    return path


def test_round_trip_is_exact_and_replaces(tmp_path):
    path = tmp_path / "new" / "m.keras"
    model = small()
    model.compile("sgd", "mean_squared_error")
    for _ in range(2):
        assert save_model(model, path) == path
    plain = keras.models.load_model(path)
    assert isinstance(plain.optimizer, keras.optimizers.SGD)
    for a, b, c in zip(model.get_weights(), plain.get_weights(), load_model(path).get_weights(), strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(a, c)
    assert os.listdir(path.parent) == ["m.keras"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"", "an empty file"),
        (b"\x89PNG\r\n\x1a\n...", "a PNG image"),
        (b"\x1c\x00\x00\x00TFL3....", "a .tflite file"),
        (b"hello world", r"begins with b'hell'"),
        (b"\x89HDF\r\n\x1a\n", r"an HDF5 file. Convert it: keras.models.load_model\(path, compile=False\).save"),
    ],
)
def test_other_kinds_of_file(tmp_path, start, message):
    path = tmp_path / "model.keras"
    path.write_bytes(start)
    with pytest.raises(ModelError, match=rf"must be a .keras file. Received: .*model.keras, .*{message}"):
        load_model(path)


def test_other_archives_and_folders(tmp_path):
    np.savez(tmp_path / "z.npz", x=1)
    (tmp_path / "tf").mkdir()
    (tmp_path / "tf" / "saved_model.pb").touch()
    for name, message in {
        "z.npz": "zip archive without config.json that holds x.npy",
        "tf": "a SavedModel folder",
        "none.keras": "must exist. Received: .*none.keras",
    }.items():
        with pytest.raises(ModelError, match=message):
            load_model(tmp_path / name)


def test_damaged_files(saved):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=rf"Received: .*m.keras of {len(whole) // 2} bytes, truncated or damaged"):
        load_model(saved)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    saved.write_bytes(flipped)
    with pytest.raises(ModelError, match=r"model\.weights\.h5 does not fit its checksum"):
        load_model(saved)


def test_code_is_refused_unless_trusted(tmp_path):
    x = keras.Input((4,))
    path = tmp_path / "code.keras"
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda t: t * 3, name="triple")], name="inner")
    keras.Model(x, inner(x)).save(path)
    with pytest.raises(ModelError, match=r"Received: .*code.keras, with Python code in layer 'triple'.*--trust"):
        load_model(path)
    trusted = load_model(path, trust=True)
    assert np.asarray(trusted(np.ones((1, 4), "float32"))).tolist() == [[3, 3, 3, 3]]


def test_an_unknown_class_is_named(tmp_path):
    x = keras.Input((4,))
    path = tmp_path / "odd.keras"
    keras.Model(x, Odd()(x)).save(path)
    with pytest.raises(ModelError, match="with 'Odd', which is neither Keras's nor registered"):
        load_model(path)
    with keras.saving.custom_object_scope({"Odd": Odd}):
        assert isinstance(load_model(path).layers[1], Odd)


def test_other_failures_are_one_line(saved, monkeypatch):
    def fails(*args, **kwargs):
        raise ValueError("first line\nsecond " + "long " * 200)

    monkeypatch.setattr(keras.saving, "load_model", fails)
    with pytest.raises(ModelError, match="ValueError: first line second long") as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_what_can_be_treated():
    class Own(keras.Model):
        def call(self, x):
            return x

    check_model(small())
    with pytest.raises(ModelError, match=r"Functional or Sequential network.* Received: .* of class Own"):
        check_model(Own())
    with pytest.raises(ModelError, match=r"must be built\. Received: 'unbuilt'"):
        check_model(keras.Sequential([keras.layers.Dense(2)], name="unbuilt"))


def test_weights_must_be_finite():
    model = small()
    kernel, bias = model.get_layer("dense").get_weights()
    kernel[1, 2], kernel[0, 0] = np.nan, np.inf
    model.get_layer("dense").set_weights([kernel, bias])
    nested = keras.Sequential([keras.Input((4,)), model])
    with pytest.raises(ModelError, match=r"Received: 2 NaN or infinite values in 'kernel' of layer 'small/dense'"):
        check_model(nested)


def test_a_wrong_ending_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"must end in .keras. Received: .*m.h5. Use .*m.keras"):
        save_model(small(), tmp_path / "m.h5")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("Unable to\nflush")])
def test_a_full_disk_leaves_the_old_file(saved, monkeypatch, error):
    before = saved.read_bytes()
    model = small()

    def full(path):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(model, "save", full)
    with pytest.raises(OutputError, match=r"Received: .*m\.keras': (No space left|Unable to flush)"):
        save_model(model, saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["m.keras"]


LIMITED = """
import resource, sys, keras
from paredown.errors import OutputError
from paredown.model_file import save_model
x = keras.Input((100,))
model = keras.Model(x, keras.layers.Dense(1000)(x))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))
try:
    save_model(model, sys.argv[1])
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit that Unix has")
def test_a_file_that_cannot_grow(tmp_path):
    # 100 * 1000 weights of 4 bytes do not fit into 100,000 bytes.
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "m.keras")], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("The result must be writable. Received:"), done.stderr
    assert os.listdir(tmp_path) == []

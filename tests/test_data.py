"""Data: what is taken, how it is read, and what is said when it does not fit."""

import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from paredown.data import Data, Rows, Split, hold_out
from paredown.errors import DataError


class Counted:
    """An array-like of nothing but length, shape and slicing, that counts the rows it hands out."""

    def __init__(self, array):
        self._array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __len__(self):
        return len(self._array)

    def __getitem__(self, key):
        assert isinstance(key, slice)
        rows = self._array[key]
        self.read += len(rows)
        return rows


def classifying(shape=(28, 28, 1), classes=10, activation="softmax"):
    image = keras.Input(shape, name="image")
    return keras.Model(image, keras.layers.Dense(classes, activation)(keras.layers.Flatten()(image)))


def images(n=6):
    return np.arange(n * 784, dtype="float32").reshape(n, 28, 28, 1)


# Reading.


def test_batches_come_in_order_and_whole():
    split = Split(np.arange(10), np.arange(10) * 2)
    batches = list(split.batches(4))
    assert [x.tolist() for x, _ in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [y.tolist() for _, y in batches] == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18]]


def test_only_the_rows_that_are_asked_for_are_read():
    source = Counted(np.arange(1000)[:, None])
    split = Split(source).take(500).part(np.arange(0, 500, 100))
    assert source.read == 0
    x, y = split.rows(np.array([4, 0]))
    assert x.tolist() == [[400], [0]]
    assert y is None
    assert source.read == 2


def test_rows_of_rows_read_the_source_itself():
    source = Counted(np.arange(20)[:, None])
    rows = Rows(Rows(source, np.arange(19, -1, -1)), np.array([0, 2]))
    assert rows.source is source
    assert rows.shape == (2, 1)
    assert np.asarray(rows).tolist() == [[19], [17]]
    assert rows[1].tolist() == [17]


def test_files_are_taken_as_arrays(tmp_path):
    array = np.random.default_rng(0).random((7, 3), "float32")
    on_disk = np.memmap(tmp_path / "x.dat", "float32", "w+", shape=array.shape)
    on_disk[:] = array
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for source in (on_disk, file.create_dataset("x", data=array), array.tolist()):
            x, _ = Split(source).rows(np.array([5, 1, 1]))
            np.testing.assert_allclose(x, array[[5, 1, 1]], rtol=1e-6)


def test_several_inputs_are_a_tuple():
    split = Split((np.zeros((5, 2)), np.ones((5, 3))), np.arange(5))
    (a, b), y = next(split.batches(2))
    assert (a.shape, b.shape, y.tolist()) == ((2, 2), (2, 3), [0, 1])
    assert len(split.take(3)) == 3


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 2)), np.zeros(2), "Received: x with 3 rows, y with 2 rows"),
        ((np.zeros((3, 2)), np.zeros((4, 2))), None, r"Received: x\[0\] with 3 rows, x\[1\] with 4 rows"),
        (7, None, "x must be an array .* Received: int"),
        ({"a": 1}, None, "x must be an array .* Received: dict"),
        (np.float32(3), None, "x must be an array .* Received: float32"),
        ([[1], [1, 2]], None, "rows of x must be of one shape"),
    ],
)
def test_a_split_that_is_none(x, y, message):
    with pytest.raises(DataError, match=message):
        Split(x, y)


def test_an_empty_part_counts_as_none():
    data = Data((np.zeros((0, 3)), np.zeros(0)), (np.ones((4, 3)), np.arange(4)))
    assert data.train is None
    assert data.calibration.x is data.validation.x
    assert data.calibration.y is data.validation.y
    assert [name for name, _ in data.parts()] == ["validation"]
    with pytest.raises(DataError, match=r"at least one example\. Received: data with every part empty"):
        Data(np.zeros((0, 3)))


def test_calibration_defaults_to_train():
    data = Data((np.ones((4, 3)), np.arange(4)), np.zeros((2, 3)), calibration=np.zeros((1, 3)))
    assert len(data.calibration) == 1
    assert [name for name, _ in data.parts()] == ["train", "validation", "calibration"]
    assert Data(data.train).calibration.x is data.train.x
    assert not data.labelled


def test_a_part_says_which_it_is():
    with pytest.raises(
        DataError, match=r"validation: Inputs and labels must be of one length\. Received: x with 3 rows"
    ):
        Data(np.zeros((3, 1)), (np.zeros((3, 1)), np.zeros(2)))


def test_holding_out_is_repeatable_and_overlaps_nowhere():
    kept, held = hold_out(Split(np.arange(50)), 0.1)
    again, _ = hold_out(Split(np.arange(50)), 0.1)
    assert (len(kept), len(held)) == (45, 5)
    assert np.asarray(kept.x).tolist() == np.asarray(again.x).tolist()
    assert sorted([*np.asarray(kept.x), *np.asarray(held.x)]) == list(range(50))


# Sources.


def test_digits_have_the_size_of_mnist():
    data = Data.load("digits")
    assert (len(data.train), len(data.validation)) == (1437, 360)
    x = np.asarray(data.train.x)
    assert (x.shape[1:], x.dtype, x.min(), x.max()) == ((28, 28, 1), "uint8", 0, 255)
    assert x[:, :2].max() == 0
    # Stratified: every class makes up a tenth of the validation, within one in 36.
    assert (np.abs(np.bincount(data.validation.y) - 36) <= 1).all()
    assert np.array_equal(data.train.x, Data.load("digits").train.x)


@pytest.mark.parametrize(("name", "classes"), [("mnist", (5,)), ("cifar10", (5, 1))])
def test_keras_data_get_channels_and_flat_labels(monkeypatch, name, classes):
    shape = (5, 28, 28) if name == "mnist" else (5, 32, 32, 3)
    part = (np.zeros(shape, "uint8"), np.ones(classes, "uint8"))
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: (part, part))
    data = Data.load(name)
    assert data.train.x.shape == ((5, 28, 28, 1) if name == "mnist" else shape)
    assert (data.validation.y.shape, data.validation.y.dtype) == ((5,), "int64")
    assert data.name == name


def test_no_network_says_where_the_file_belongs(monkeypatch, tmp_path):
    def offline():
        raise OSError("URL fetch failure")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.datasets.mnist, "load_data", offline)
    expected = rf"(?s)'mnist'.*URL fetch failure.*{tmp_path}/datasets/mnist\.npz, or use digits \(bundled\)"
    with pytest.raises(DataError, match=expected):
        Data.load("mnist")


@pytest.mark.parametrize(
    ("keys", "train", "validation", "labelled"),
    [
        (("x_train", "y_train", "x_test", "y_test"), 20, 20, True),
        (("x_train", "y_train", "x_validation", "y_validation"), 20, 20, True),
        (("x", "y"), 18, 2, True),
        (("x",), 18, 2, False),
    ],
)
def test_npz(tmp_path, keys, train, validation, labelled):
    np.savez(tmp_path / "d.npz", **{k: np.arange(20) for k in keys})
    data = Data.load(tmp_path / "d.npz")
    assert (len(data.train), len(data.validation), data.labelled) == (train, validation, labelled)
    assert data.note == ("" if train == 20 else "validation: 2 rows held out of train")


def test_npz_says_what_it_did_not_use(tmp_path):
    names = ("x_train", "x_test", "x_validation", "extra")
    np.savez(tmp_path / "d.npz", **{name: np.arange(3) for name in names})
    assert Data.load(tmp_path / "d.npz").note == "d.npz: extra, x_validation not used"


def test_npz_of_no_use(tmp_path):
    np.savez(tmp_path / "keys.npz", images=np.zeros(3), labels=np.zeros(3))
    np.savez(tmp_path / "objects.npz", x=np.array([{}, []], dtype=object))
    (tmp_path / "text.npz").write_text("x")
    whole = (tmp_path / "keys.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name, message in {
        "keys": "must hold x_train, .* with images, labels",
        "objects": "must hold plain arrays.*can hold code",
        "text": "archive of arrays. Received: .*text.npz",
        "cut": "archive of arrays. Received: .*cut.npz",
        "none": "must exist. Received: .*none.npz",
    }.items():
        with pytest.raises(DataError, match=message):
            Data.load(tmp_path / f"{name}.npz")


MODULE = """
import numpy as np
from paredown.data import Data
from beside import SIZE
def both(): return (np.zeros((SIZE, 2)), np.zeros(SIZE)), (np.ones((3, 2)), np.ones(3))
def one(): return np.zeros((SIZE, 2)), np.zeros(SIZE)
def inputs(): return np.zeros((SIZE, 2))
def two_inputs(): return (np.zeros((SIZE, 2)), np.zeros((SIZE, 1))), np.zeros(SIZE)
def whole(): return Data(np.zeros((SIZE, 2)), np.ones((4, 2)))
def no_train(): return (np.zeros((0, 2)), np.zeros(0)), (np.ones((3, 2)), np.ones(3))
def nothing(): return None
def three(): return 1, 2, 3
def broken():
    return np.zeros(3) + np.zeros(4)
_hidden = 3
"""


@pytest.fixture
def loaders(tmp_path):
    (tmp_path / "beside.py").write_text("SIZE = 20")
    (tmp_path / "loaders.py").write_text(MODULE)
    yield tmp_path / "loaders.py"
    sys.modules.pop("beside", None)


@pytest.mark.parametrize(
    ("function", "train", "validation"),
    [("both", 20, 3), ("one", 18, 2), ("inputs", 18, 2), ("two_inputs", 18, 2), ("whole", 20, 4), ("no_train", 0, 3)],
)
def test_functions(loaders, function, train, validation):
    data = Data.load(f"{loaders}:{function}")
    assert (len(data.train or ()), len(data.validation)) == (train, validation)
    assert data.name == f"loaders.py:{function}"
    assert str(loaders.parent) not in sys.path


def test_functions_of_a_module_in_the_working_folder(loaders, monkeypatch):
    monkeypatch.chdir(loaders.parent)
    assert len(Data.load("loaders:both").train) == 20
    sys.modules.pop("loaders")


def test_functions_of_no_use(loaders):
    (loaders.parent / "typo.py").write_text("def load(:\n")
    for source, message in {
        f"{loaders}:nothing": "must return a Data, .* Received: NoneType",
        f"{loaders}:three": "Received: tuple of 3",
        f"{loaders}:broken": r"broken\(\) must return data. Received: ValueError: operands .*\(loaders.py, line 14\)",
        f"{loaders.parent}/none.py:f": "must exist. Received: .*none.py",
        f"{loaders.parent}/typo.py:load": "must be importable. Received: SyntaxError",
        "no_such_module:f": "Received: ModuleNotFoundError: No module named 'no_such_module'",
        f"{loaders}": "Name the function in it that returns the data, e.g. .*loaders.py:load",
        "fashion": "must be mnist, cifar10, digits, .* Received: 'fashion'",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            Data.load(source)
        assert "\n" not in str(caught.value)


def test_a_missing_function_lists_what_there_is(loaders):
    with pytest.raises(DataError, match="'nix'; it has: both, broken, inputs, no_train, nothing, one, three"):
        Data.load(f"{loaders}:nix")


# Fitting a network.


def test_data_that_fit():
    Data((images(), np.arange(6)), (images(2), np.array([[0], [9]]))).check(classifying())
    Data((images(), np.eye(10, dtype="float32")[:6])).check(classifying())
    Data((images(), np.array([0, 1] * 3))).check(classifying(classes=1, activation="sigmoid"))
    Data((images(), np.linspace(-5, 5, 6))).check(classifying(classes=1, activation=None))


BAD_NAN, BAD_INF = images(1500), images(1500)
BAD_NAN[1200, 3, 4] = np.nan
BAD_INF[7] = np.inf


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((6, 28, 28)), None, r"takes, \(n, 28, 28, 1\). Received: \(6, 28, 28\) .train.. .*x\[\.\.\., None\]"),
        (np.zeros((6, 1, 28, 28)), None, r"np.moveaxis\(x, 1, -1\)"),
        (np.zeros((6, 28, 28, 1, 1)), None, r"Drop the last axis: x\[\.\.\., 0\]"),
        (np.zeros((6, 32, 32, 3)), None, r"Received: \(6, 32, 32, 3\) .train.. Resize"),
        ((images(), images()), None, r"one x per input of the network \(1\). Received: 2"),
        (np.full((2, 28, 28, 1), "a"), None, "must hold numbers. Received: <U1"),
        (BAD_NAN, None, r"finite numbers. Received: nan in x\[1200\] \(train\)"),
        (BAD_INF, None, r"finite numbers. Received: inf in x\[7\] \(train\)"),
        (images(), np.array([0, 1, 2, 10, 3, 4]), r"0 to 9. Received: y\[3\] = 10 \(train\)"),
        (images(), np.array([0, 1, 2, 3, 3, -1]), r"0 to 9. Received: y\[5\] = -1 \(train\)"),
        (images(), np.arange(6.0), r"Received: \(6\) of float64 .*y.astype\('int64'\)"),
        (images(), np.zeros((6, 3), "int64"), r"Received: \(6, 3\) of int64"),
        (images(), np.full((6, 10), np.nan), r"Received: nan in y\[0\]"),
        (images(), np.array(list("abcdef")), "y must hold numbers. Received: <U1"),
        (images(), (np.arange(6), np.arange(6)), r"one per output of the network \(1\). Received: 2"),
    ],
)
def test_data_that_do_not_fit(x, y, message):
    with pytest.raises(DataError, match=message) as caught:
        Data(Split(x, y)).check(classifying())
    assert "\n" not in str(caught.value)


def test_every_part_is_checked():
    bad = (images(), np.full(6, 12))
    with pytest.raises(DataError, match=r"y\[0\] = 12 \(validation\)"):
        Data((images(), np.arange(6)), bad).check(classifying())
    with pytest.raises(DataError, match=r"\(calibration\)"):
        Data((images(), np.arange(6)), calibration=np.zeros((2, 28, 28))).check(classifying())


def test_binary_labels_and_maps():
    with pytest.raises(DataError, match=r"0 to 1. Received: y\[1\] = 2"):
        Data((images(2), np.array([0, 2]))).check(classifying(classes=1, activation="sigmoid"))
    free = keras.Input((None, None, 1))
    model = keras.Model(free, keras.layers.Conv2D(3, 1, activation="softmax")(free))
    Data((np.zeros((2, 5, 6, 1)), np.full((2, 5, 6), 2))).check(model)
    wrong = np.zeros((2, 5, 6), "int64")
    wrong[1, 4, 2] = 3
    with pytest.raises(DataError, match=r"0 to 2. Received: y\[1, 4, 2\] = 3"):
        Data((np.zeros((2, 5, 6, 1)), wrong)).check(model)


def test_checking_reads_in_pieces():
    source = Counted(np.zeros((3000, 28, 28, 1), "float32"))
    Data(source).check(classifying())
    assert source.read == 3000


def test_data_do_not_import_keras():
    root = Path(__file__).parents[1] / "src/paredown/data"
    for file in root.glob("*.py"):
        assert "\nimport keras" not in file.read_text(encoding="utf-8"), file

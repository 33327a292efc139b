"""Memory while running: what a process of its own takes more than before it loaded the file."""

import keras
import pytest

from paredown import export_litert
from paredown.errors import DeviceError, ModelError, SettingError
from paredown.measure import memory, running_bytes


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Width -> a file of two dense layers."""
    folder = tmp_path_factory.mktemp("memory")
    for width in (64, 1024):
        inputs = keras.Input((width,))
        export_litert(
            keras.Model(inputs, keras.layers.Dense(width)(keras.layers.Dense(width)(inputs))),
            folder / f"{width}.tflite",
        )
    return {int(path.stem): path for path in folder.iterdir()}


def test_weights_are_there_at_least_once_and_at_most_three_times(files):
    weights = 2 * 1024 * 1024 * 4
    found = running_bytes(files[1024])
    assert weights < found < 3 * weights
    assert running_bytes(files[64]) < found - weights


def test_the_figure_repeats(files):
    assert running_bytes(files[1024]) == pytest.approx(running_bytes(files[1024]), rel=0.02)


def test_what_cannot_run_is_named(files, tmp_path, monkeypatch):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(files[64].read_bytes()[:64])
    with pytest.raises(ModelError, match=rf"LiteRT must be able to run the file\. Received: {broken}: "):
        running_bytes(broken)
    with pytest.raises(SettingError, match=r"Received: threads=0"):
        running_bytes(files[64], threads=0)
    with pytest.raises(DeviceError, match=r"must end in 0\.01 seconds\. Received: .*64\.tflite, which runs on"):
        running_bytes(files[64], timeout_s=0.01)
    monkeypatch.setattr(memory, "_PROC", tmp_path / "none")
    with pytest.raises(DeviceError, match=r"is read from .*none\. Received: linux\. Use a Linux computer"):
        running_bytes(files[64])

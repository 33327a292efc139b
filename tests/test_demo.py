"""The demonstration's network, its training and its data."""

import socket

import keras
import numpy as np
import pytest

from paredown import demo
from paredown.data import Data
from paredown.errors import DataError


def test_the_classifier_is_the_thesis_one():
    model = demo.classifier()
    params = {layer.name: layer.count_params() for layer in model.layers if layer.count_params()}
    assert params == {
        "conv1": 5 * 5 * 1 * 32 + 32,
        "conv2": 5 * 5 * 32 * 64 + 64,
        "conv3": 7 * 7 * 64 * 128 + 128,
        "scores": 128 * 10 + 10,
    }
    assert model.count_params() == 454_922
    # One multiply-add is one MAC: positions times kernel.
    positions = {name: np.prod(model.get_layer(name).output.shape[1:-1]) for name in params}
    macs = sum(positions[name] * np.prod(model.get_layer(name).kernel.shape) for name in params)
    assert macs == 28 * 28 * 25 * 32 + 14 * 14 * 25 * 32 * 64 + 7 * 7 * 64 * 128 + 1280 == 11_065_088


def test_raw_images_go_in():
    image = np.full((1, 28, 28, 1), 255, "uint8")
    model = demo.classifier()
    rescaled = keras.Model(model.input, model.get_layer("rescale").output)(image)
    assert np.asarray(rescaled).max() == pytest.approx(1)


def test_it_learns_the_digits():
    """A fifth of the full training; the whole of it reaches over 98 %."""
    data = Data.load("digits")
    model = demo.train_classifier(data, epochs=4)
    assert model.compiled
    _, accuracy = model.evaluate(data.validation.x[:], data.validation.y[:], batch_size=360, verbose=0)
    assert accuracy > 0.9


def test_settings_follow_the_number_of_rows(monkeypatch):
    used = []

    class Spy:
        def __init__(self, **settings):
            used.append(settings)

        def __call__(self, model, data, seed):
            return self

        model = None

    monkeypatch.setattr(demo, "FineTune", Spy)
    for rows in (1437, 60_000):
        demo.train_classifier(Data((np.zeros((rows, 28, 28, 1), "uint8"), np.zeros(rows, "int64"))))
    demo.train_classifier(Data((np.zeros((5, 28, 28, 1), "uint8"), np.zeros(5, "int64"))), epochs=3)
    assert [(s["epochs"], s["batch_size"]) for s in used] == [(20, 32), (2, 128), (3, 32)]
    with pytest.raises(DataError, match=r"learns from labelled images\. Received: Data"):
        demo.train_classifier(Data(np.zeros((5, 28, 28, 1))))


def test_without_mnist_it_takes_the_digits_and_says_so(monkeypatch):
    waits = []

    def offline():
        waits.append(socket.getdefaulttimeout())
        raise OSError("no network")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", offline)
    data = demo.demo_data()
    assert data.name == "digits"
    assert data.note == (
        "Data: scikit-learn's bundled digits, since MNIST is neither in Keras's cache nor on the network; "
        "1,437 train, 360 validation."
    )
    # A network that does not answer is given up after seconds, and the setting is put back.
    assert waits == [demo.PATIENCE_S]
    assert socket.getdefaulttimeout() is None


def test_with_mnist_it_takes_mnist_and_says_so(monkeypatch):
    part = (np.zeros((5, 28, 28), "uint8"), np.zeros(5, "uint8"))
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: (part, part))
    data = demo.demo_data()
    assert data.note == "Data: MNIST, from Keras's cache or the network; 5 train, 5 validation."


def test_named_data_are_taken_as_named(tmp_path):
    np.savez(tmp_path / "own.npz", x=np.zeros((20, 28, 28, 1)), y=np.zeros(20, "int64"))
    data = demo.demo_data(str(tmp_path / "own.npz"))
    assert data.note == "Data: own.npz (validation: 2 rows held out of train); 18 train, 2 validation."

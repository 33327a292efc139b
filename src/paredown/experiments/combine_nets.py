"""The networks of the experiment `combine`, and what each is compressed with, tuned on and judged on."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import keras
import numpy as np

from paredown.data import Data
from paredown.demo import train_classifier
from paredown.experiments import material, mnist

#: seed, training images, test images, calibration images, epochs -> the network, which nothing changes, and its data.
Subject = tuple[Any, Data]


def _classifier(seed: int, train: int, test: int, calibration: int, epochs: int) -> Subject:
    data = mnist.images(train, test, calibration, seed)
    return train_classifier(data, epochs, seed), data


def _resnet20(seed: int, train: int, test: int, calibration: int, epochs: int) -> Subject:
    """Given; the images to calibrate with are the first of those to train on, which the seed draws."""
    whole: Any = material.data("cifar10")
    rows = np.sort(np.random.default_rng(seed).permutation(len(whole.train))[:train])
    parts = [whole.train.rows(rows), whole.validation.rows(np.arange(test))]
    (x, y), tested = [(x.astype("float32"), y) for x, y in parts]
    model = keras.models.load_model(material.network("resnet20_cifar10"), compile=False)
    return model, Data((x, y), tested, calibration=(x[:calibration], y[:calibration]), name="cifar10")


def _mobilenet_v2(seed: int, train: int, test: int, calibration: int, epochs: int) -> Subject:
    """Given; every other photograph is looked at without its label, the others are judged on."""
    photographs: Any = material.data("imagenet_val500").validation
    x, y = photographs.rows(np.arange(500))
    x = x / np.float32(127.5) - 1
    # The network's class 0 is none of ImageNet's.
    seen, tested = x[::2], (x[1::2][:test], y[1::2][:test] + 1)
    rows = np.random.default_rng(seed).permutation(len(seen))
    model = keras.models.load_model(material.network("mobilenet_v2_imagenet"), compile=False)
    return model, Data(seen[rows[:train]], tested, calibration=seen[rows[:calibration]], name="imagenet_val500")


#: Name on the page -> builds or reads it.
NETWORKS: dict[str, Callable[[int, int, int, int, int], Subject]] = {
    "classifier": _classifier,
    "ResNet-20": _resnet20,
    "MobileNetV2": _mobilenet_v2,
}


@lru_cache(1)
def subject(network: str, *settings: int) -> Subject:
    """Trained or read once for all cases of a seed that follow one another."""
    return NETWORKS[network](*settings)

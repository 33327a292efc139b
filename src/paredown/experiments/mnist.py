"""MNIST as the experiments take it: fewer training images for time, drawn by the seed."""

from functools import lru_cache
from typing import Any

import numpy as np

from paredown.data import Data
from paredown.experiments import material
from paredown.measure import score_keras


def images(train: int, test: int, calibration: int, seed: int) -> Data:
    """Training images drawn by the seed, some of them to calibrate with, and the first test images."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(_whole().train))[:train])
    x, y = _whole().train.rows(rows)
    return Data((x, y), _whole().validation.rows(np.arange(test)), calibration=x[:calibration], name="mnist")


@lru_cache(1)
def _whole() -> Any:
    return material.data("mnist")


def percent(model: Any, data: Data) -> float:
    """Accuracy on the test images, %."""
    assert data.validation is not None
    return 100 * score_keras(model, data.validation).value

"""Finished steps of a run, kept so that an interrupted run continues where it stopped.

A step's key is made of everything that its result depends on: the network, the data, the seed, the versions and all
settings up to it. A changed recipe therefore continues from its first changed step, and never from a wrong one.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from paredown.data import Data
from paredown.files import write_text
from paredown.model_file import load_model, save_model


class Checkpoints:
    """Networks and plain data by key, in a folder; without a folder nothing is kept."""

    def __init__(self, folder: Path | None):
        self._folder = folder

    def figures(self, key: str) -> dict | None:
        """The plain data kept under a key."""
        if self._folder is None:
            return None
        try:
            return json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def keep_figures(self, key: str, figures: dict) -> None:
        """Keeps plain data; what belongs to a network is kept after it, so that figures mean a whole step."""
        if self._folder is not None:
            write_text(self._folder / f"{key}.json", json.dumps(figures))

    def model(self, key: str) -> keras.Model:
        """The network kept under a key that `figures` knows."""
        assert self._folder is not None
        return load_model(self._folder / f"{key}.keras", trust=True)

    def keep_model(self, key: str, model: Any) -> None:
        if self._folder is not None:
            save_model(model, self._folder / f"{key}.keras")


def first_key(model: Any, data: Data, seed: int, versions: dict) -> str:
    """The key of a run before its first step."""
    digest = hashlib.sha256()
    digest.update(json.dumps([model.get_config(), seed, versions], sort_keys=True, default=str).encode())
    for weight in model.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).data)
    for name, split in data.parts():
        digest.update(f"{name} {split!r}".encode())
        # The ends of the data stand for it: reading all of it again would cost as much as a step.
        for rows in (np.arange(min(16, len(split))), np.arange(max(0, len(split) - 16), len(split))):
            for column in keras.tree.flatten(split.rows(rows)):
                if column is not None:
                    digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()[:16]


def next_key(key: str, name: str, settings: dict) -> str:
    """The key after one more step."""
    step = json.dumps([key, name, settings], sort_keys=True, default=str)
    return hashlib.sha256(step.encode()).hexdigest()[:16]

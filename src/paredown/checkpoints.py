"""Finished steps of a run, kept so that an interrupted run continues where it stopped.

A step's key is made of what its result depends on: the network, the data (all labels, inputs by sample), the seed, the
versions and all settings up to it. A changed recipe therefore continues from its first changed step.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from paredown.data import Data, Split
from paredown.files import write_text
from paredown.model_file import save_model
from paredown.rebuild import compile_like

#: Inputs of each part that its key looks at; labels count all.
SAMPLED_ROWS = 256


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

    def model(self, key: str, original: Any) -> keras.Model:
        """The network kept under a key that `figures` knows, compiled as the original is."""
        assert self._folder is not None
        model = keras.saving.load_model(self._folder / f"{key}.keras", compile=False, safe_mode=False)
        compile_like(original, model)
        return model

    def keep_model(self, key: str, model: Any) -> None:
        if self._folder is not None:
            save_model(model, self._folder / f"{key}.keras")


def first_key(model: Any, data: Data, seed: int, versions: dict) -> str:
    """The key of a run before its first step."""
    digest = hashlib.sha256()
    compiled = model.get_compile_config() if getattr(model, "compiled", False) else None
    digest.update(json.dumps([model.get_config(), compiled, seed, versions], sort_keys=True, default=str).encode())
    for weight in model.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).data)
    for name, split in data.parts():
        digest.update(f"{name} {split!r}".encode())
        labels = [split.y] if split.y is None or not isinstance(split.y, tuple) else split.y
        for block in (b for y in labels if y is not None for b, _ in Split(y).batches(4096)):
            digest.update(np.ascontiguousarray(block).data)
        # Inputs spread over all of the data stand for them: reading every image again would cost as much as a step.
        rows = np.unique(np.linspace(0, len(split) - 1, SAMPLED_ROWS).astype(int))
        for column in keras.tree.flatten(split.inputs_only().rows(rows)[0]):
            digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()[:16]


def next_key(key: str, name: str, settings: dict) -> str:
    """The key after one more step."""
    step = json.dumps([key, name, settings], sort_keys=True, default=str)
    return hashlib.sha256(step.encode()).hexdigest()[:16]

"""What a training run reads: shuffled batches of a split, repeatable from a seed, one in memory at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np

from paredown.data import Split

#: Pixels by which images are shifted at most: a little, where each pixel tells, and as training on photographs does.
LITTLE, MUCH = 1, 4

Pack = Callable[[Any, Any], tuple]


class ShuffledBatches(keras.utils.PyDataset):
    """Batches in a new random order on every pass over the data; an epoch may be less or more than one pass.

    Args:
        split: The examples.
        batch_size: Rows per batch; the last batch of a pass may have fewer.
        steps: Batches per epoch; None for one pass.
        seed: Of order and augmentation. Batch i of epoch e is the same whenever it is asked for.
        augment: Row of `AUGMENT`.
        pack: `pack(x, y)` puts a batch into the structure that the network takes.
    """

    def __init__(self, split: Split, batch_size: int, steps: int | None, seed: int, augment: str, pack: Pack):
        super().__init__()
        self._split, self._batch_size, self._seed = split, batch_size, seed
        self._augment, self._pack = AUGMENT[augment], pack
        self._per_pass = -(-len(split) // batch_size)
        self._steps = self._per_pass if steps is None else steps
        #: Set at the start of each; Keras's own count also moves when it only looks at the data.
        self.epoch = 0
        self._order = (-1, np.zeros(0, "int64"))

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple:
        position = self.epoch * self._steps + index
        turn, batch = divmod(position, self._per_pass)
        # Sorted within the batch: files are read forwards, and the order inside a batch does not matter.
        rows = np.sort(self._order_of(turn)[batch * self._batch_size : (batch + 1) * self._batch_size])
        x, y = self._split.rows(rows)
        return self._pack(self._augment(x, np.random.default_rng([self._seed, 1, position])), y)

    def _order_of(self, turn: int) -> np.ndarray:
        if self._order[0] != turn:
            self._order = (turn, np.random.default_rng([self._seed, 0, turn]).permutation(len(self._split)))
        return self._order[1]


class OrderedBatches(keras.utils.PyDataset):
    """Batches in the order of the data, for scoring a held-out part."""

    def __init__(self, split: Split, batch_size: int, pack: Pack):
        super().__init__()
        self._split, self._batch_size, self._pack = split, batch_size, pack

    def __len__(self) -> int:
        return -(-len(self._split) // self._batch_size)

    def __getitem__(self, index: int) -> tuple:
        start = index * self._batch_size
        return self._pack(*self._split.rows(np.arange(start, min(start + self._batch_size, len(self._split)))))


def shifted(images: np.ndarray, rng: np.random.Generator, most: int, flip: bool = False) -> np.ndarray:
    """Shifts each image by up to `most` pixels each way, zeros coming in.

    Args:
        images: Shape (n, height, width, channels).
        flip: Also mirror half of the images left to right.
    Returns:
        The same shape and dtype.
    """
    n, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    top, left = rng.integers(0, 2 * most + 1, (2, n, 1))
    rows = top + np.arange(height)  # [n, height]
    mirrored = rng.random((n, 1)) < (0.5 if flip else 0)
    columns = left + np.where(mirrored, np.arange(width)[::-1], np.arange(width))  # [n, width]
    return padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


#: What may be done to the images of a batch.
AUGMENT: dict[str, Callable[[Any, np.random.Generator], Any]] = {
    "none": lambda x, rng: x,
    "shift": partial(shifted, most=LITTLE),
    "crop": partial(shifted, most=MUCH),
    "crop_flip": partial(shifted, most=MUCH, flip=True),
}

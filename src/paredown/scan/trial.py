"""A copy of the network in which one case at a time is tried, and put back: nothing is built anew."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import keras
import numpy as np

from paredown.data import Split
from paredown.data.checks import last_activation
from paredown.measure import Score, score_outputs
from paredown.moments import columns
from paredown.narrow import masked_outputs
from paredown.network import Network
from paredown.sensitivity import output_change, scored_outputs
from paredown.side_by_side import twins

#: Examples per step, and the largest loss that is told from no network at all.
_BATCH, _WORST = 128, 1e9


class Trial:
    """What a network gives, and what its changed copy gives.

    Args:
        network: The network; it is not touched.
        copy: A copy of it.
        judged: Examples.
    """

    def __init__(self, network: Network, copy: Any, judged: Split):
        self._network, self.copy, self._judged = network, copy, judged
        self.network = Network(copy)
        #: Path -> the copy's layer.
        self.made = twins(network, self.network)
        self._values = [(variable, keras.ops.copy(variable)) for variable in copy.variables]
        self._ends = [last_activation(tensor) == "softmax" for tensor in network.outputs]
        self._batches = list(columns(judged, _BATCH))
        # Now, while the copy is still what the network is.
        self._reference = self.outputs()

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Afterwards the copy is as it was."""
        try:
            yield
        finally:
            for variable, value in self._values:
                variable.assign(value)

    def outputs(self) -> list[np.ndarray]:
        """What the copy gives now."""
        return self._joined(
            keras.tree.flatten(self.copy.predict_on_batch(self.network.pack_inputs(inputs))) for inputs in self._batches
        )

    def masked(self, removed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """What the copy gives with removed channels at zero."""
        return self._joined(masked_outputs(self.network, removed, inputs) for inputs in self._batches)

    @staticmethod
    def _floored(scores: bool, y: np.ndarray, least: float) -> np.ndarray:
        return np.maximum(y.astype("float64"), least) if scores else y.astype("float64")

    @staticmethod
    def _joined(parts: Iterator[Sequence[Any]]) -> list[np.ndarray]:
        return [np.concatenate([np.asarray(a) for a in arrays]) for arrays in zip(*parts, strict=True)]

    @cached_property
    def score(self) -> Score | None:
        """The network's own; None without labels."""
        return None if self._judged.y is None else score_outputs(self._reference, self._judged)

    def judge(self, outputs: list[np.ndarray], least: float = 0.0) -> dict[str, Any]:
        """`measured` and `score_drop` of what a changed network gives.

        Args:
            outputs: One array per output.
            least: Class scores below this count as this.
        """
        before, after = (
            scored_outputs(self._network, [self._floored(*pair, least) for pair in zip(self._ends, found, strict=True)])
            for found in (self._reference, outputs)
        )
        change = output_change(before, after)
        measured = min(change, _WORST) if np.isfinite(change) else _WORST
        if self.score is None:
            return {"measured": measured, "score_drop": None}
        now = score_outputs(outputs, self._judged).value
        drop = self.score.value - now if self.score.higher_is_better else now - self.score.value
        return {"measured": measured, "score_drop": drop if np.isfinite(drop) else _WORST}

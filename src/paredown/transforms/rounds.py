"""Several rounds of pruning and training that count as one transform: what they did, told of the original network."""

from collections.abc import Collection
from typing import Any

import numpy as np

from paredown.checks import Check
from paredown.data import Data
from paredown.errors import DataError
from paredown.transform import Change, Skip, Transform, TransformResult

#: Examples that each pruning proves itself on.
PROOF_EXAMPLES = 4


class Rounds:
    """Applies transforms one after the other and keeps the account.

    Args:
        model: The original network; it is not touched.
        data: The training data serve for everything, statistics included, as they do in the papers.
        seed: Each step draws a seed of its own from it.
        teacher: As for `Transform.__call__`.
        name: Whose rounds these are, for errors.
    Raises:
        DataError: If there are no training data.
    """

    def __init__(self, model: Any, data: Any, seed: int, teacher: Any, name: str):
        if data is None or data.train is None:
            raise DataError(
                f"{name} prunes and trains by turns on data.train. Received: no training data. Give some; inputs "
                "without labels are enough, then the original network's outputs are the target."
            )
        self.model = model
        self.data = Data(train=data.train, validation=data.validation, name=data.name)
        self.log: list[dict[str, Any]] = []
        self._seeds = np.random.default_rng([seed, 2])
        self._teacher = teacher
        self._alive: dict[str, np.ndarray] = {}
        self._sizes: dict[str, int] = {}
        self._skips: dict[str, Skip] = {}
        self._checks: list[Check] = []

    def seed(self) -> int:
        return int(self._seeds.integers(2**32))

    def tune(self, transform: Transform) -> dict[str, Any]:
        """Trains; gives the training's log."""
        result = transform(self.model, self.data, seed=self.seed(), teacher=self._teacher)
        self.model = result.model
        return result.log

    def prune(self, transform: Transform, aside: Collection[str] = ()) -> dict[str, int]:
        """Prunes; gives how many channels each layer lost.

        Args:
            aside: Layers that this step leaves to another one: its reasons for leaving them alone don't count.
        """
        result = transform(self.model, self.data, seed=self.seed(), teacher=self._teacher)
        self._checks += transform.prove(self.model, result, self._proof_inputs())
        for change in result.changes:
            self._sizes.setdefault(change.layer, change.before)
        for path, gone in result.removed.items():
            alive = self._alive.get(path, np.arange(self._sizes[path]))
            self._alive[path] = np.delete(alive, gone)
        self._skips |= {skip.layer: skip for skip in result.skips if skip.layer not in aside}
        self.model = result.model
        return {path: len(gone) for path, gone in result.removed.items()}

    def result(self, **log: Any) -> TransformResult:
        """All rounds as one: channels by their numbers in the original network."""
        removed = {path: np.setdiff1d(np.arange(self._sizes[path]), alive) for path, alive in self._alive.items()}
        changes = tuple(
            Change(path, "output channels", self._sizes[path], len(alive)) for path, alive in self._alive.items()
        )
        skips = tuple(skip for skip in self._skips.values() if skip.layer not in removed)
        # One figure of each kind, the worst: the equality must hold in every round.
        worst = {c.name: c for c in sorted(self._checks, key=lambda c: c.value / c.tolerance)}
        checks = [check.to_dict() for check in worst.values()]
        return TransformResult(self.model, changes, skips, removed, {**log, "rounds": self.log, "checks": checks})

    def _proof_inputs(self) -> list[np.ndarray]:
        x, _ = self.data.calibration.rows(np.arange(min(PROOF_EXAMPLES, len(self.data.calibration))))
        return list(x) if isinstance(x, tuple) else [x]


def proved(result: TransformResult) -> tuple[Check, ...]:
    """The equalities that were tried in the rounds."""
    return tuple(Check(c["name"], c["value"], c["tolerance"]) for c in result.log["checks"])

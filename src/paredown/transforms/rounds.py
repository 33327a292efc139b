"""Several rounds of pruning and training that count as one transform: what they did, told of the original network."""

from collections.abc import Collection
from typing import Any

import numpy as np

from paredown.channels import Channels
from paredown.checks import Check
from paredown.data import Data
from paredown.errors import DataError
from paredown.transform import Skip, Transform, TransformResult, proof_inputs
from paredown.transforms.prune_channels import change_of


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
        self._channels = Channels(model)
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
        self._checks += transform.prove(self.model, result, proof_inputs(self.data))
        lost = {**result.removed, **result.inside}
        for path, gone in lost.items():
            alive = self._alive.get(path, np.arange(len(self._channels.outputs[path])))
            self._alive[path] = np.delete(alive, gone)
        self._skips |= {skip.layer: skip for skip in result.skips if skip.layer not in aside}
        self.model = result.model
        return {path: len(gone) for path, gone in lost.items()}

    def result(self, **log: Any) -> TransformResult:
        """All rounds as one: channels by their numbers in the original network."""
        outputs, inner = self._channels.outputs, self._channels.inside
        lost = {path: np.setdiff1d(np.arange(len(outputs[path])), alive) for path, alive in self._alive.items()}
        changes = tuple(change_of(self._channels, path, len(gone)) for path, gone in lost.items())
        removed = {path: gone for path, gone in lost.items() if path not in inner}
        inside = {path: gone for path, gone in lost.items() if path in inner}
        skips = tuple(skip for skip in self._skips.values() if skip.layer not in removed)
        # One figure of each kind, the worst: the equality must hold in every round.
        worst = {c.name: c for c in sorted(self._checks, key=lambda c: c.value / c.tolerance)}
        checks = [check.to_dict() for check in worst.values()]
        log = {**log, "rounds": self.log, "checks": checks}
        return TransformResult(self.model, changes, skips, removed, inside, log)


def proved(result: TransformResult) -> tuple[Check, ...]:
    """The equalities that were tried in the rounds."""
    return tuple(Check(c["name"], c["value"], c["tolerance"]) for c in result.log["checks"])

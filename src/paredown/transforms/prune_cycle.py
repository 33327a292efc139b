"""PruneCycle: trains, prunes what turned out idle, and again, until nothing goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from paredown.channels import Channels
from paredown.checks import Check
from paredown.errors import SettingError
from paredown.transform import Transform, TransformResult
from paredown.transforms.distort import distorted
from paredown.transforms.fine_tune import FineTune
from paredown.transforms.prune_channels import PruneChannels
from paredown.transforms.rounds import Rounds, proved


@dataclass(frozen=True)
class PruneCycle(Transform):
    """Train some epochs, lock the weights, score the channels on the training data, prune; again until nothing goes.

    Every cycle trains first, so that the last pruning is followed by a training: the cycle that finds nothing to
    prune, or one training more after the last of `max_cycles`. All statistics are of `data.train`. Optimizers start
    anew in every cycle.

    The thesis's variants are settings: `distortion=1` (distorted), `tune=FineTune(regularization="l1_weights",
    strength=...)` (regularized), `prune=PruneChannels(criterion="outliers", threshold=-2)` (outliers), any of them
    together. `result.log["rounds"]` has for each cycle the units left per layer, the training's log, the loss at
    its end, and how many channels each layer lost; `removed` counts by the original network's channels.

    Args:
        tune: How each cycle trains: epochs per cycle, optimizer, learning rate, batch size, regularization.
        prune: What goes: a criterion and a `threshold` (or another budget, which is then taken anew in every cycle).
        max_cycles: End after so many cycles.
        patience: End after so many cycles in a row in which nothing went. With distortion more than 1 makes sense:
            what was distorted in one cycle may go in the next.
        distortion: After pruning and before training on, kernels w of layers with removable channels become
            w + distortion · random(shape) · (1 - var(w)), random uniform in [-1, 1]; 0 for none. See `distorted`.
            The last training comes after the last distortion.
    Source:
        Çallı 2017, Optimizing Neural Networks for Mobile Devices, section 2.2.2; Hu et al. 2016, arXiv:1607.03250.
    """

    name: ClassVar[str] = "prune_cycle"

    tune: FineTune = FineTune()
    prune: PruneChannels = PruneChannels(threshold=0.0)
    max_cycles: int = 20
    patience: int = 1
    distortion: float = 0.0

    def __post_init__(self):
        for name, kind in (("tune", FineTune), ("prune", PruneChannels)):
            if not isinstance(getattr(self, name), kind):
                raise SettingError(
                    f"{name} must be a {kind.__name__}. Received: {name}={getattr(self, name)!r} (PruneCycle)."
                )
        for name in ("max_cycles", "patience"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingError(
                    f"{name} must be a whole number of at least 1. Received: {name}={value!r} (PruneCycle). Use e.g. 5."
                )
        value = self.distortion
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
            raise SettingError(
                f"distortion must be a number of at least 0. Received: distortion={value!r} (PruneCycle). "
                "Use 1 for the thesis's amount."
            )

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        rounds = Rounds(model, data, seed, teacher, "PruneCycle")
        idle = 0
        for number in range(1, self.max_cycles + 1):
            self._train(rounds, number)
            gone = rounds.prune(self.prune)
            rounds.log[-1] |= {"removed": gone, "units": units(rounds.model)}
            idle = 0 if gone else idle + 1
            if idle == self.patience:
                return rounds.result(cycles=number, ended="nothing went")
            if self.distortion:
                rounds.model = distorted(rounds.model, self.distortion, rounds.seed())
        self._train(rounds, self.max_cycles + 1)
        rounds.log[-1] |= {"removed": {}, "units": units(rounds.model)}
        return rounds.result(cycles=self.max_cycles, ended="max_cycles")

    def _train(self, rounds: Rounds, number: int) -> None:
        log = rounds.tune(self.tune)
        rounds.log.append({"cycle": number, "loss": log["history"]["loss"][-1], "training": log})

    def prove(self, model: Any, result: TransformResult, inputs: Sequence[np.ndarray]) -> tuple[Check, ...]:
        """What each cycle's pruning proved on the spot; the trainings in between allow no equality from end to end."""
        return proved(result)


def units(model: Any) -> dict[str, int]:
    """Layer path -> its output channels, for the layers with a kernel of which some channel may go."""
    channels = Channels(model)
    prunable = channels.prunable
    return {
        call.path: len(channels.outputs[call.path])
        for call in channels.network.all_calls()
        if call.path in channels.outputs
        and prunable[channels.outputs[call.path]].any()
        and any(w.name.endswith("kernel") for w in getattr(call.operation, "weights", ()))
    }

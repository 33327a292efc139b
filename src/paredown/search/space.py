"""What can be proposed: the ranges that Optuna draws candidates from, and the candidates to begin with."""

import itertools
from dataclasses import dataclass
from typing import Any

from paredown.search.candidate import Candidate
from paredown.search.methods import METHODS

CRITERIA = ("structured_obs", "l2_norm")
STRUCTURES = ("separable", "one_dimensional", "bottleneck")
#: How far from the limit candidates may aim, as factors of it; without a limit, the least share that is kept.
SPREAD, LEAST = (0.5, 2.0), 0.02
#: Shares of the convolutions that get a structure, and of the cost that the first of two methods takes.
LAYERS, SPLITS = (0.34, 0.67, 1.0), (0.2, 0.8)
LEARNING_RATES = (2e-4, 5e-3)
TEACHER_WEIGHTS = (0.0, 0.5, 0.9)
AUGMENTS = ("shift", "none", "crop")


@dataclass(frozen=True)
class Space:
    """The candidates of one search.

    Args:
        methods: That may be used.
        formats: Likewise, the most promising first.
        limit: Share of the original's cost that may be kept; None where nothing is limited.
        formats_reach: Whether a format alone keeps to it.
        images: Whether inputs are images with a label each, which may be shifted in training.
        labelled: Whether there are labels, beside which the original's outputs can teach.
        aim: Share of the limit that the first candidates aim at.
    """

    methods: tuple[str, ...]
    formats: tuple[str, ...]
    limit: float | None
    images: bool
    labelled: bool
    formats_reach: bool = True
    aim: float = 0.97

    @property
    def orders(self) -> dict[str, tuple[str, ...]]:
        """Sequences of methods by their names; substitutes come first: trained kernels are what they start from."""
        reducing = [name for name in self.methods if name in METHODS]
        sharing = [name for name in reducing if METHODS[name][1]]
        found = [order for n in range(len(sharing) + 1) for order in itertools.permutations(sharing, n)]
        if "substitute_conv" in reducing:
            found += [("substitute_conv", *order) for order in found if len(order) < 2]
        # Nothing but a format is a candidate, too, where it can be enough.
        alone = not reducing or (len(self.formats) > 1 and self.formats_reach)
        return {" ".join(order) or "none": order for order in found if order or alone}

    @property
    def keeps(self) -> tuple[float, float]:
        """The least and the largest share that candidates keep."""
        if self.limit is None:
            return LEAST, 0.9
        # A limit in milliseconds or bytes can be above what the original takes, and any far below what can be kept.
        limit = min(1.0, max(self.limit, 1e-3))
        return max(limit * SPREAD[0], 1e-3), min(1.0, limit * SPREAD[1])

    def draw(self, trial: Any) -> Candidate:
        """A candidate from Optuna's trial."""
        methods = self.orders[trial.suggest_categorical("methods", list(self.orders))]
        drawn: dict[str, Any] = {"keep": trial.suggest_float("keep", *self.keeps, log=True) if methods else 1.0}
        if len([name for name in methods if METHODS[name][1]]) > 1:
            drawn["split"] = trial.suggest_float("split", *SPLITS)
        if "prune_channels" in methods:
            drawn["criterion"] = trial.suggest_categorical("criterion", CRITERIA)
        if "substitute_conv" in methods:
            drawn["structure"] = trial.suggest_categorical("structure", STRUCTURES)
            drawn["layers"] = trial.suggest_categorical("layers", LAYERS)
        drawn["format"] = trial.suggest_categorical("format", self.formats)
        drawn["learning_rate"] = trial.suggest_float("learning_rate", *LEARNING_RATES, log=True)
        if self.labelled:
            drawn["teacher_weight"] = trial.suggest_categorical("teacher_weight", TEACHER_WEIGHTS)
        if self.images:
            drawn["augment"] = trial.suggest_categorical("augment", AUGMENTS)
        return Candidate(methods, **drawn)

    @property
    def training(self) -> dict[str, Any]:
        """How candidates are trained before anything is known of that."""
        chosen: dict[str, Any] = {"learning_rate": 2e-3}
        if self.labelled:
            # The original costs many times what a small network does: without it there is time for more steps.
            chosen["teacher_weight"] = 0.0
        if self.images:
            # A long training learns the images by heart where they never move.
            chosen["augment"] = AUGMENTS[0]
        return chosen

    def first(self) -> list[dict[str, Any]]:
        """The parameters to begin with: every sequence of methods at the limit, in the first format."""
        keep = (self.limit or 0.3) * self.aim
        best = self.formats[0]
        found = []
        for name, methods in self.orders.items():
            if not methods and best == "float32":
                continue
            chosen: dict[str, Any] = {"methods": name, "format": best, **self.training}
            if methods:
                chosen["keep"] = min(max(keep, self.keeps[0]), self.keeps[1])
            if len([m for m in methods if METHODS[m][1]]) > 1:
                chosen["split"] = 0.5
            if "prune_channels" in methods:
                chosen["criterion"] = CRITERIA[0]
            if "substitute_conv" in methods:
                chosen |= {"structure": STRUCTURES[0], "layers": 1.0}
            found.append(chosen)
        return found

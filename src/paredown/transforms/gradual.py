"""Gradual pruning: a composition of `PruneWeights` and `FineTune`, spelt out as the transforms of a recipe."""

import dataclasses

from paredown.errors import SettingError
from paredown.transform import Transform
from paredown.transforms.fine_tune import FineTune
from paredown.transforms.prune_weights import PruneWeights


def gradual_pruning(prune: PruneWeights, tune: FineTune, steps: int, start: float = 0.0) -> tuple[Transform, ...]:
    """Zeros come in over several steps, many at first and few at last, with training after each.

    After step t of n the sparsity is s + (start − s)·(1 − t/n)³, s being that of `prune`.

    Args:
        prune: What is to be reached; all its settings but the sparsity hold at every step.
        tune: What follows each step; zeros are kept whatever its `keep_zeros` says.
        steps: How many, at least 1.
        start: Sparsity that is there already, in [0, s].
    Returns:
        `2 * steps` transforms, for `Recipe([...])`.
    Raises:
        SettingError: If `prune` has no sparsity (an n:m pattern), or steps or start lie outside their domain.
    Source:
        Zhu & Gupta 2017, arXiv:1710.01878, section 3, eq. 1.
    """
    goal = prune.sparsity
    if goal is None:
        raise SettingError(
            f"gradual_pruning needs a sparsity to reach. Received: pattern={prune.pattern!r}, which has none "
            "(PruneWeights). Prune to it in one step, or through '3:4' to '2:4' by hand."
        )
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise SettingError(f"steps must be a whole number of at least 1. Received: steps={steps!r} (gradual_pruning).")
    if not 0 <= start <= goal:
        raise SettingError(f"start must be in [0, sparsity={goal}]. Received: start={start} (gradual_pruning). Use 0.")
    shares = [goal + (start - goal) * (1 - step / steps) ** 3 for step in range(1, steps + 1)]
    keeping = dataclasses.replace(tune, keep_zeros=True)
    return tuple(each for share in shares for each in (dataclasses.replace(prune, sparsity=share), keeping))

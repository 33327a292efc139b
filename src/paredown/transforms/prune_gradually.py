"""PruneGradually: a budget reached in steps, with training in between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from paredown.channels import ChannelGroup, channel_groups
from paredown.checks import Check
from paredown.errors import SettingError
from paredown.profiling import profile
from paredown.transform import Transform, TransformResult
from paredown.transforms.fine_tune import FineTune
from paredown.transforms.prune_channels import PruneChannels
from paredown.transforms.prune_cycle import units
from paredown.transforms.rounds import Rounds, proved

#: Share of the way after a share of the steps, both in [0, 1].
COURSES: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "cubic": lambda x: 1 - (1 - x) ** 3,
}
_BUDGETS = ("sparsity", "macs", "params")

#: Prunes on to a share of the way, in [0, 1]; gives how many channels each layer lost.
Step = Callable[[Rounds, float], dict[str, int]]


@dataclass(frozen=True)
class PruneGradually(Transform):
    """Prunes to a budget in steps and trains after each.

    After step t of n the share f(t/n) of what is to go has gone: f(x) = x, or 1 - (1 - x)^3, which takes much while
    there is much. The budget is a share of the original network; after the last step it is the one that a single
    pruning would have met. All statistics are of `data.train`. `removed` counts by the original network's channels.

    Args:
        prune: What goes, with the budget of the end as `sparsity`, `macs` or `params`.
        tune: How to train after each step.
        steps: How many.
        course: "cubic" or "linear".
    Source:
        Zhu & Gupta 2017, arXiv:1710.01878, section 3, equation 1 (initial sparsity 0).
    """

    name: ClassVar[str] = "prune_gradually"

    prune: PruneChannels = PruneChannels(sparsity=0.5)
    tune: FineTune = FineTune()
    steps: int = 5
    course: str = "cubic"

    def __post_init__(self):
        for name, kind in (("tune", FineTune), ("prune", PruneChannels)):
            if not isinstance(getattr(self, name), kind):
                raise SettingError(
                    f"{name} must be a {kind.__name__}. Received: {name}={getattr(self, name)!r} (PruneGradually)."
                )
        if self._budget() is None:
            raise SettingError(
                f"prune must have a budget of {', '.join(_BUDGETS)}. Received: prune={self.prune!r} (PruneGradually). "
                "Use PruneCycle for a threshold."
            )
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise SettingError(
                f"steps must be a whole number of at least 1. Received: steps={self.steps!r} (PruneGradually). Use 5."
            )
        if self.course not in COURSES:
            raise SettingError(
                f"course must be one of {', '.join(COURSES)}. Received: course={self.course!r} (PruneGradually)."
            )

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        rounds = Rounds(model, data, seed, teacher, "PruneGradually")
        kind = self._budget()
        assert kind is not None  # The constructor saw to it.
        step = self._sparser(model) if kind == "sparsity" else self._cheaper(kind, model, data.input_shape)
        for number in range(1, self.steps + 1):
            gone = step(rounds, COURSES[self.course](number / self.steps))
            log = rounds.tune(self.tune)
            loss = log["history"]["loss"][-1]
            rounds.log.append(
                {"step": number, "removed": gone, "units": units(rounds.model), "loss": loss, "training": log}
            )
        return rounds.result(steps=self.steps)

    def prove(self, model: Any, result: TransformResult, inputs: Sequence[np.ndarray]) -> tuple[Check, ...]:
        """What each step's pruning proved on the spot; the trainings in between allow no equality from end to end."""
        return proved(result)

    def _budget(self) -> str | None:
        return next((name for name in _BUDGETS if getattr(self.prune, name, None) is not None), None)

    def _cheaper(self, kind: str, model: Any, shape: tuple) -> Step:
        """Steps of a cost: the share to keep of what the network costs by now."""
        whole, goal = getattr(profile(model, shape), kind), getattr(self.prune, kind)

        def step(rounds: Rounds, progress: float) -> dict[str, int]:
            wanted = whole * (1 - (1 - goal) * progress)
            share = min(1.0, wanted / max(1, getattr(profile(rounds.model, shape), kind)))
            return rounds.prune(replace(self.prune, **{kind: share}))

        return step

    def _sparser(self, model: Any) -> Step:
        """Steps of the sparsity, in whole channels of the original's widths, so that roundings don't add up."""
        sizes = {_key(group): group.size for group in self._open_groups(model)}
        total = sum(sizes.values())

        def everywhere(rounds: Rounds, progress: float) -> dict[str, int]:
            left = sum(group.size for group in self._open_groups(rounds.model))
            goal = int(self._sparsity(progress) * total + 1e-9)
            return rounds.prune(replace(self.prune, sparsity=max(0, goal - (total - left)) / max(1, left)))

        def by_layer(rounds: Rounds, progress: float) -> dict[str, int]:
            groups, gone = self._open_groups(rounds.model), {}
            shares = _shares(groups, sizes, self._sparsity(progress))
            for share in sorted(set(shares)) or [0.0]:
                others = {path for g, s in zip(groups, shares, strict=True) if s != share for path in g.outputs}
                exclude = (*self.prune.exclude, *sorted(others - set(self.prune.exclude)))
                # Nothing goes at 0; asked all the same for the reasons why layers stay.
                criterion = self.prune.criterion if share else "random"
                prune = replace(self.prune, criterion=criterion, sparsity=share, exclude=exclude)
                gone |= rounds.prune(prune, aside=others)
            return gone

        return everywhere if self.prune.scope == "global" else by_layer

    def _sparsity(self, progress: float) -> float:
        assert self.prune.sparsity is not None  # `_budget` said so.
        return self.prune.sparsity * progress

    def _open_groups(self, model: Any) -> list[ChannelGroup]:
        return [group for group in channel_groups(model) if not set(group.outputs) & set(self.prune.exclude)]


def _key(group: ChannelGroup) -> tuple[str, ...]:
    return tuple(sorted(group.outputs))


def _shares(groups: list[ChannelGroup], sizes: dict[tuple, int], sparsity: float) -> list[float]:
    """The share that each group must lose by now to have lost `sparsity` of its first size.

    Groups that share a layer are pruned in one go, by the smallest of their shares: none loses too much.
    """
    shares = []
    for group in groups:
        size = sizes.get(_key(group), group.size)
        goal = size - int(sparsity * size + 1e-9)
        shares.append(max(0, group.size - goal) / group.size)
    paths = {path: i for i, path in enumerate(dict.fromkeys(p for group in groups for p in group.outputs))}
    pairs = [(number, len(groups) + paths[path]) for number, group in enumerate(groups) for path in group.outputs]
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    count = len(groups) + len(paths)
    _, cluster = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), (count, count)), directed=False)
    least: dict[int, float] = {}
    for number, share in enumerate(shares):
        least[cluster[number]] = min(share, least.get(cluster[number], 1.0))
    return [least[cluster[number]] for number in range(len(groups))]

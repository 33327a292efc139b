"""PruneChannels: removes whole channels, so that what is left is an ordinary smaller network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from paredown.budget import keep_above, keep_share, keep_within
from paredown.channels import ChannelGroup, Channels
from paredown.checks import Check, largest_difference
from paredown.criteria import CRITERIA
from paredown.errors import SettingError
from paredown.layer_rules import rule_for
from paredown.narrow import masked_outputs, narrow, removed_channels
from paredown.network import Network
from paredown.profiling.cost import MacCount
from paredown.scoring import COMBINE, component_scores, in_one_unit
from paredown.transform import Change, Skip, Transform, TransformResult

_BUDGETS = ("sparsity", "threshold", "macs")


@dataclass(frozen=True)
class PruneChannels(Transform):
    """Removes the channels that a criterion holds least worth, until a budget is met.

    Exactly one of `sparsity`, `threshold` and `macs` is given. What a removed channel gave is zero afterwards: the
    new network's outputs are those of the old one with the removed channels set to zero.

    Args:
        criterion: A row of `criteria.CRITERIA`.
        sparsity: Share of the channels to remove, in [0, 1); with scope "layer" of each layer's.
        threshold: Channels with a score at or below this go, in the criterion's own unit.
        macs: Share of the network's MACs to keep, in (0, 1]; MACs of layers without a rule are not known and not
            counted.
        scope: "layer": all coupled layers lose the same share; "global": all channels are ranked together, scores
            divided by their layer's mean where the criterion's unit differs between layers.
        round_to: Each layer keeps a multiple of so many channels (rounded up).
        min_channels: Each layer keeps at least so many.
        exclude: Names of layers whose channels all stay.
        combine: How the scores of a channel's places (coupled layers, readers) become one: "sum", "mean" or "max";
            None: the mean where the unit is one for all layers, and the sum of all others.
        batch_size: Examples per step of the statistics pass.
    """

    name: ClassVar[str] = "prune_channels"

    criterion: str = "activation_count"
    sparsity: float | None = None
    threshold: float | None = None
    macs: float | None = None
    scope: str = "layer"
    round_to: int = 1
    min_channels: int = 1
    exclude: tuple[str, ...] = ()
    combine: str | None = None
    batch_size: int = 128

    def __post_init__(self):
        if isinstance(self.exclude, str):
            raise SettingError(
                f"exclude must be a list of layer names. Received: exclude={self.exclude!r} (PruneChannels). "
                f"Use [{self.exclude!r}]."
            )
        object.__setattr__(self, "exclude", tuple(self.exclude))
        for name in _BUDGETS:
            _number(name, getattr(self, name))
        _one_of("criterion", self.criterion, CRITERIA)
        _one_of("scope", self.scope, ("layer", "global"))
        if self.combine is not None:
            _one_of("combine", self.combine, COMBINE)
        given = {name: getattr(self, name) for name in _BUDGETS if getattr(self, name) is not None}
        if len(given) != 1:
            raise SettingError(
                f"Exactly one of sparsity, threshold and macs must be given. Received: {given or 'none'} "
                "(PruneChannels). Use sparsity=0.5 to remove half the channels."
            )
        _within("sparsity", self.sparsity, 0, 1, "[0, 1)", "Use 0.5 to remove half the channels.")
        if self.macs is not None and not 0 < self.macs <= 1:
            raise SettingError(
                f"macs must be in (0, 1]. Received: macs={self.macs} (PruneChannels). Use 0.5 to halve the MACs."
            )
        for name in ("round_to", "min_channels", "batch_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise SettingError(
                    f"{name} must be a whole number of at least 1. Received: {name}={getattr(self, name)} "
                    "(PruneChannels)."
                )

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        channels = Channels(model)
        groups = self._open_groups(channels)
        scores = self._scores(channels, groups, data, seed)
        keep = self._keep(channels, groups, scores, data)
        removed = removed_channels(channels, keep)
        changes = tuple(
            Change(path, "output channels", len(channels.outputs[path]), len(channels.outputs[path]) - len(gone))
            for path, gone in removed.items()
        )
        return TransformResult(narrow(model, channels, keep), changes, self._skips(channels, removed), removed)

    def prove(self, model: Any, result: TransformResult, inputs: Sequence[np.ndarray]) -> tuple[Check, ...]:
        """Pruned equals masked: the original with the removed channels at zero gives the same outputs.

        Args:
            inputs: One array per network input, shape (a few, ...).
        """
        masked = masked_outputs(Network(model), result.removed, inputs)
        pruned = masked_outputs(Network(result.model), {}, inputs)
        return (Check("pruned equals masked", largest_difference(masked, pruned), 1e-4),)

    def _open_groups(self, channels: Channels) -> list[ChannelGroup]:
        """The groups that may lose channels."""
        unknown = set(self.exclude) - set(channels.outputs)
        if unknown:
            raise SettingError(
                f"exclude must name layers that make or carry channels. Received: {sorted(unknown)} (PruneChannels). "
                f"The network has: {', '.join(list(channels.outputs)[:8])}, …"
            )
        return [g for g in channels.groups if not set(g.outputs) & set(self.exclude)]

    def _skips(self, channels: Channels, removed: dict[str, np.ndarray]) -> tuple[Skip, ...]:
        """Why a layer lost nothing: every layer with weights, or without a rule, that is not in `removed`."""
        reasons = {}
        for group in channels.groups:
            excluded = set(group.outputs) & set(self.exclude)
            for path in group.outputs:
                if path in self.exclude:
                    reasons[path] = "excluded"
                elif excluded:
                    reasons[path] = f"coupled with {min(excluded)}, which is excluded"
                elif group.size == 1 < group.outputs[path].size:
                    reasons.setdefault(path, "its channels can only go all together")
                elif group.size <= self.min_channels:
                    reasons.setdefault(path, f"has {group.size} channels, of which {self.min_channels} must stay")
                else:
                    reasons.setdefault(path, f"the budget takes none of its {group.size} channels")
        reasons |= channels.why_pinned() | channels.barriers
        treated = {
            call.path: Skip(call.path, reasons[call.path])
            for call in channels.network.all_calls()
            if call.path in reasons
            and call.path not in removed
            and (getattr(call.operation, "weights", None) or rule_for(call.operation) is None)
        }
        return tuple(treated.values())

    def _scores(self, channels: Channels, groups: list[ChannelGroup], data: Any, seed: int) -> np.ndarray:
        """The score of each component, shape (channels.count,)."""
        scores = component_scores(channels, self.criterion, data, seed, self.combine, self.batch_size)
        # A threshold is in the criterion's own unit; a ranking over layers needs one unit for all.
        if self.scope == "global" and self.threshold is None and not CRITERIA[self.criterion].comparable:
            return in_one_unit(scores, groups)
        return scores

    def _keep(self, channels: Channels, groups: list[ChannelGroup], scores: np.ndarray, data: Any) -> np.ndarray:
        members = [group.components for group in groups]
        limits = (self.round_to, self.min_channels)
        if self.threshold is not None:
            return keep_above(scores, members, self.threshold, *limits)
        if self.sparsity is not None:
            return keep_share(scores, members, self.sparsity, self.scope, *limits)
        assert self.macs is not None  # The constructor saw to it that one budget is given.
        count = MacCount(channels, data.input_shape if data else None)
        everything = count(np.ones(channels.count, bool))
        return keep_within(scores, members, count, self.macs * everything, self.scope, *limits)


def _one_of(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise SettingError(f"{name} must be one of {', '.join(known)}. Received: {name}={value!r} (PruneChannels).")


def _number(name: str, value: float | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value)):
        raise SettingError(f"{name} must be a finite number. Received: {name}={value!r} (PruneChannels).")


def _within(name: str, value: float | None, low: float, high: float, interval: str, hint: str) -> None:
    if value is not None and not low <= value < high:
        raise SettingError(f"{name} must be in {interval}. Received: {name}={value} (PruneChannels). {hint}")

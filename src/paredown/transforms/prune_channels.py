"""PruneChannels: removes whole channels, so that what is left is an ordinary smaller network."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from paredown.budget import keep_above, keep_share
from paredown.channels import ChannelGroup, Channels
from paredown.checks import Check, largest_difference
from paredown.criteria import CRITERIA
from paredown.data import Split
from paredown.errors import DataError, SettingError
from paredown.latency_table import LatencyTable
from paredown.layer_rules import rule_for
from paredown.moments import Moments
from paredown.narrow import fresh_states, masked_outputs, narrow, removed_channels, removed_inside
from paredown.network import Network
from paredown.profiling import MacCount
from paredown.reconstruct import Refit, in_memory, refit
from paredown.scoring import COMBINE, component_scores, in_one_unit, saved_share
from paredown.sensitivity import measured_losses
from paredown.transform import Change, Skip, Transform, TransformResult
from paredown.transforms.channel_budget import (
    BUDGETS,
    COSTS,
    SCOPES,
    check_budgets,
    keep_affordable,
    keep_widths,
    table_identity,
)
from paredown.transforms.objective import example_loss

#: Examples on which the outputs of narrowed networks are compared.
MEASURED_EXAMPLES = 400


@dataclass(frozen=True)
class PruneChannels(Transform):
    """Removes the channels that a criterion holds least worth, until a budget is met.

    Exactly one of `sparsity`, `threshold`, `macs`, `params`, `latency` and `widths` is given. What a removed channel
    gave is zero afterwards: the new network's outputs are those of the old one with the removed channels set to zero
    and, where there are data, with the layers that read them put right (`compensate`, `reconstruct`).

    Args:
        criterion: A row of `criteria.CRITERIA`.
        sparsity: Share of the channels to remove, in [0, 1); with scope "layer" of each layer's.
        threshold: Channels with a score at or below this go, in the criterion's own unit.
        macs: Share of the network's MACs to keep, in (0, 1]; MACs of layers without a rule are not known and not
            counted.
        params: Share of the network's parameters to keep, in (0, 1].
        latency: Share of the network's latency to keep, in (0, 1], by `latency_table`.
        widths: Layer (or what is inside one, "attention/heads") -> how many of its channels stay; coupled layers get
            the same, all others stay as they are.
        latency_table: A `LatencyTable`, the path of its JSON file, or "host": every layer is measured in LiteRT on this
            computer, on one thread, at many widths.
        scope: "layer": all coupled layers lose the same share; "global": all channels are ranked together, scores
            divided by their layer's mean where the criterion's unit differs between layers; "optimal": of all widths
            that macs, params or latency allows, those with the least sum of removed scores (divided likewise);
            "measured": likewise with the least sum of losses, each measured by narrowing one group alone to a few
            widths and comparing the network's outputs.
        round_to: Each layer keeps a multiple of so many channels (rounded up).
        min_channels: Each layer keeps at least so many.
        exclude: Names of layers whose channels all stay.
        combine: How the scores of a channel's places (coupled layers, readers) become one: "sum", "mean" or "max";
            None: the mean where the unit is one for all layers, and the sum of all others; criteria of gradients sum
            over a channel's readers before they square.
        batch_size: Examples per step of the statistics pass.
        cost_weight: What the network's MACs are worth in the criterion's unit: from each score goes this times the
            share of the MACs that removing the channel alone saves (for "fisher": Theis et al. 2018,
            arXiv:1801.05787, section 2.3). 0 looks at scores alone.
        compensate: Where there are data, what a removed channel contributed on average goes into the bias of the layers
            that read it (or the BatchNormalization behind them).
        reconstruct: The layers behind removed channels are refitted by least squares, so that they give what they gave
            before from the channels that stay; needs data, and does what `compensate` does, too.
        examples: At most so many of the calibration data, drawn at random, are used for second moments (criteria
            "structured_obs", "thinet", "redundancy"), measured losses and refitting.
    """

    name: ClassVar[str] = "prune_channels"

    criterion: str = "activation_count"
    sparsity: float | None = None
    threshold: float | None = None
    macs: float | None = None
    params: float | None = None
    latency: float | None = None
    widths: dict[str, int] | None = None
    latency_table: Any = None
    scope: str = "layer"
    round_to: int = 1
    min_channels: int = 1
    exclude: tuple[str, ...] = ()
    combine: str | None = None
    batch_size: int = 128
    cost_weight: float = 0.0
    compensate: bool = True
    reconstruct: bool = False
    examples: int = 1024

    def __post_init__(self):
        if isinstance(self.exclude, str):
            raise SettingError(
                f"exclude must be a list of layer names. Received: exclude={self.exclude!r} (PruneChannels). "
                f"Use [{self.exclude!r}]."
            )
        object.__setattr__(self, "exclude", tuple(self.exclude))
        if isinstance(self.latency_table, dict):
            object.__setattr__(self, "latency_table", LatencyTable.from_dict(self.latency_table))
        for name in ("sparsity", "threshold", *COSTS, "cost_weight"):
            _number(name, getattr(self, name))
        _one_of("criterion", self.criterion, CRITERIA)
        _one_of("scope", self.scope, SCOPES)
        if self.combine is not None:
            _one_of("combine", self.combine, COMBINE)
        given = {name: getattr(self, name) for name in BUDGETS if getattr(self, name) is not None}
        check_budgets(given, self.scope, self.latency_table, type(self).__name__)
        if self.cost_weight < 0:
            raise SettingError(
                f"cost_weight must be at least 0. Received: cost_weight={self.cost_weight} (PruneChannels)."
            )
        for name in ("round_to", "min_channels", "batch_size", "examples"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise SettingError(
                    f"{name} must be a whole number of at least 1. Received: {name}={getattr(self, name)} "
                    "(PruneChannels)."
                )

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        if data is None and self.reconstruct:
            raise DataError(
                "reconstruct needs data to refit layers on. Received: data=None (PruneChannels). "
                "Give Data(calibration=inputs), or leave reconstruct out."
            )
        channels = Channels(model)
        groups = self._open_groups(channels)
        moments = None if data is None else Moments(channels, data.calibration.sample(self.examples, seed), seed)
        with fresh_states(channels.network):
            scores = self._scores(channels, groups, data, seed, moments)
            keep = self._keep(channels, groups, scores, data, moments)
        removed, inside = removed_channels(channels, keep), removed_inside(channels, keep)
        gone = {**removed, **inside}
        changes = tuple(change_of(channels, path, len(indices)) for path, indices in gone.items())
        skips, log, reference = self._skips(channels, scores, removed, inside), {}, None
        if data is not None and moments is not None and gone and (self.compensate or self.reconstruct):
            with fresh_states(channels.network):
                refitted = self._refitted(channels, keep, moments.split, data.input_shape, seed)
            skips += tuple(Skip(path, f"not refitted: it {why}") for path, why in refitted.skipped.items())
            log, reference = {"refit_errors": refitted.errors}, refitted.model
        # Operations inside custom layers get new names at every look: each network is narrowed by its own channels.
        narrowed = narrow(model, channels, keep) if reference is None else narrow(reference, Channels(reference), keep)
        return TransformResult(narrowed, changes, skips, removed, inside, log, reference)

    def prove(self, model: Any, result: TransformResult, inputs: Sequence[np.ndarray]) -> tuple[Check, ...]:
        """Pruned equals masked: the network (refitted, where that was asked for) with the removed channels at zero
        gives the same outputs.

        Args:
            inputs: One array per network input, shape (a few, ...).
        """
        masked = masked_outputs(Network(result.reference or model), {**result.removed, **result.inside}, inputs)
        pruned = masked_outputs(Network(result.model), {}, inputs)
        return (Check("pruned equals masked", largest_difference(masked, pruned), 1e-4),)

    def settings(self) -> dict[str, Any]:
        plain = super().settings()
        if isinstance(self.latency_table, LatencyTable):
            plain["latency_table"] = self.latency_table.to_dict()
        elif self.latency_table is not None:
            plain["latency_table"] = os.fspath(self.latency_table)
        return plain

    def identity(self) -> dict[str, Any]:
        return {**self.settings(), "latency_table": table_identity(self.latency_table)}

    def _open_groups(self, channels: Channels) -> list[ChannelGroup]:
        """The groups that may lose channels."""
        unknown = set(self.exclude) - set(channels.outputs) - set(channels.inside.values())
        if unknown:
            raise SettingError(
                f"exclude must name layers that make or carry channels. Received: {sorted(unknown)} (PruneChannels). "
                f"The network has: {', '.join(list(channels.outputs)[:8])}, …"
            )
        return [g for g in channels.groups if not self._excluded(channels, g)]

    def _excluded(self, channels: Channels, group: ChannelGroup) -> set[str]:
        """Those layers of the group, by their paths or as the layers around what is in it, that are excluded."""
        return {path for key in group.outputs for path in (key, channels.inside.get(key, key))} & set(self.exclude)

    def _skips(
        self, channels: Channels, scores: np.ndarray, removed: dict[str, np.ndarray], inside: dict[str, np.ndarray]
    ) -> tuple[Skip, ...]:
        """Why a layer lost nothing: every layer with weights, or without a rule, that is not in `removed`."""
        reasons = {}
        for group in channels.groups:
            excluded = self._excluded(channels, group)
            for path in group.outputs:
                if path in self.exclude or channels.inside.get(path) in self.exclude:
                    reasons[path] = "excluded"
                elif excluded:
                    reasons[path] = f"coupled with {min(excluded)}, which is excluded"
                elif group.size == 1 < group.outputs[path].size:
                    reasons.setdefault(path, "its channels can only go all together")
                elif group.size <= self.min_channels:
                    reasons.setdefault(path, f"has {group.size} channels, of which {self.min_channels} must stay")
                elif not np.isfinite(scores[group.components]).any():
                    reasons.setdefault(path, f"criterion {self.criterion!r} gives its channels no score")
                else:
                    reasons.setdefault(path, f"the budget takes none of its {group.size} channels")
        reasons |= channels.why_pinned() | channels.barriers
        reasons |= _with_insides(channels, reasons, inside)
        treated = {
            call.path: Skip(call.path, reasons[call.path])
            for call in channels.network.all_calls()
            if call.path in reasons
            and call.path not in removed
            and (getattr(call.operation, "weights", None) or rule_for(call.operation) is None)
        }
        return tuple(treated.values())

    def _refitted(self, channels: Channels, keep: np.ndarray, split: Split, input_shape: tuple, seed: int) -> Refit:
        """The network with its layers refitted on as many of the examples as fit into memory."""
        split = in_memory(split, channels.network.model, input_shape)
        return refit(channels.network.model, channels, keep, split, self.reconstruct, seed)

    def _scores(self, channels: Channels, groups: list[ChannelGroup], data: Any, seed: int, moments: Any) -> np.ndarray:
        """The score of each component, shape (channels.count,)."""
        loss = None
        if data is not None and CRITERIA[self.criterion].reads == "gradients":
            loss = example_loss(channels.network.model, data.calibration)
        scores = component_scores(channels, self.criterion, data, seed, self.combine, self.batch_size, loss, moments)
        # A threshold is in the criterion's own unit; a ranking over layers needs one unit for all.
        if self.scope in ("global", "optimal") and self.threshold is None and not CRITERIA[self.criterion].comparable:
            scores = in_one_unit(scores, groups)
        if self.cost_weight:
            count = MacCount(channels, data.input_shape if data else None)
            scores = scores - self.cost_weight * saved_share(count, channels)
        return scores

    def _keep(
        self, channels: Channels, groups: list[ChannelGroup], scores: np.ndarray, data: Any, moments: Any
    ) -> np.ndarray:
        members = [group.components for group in groups]
        limits = (self.round_to, self.min_channels)
        if self.threshold is not None:
            return keep_above(scores, members, self.threshold, *limits)
        if self.sparsity is not None:
            return keep_share(scores, members, self.sparsity, self.scope, *limits)
        if self.widths is not None:
            return keep_widths(channels, groups, scores, self.widths)
        ((cost, share),) = [(COSTS[name], getattr(self, name)) for name in COSTS if getattr(self, name) is not None]
        counted = cost(channels, data.input_shape if data else None, self.latency_table)
        losses = None
        if self.scope == "measured":
            if moments is None:
                raise DataError(
                    "scope 'measured' needs data to measure losses on. Received: data=None (PruneChannels). "
                    "Give Data(calibration=inputs), or use scope='optimal'."
                )
            few = moments.split.take(MEASURED_EXAMPLES)
            consumers = list(moments.consumers.values())
            losses = measured_losses(channels, groups, scores, consumers, few, self.reconstruct)
        return keep_affordable(counted, share, scores, members, self.scope, *limits, losses)


def _with_insides(channels: Channels, reasons: dict[str, str], inside: dict[str, np.ndarray]) -> dict[str, str]:
    """Layer -> what became of the channels inside it, and why its output channels stay."""
    told: dict[str, list[str]] = {}
    for part, path in channels.inside.items():
        reason = f"{len(inside[part])} removed" if part in inside else reasons[part]
        told.setdefault(path, []).append(f"{part.removeprefix(f'{path}/')}: {reason}")
    own = {path: [f"output channels: {reasons[path]}"] for path in told if path in reasons}
    return {path: "; ".join(parts + own.get(path, [])) for path, parts in told.items()}


def change_of(channels: Channels, path: str, gone: int) -> Change:
    """What happened to a layer's output channels, or to what is inside it (heads, say)."""
    layer, size = channels.inside.get(path), len(channels.outputs[path])
    what = "output channels" if layer is None else path.removeprefix(f"{layer}/").replace("_", " ")
    return Change(layer or path, what, size, size - gone)


def _one_of(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise SettingError(f"{name} must be one of {', '.join(known)}. Received: {name}={value!r} (PruneChannels).")


def _number(name: str, value: float | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value)):
        raise SettingError(f"{name} must be a finite number. Received: {name}={value!r} (PruneChannels).")

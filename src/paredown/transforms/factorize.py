"""Factorize: puts several cheaper layers in the place of one, on any trained network."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from paredown.channels import Channels
from paredown.checks import Check
from paredown.errors import DataError, SettingError
from paredown.factors import FACTORIZATIONS, Candidate, Option, Problem
from paredown.factors.options import Price
from paredown.latency import predict_latency
from paredown.latency_table import LatencyTable
from paredown.moments import MOST_ROWS, input_sums
from paredown.network import Call, Network
from paredown.patches import LinearLayer
from paredown.profiling import LatencyCount, Shapes, profile
from paredown.reconstruct import in_memory
from paredown.remembered import remembered
from paredown.transform import Change, Skip, Transform, TransformResult, is_number, is_whole
from paredown.transforms.chains import equal_to_rounding
from paredown.transforms.channel_budget import HOST, opened, table_identity
from paredown.transforms.factor_fitting import Fitting
from paredown.transforms.factor_latency import host_price
from paredown.transforms.factor_ranks import RULES, by_budget, by_rule
from paredown.transforms.factor_sensitivity import measured

#: Fields that are a share of the whole network's cost to keep.
BUDGETS = ("macs", "params", "latency")
SCOPES = ("optimal", "measured")
#: The kinds that are tried where none are named. "cp" is left out: its factors are the hardest to train further.
KINDS = ("svd", "spatial", "tucker", "depthwise")
#: Numbers in the second moments of all layers, beyond which they are not kept for the next time: two matrices each.
_MOST_KEPT = 2**26


@dataclass(frozen=True)
class Factorize(Transform):
    """Replaces Dense and convolution layers by products of smaller ones.

    Exactly one of `rank`, `energy`, `evbmf`, `layer_macs`, `macs`, `params` and `latency` is given. Names of the new
    layers are the old name and what the layer does (`conv_vertical`, `conv_horizontal`); the last of them has the
    activation and bias. A layer that no rank makes cheaper stays, with that reason.

    Where there are data, factors are fitted to what the layer gives on them, not to its kernel: to what it gave in
    the network as it was, from what its compressed predecessors give now (`asymmetric`); layers that stay are refitted
    likewise. A layer that is called several times is fitted to what it read in the network as it was. Frozen layers
    (`trainable=False`) are factorized like others, and their factors are frozen.

    `result.log["ranks"]` holds kinds and ranks, `result.log["losses"]` what the output of each factorized layer lost on
    the data, mean square as a share of its variance, and `result.log["refitted"]` the same of refitted layers.

    Args:
        kinds: Rows of `factors.FACTORIZATIONS` that may be used: "svd" (k×k to R, 1×1; Dense), "spatial" (k×1, 1×k),
            "tucker" (1×1, k×k, 1×1), "cp" (1×1, depthwise, 1×1), "depthwise" (depthwise with R outputs a channel, 1×1).
        rank: The same rank everywhere; a pair is R3 and R4 of "tucker". Where several kinds have it, the one that loses
            least is taken; so with `layer_macs`.
        energy: Each layer gets the smallest rank that loses at most 1 - energy of its output's variance (without data:
            of its kernel's sum of squares), in (0, 1]. The cheapest kind is taken; so with `evbmf`.
        evbmf: Each layer gets the rank that its kernel stands out of noise with.
        layer_macs: Share of each layer's own MACs to keep, in (0, 1).
        macs, params, latency: Share of the whole network's to keep, in (0, 1]: kinds and ranks of all layers at once
            with the least sum of losses.
        latency_table: A `LatencyTable` or the path of its JSON file, with the factors' names among its layers; or
            "host": layers and factors are measured in LiteRT on this computer, on one thread.
        scope: What is summed for a budget of the whole network. "optimal": each layer's loss. "measured": what a loss
            in the layer costs the network's outputs, measured by factorizing each layer alone; needs data.
        exclude: Names of layers whose weights stay as they are.
        data_aware: Use calibration data where there are some.
        asymmetric: Fit each layer to what its predecessors give now.
        examples: At most so many of the calibration data, drawn at random, are used.
    Source:
        Denton et al. 2014, arXiv:1404.0736; Jaderberg et al. 2014, arXiv:1405.3866; Zhang et al. 2015,
        arXiv:1505.06798 (data, asymmetric); Kim et al. 2016, arXiv:1511.06530 (Tucker, EVBMF); Lebedev et al. 2015,
        arXiv:1412.6553 (CP).
    """

    name: ClassVar[str] = "factorize"

    kinds: str | tuple[str, ...] = KINDS
    rank: int | tuple[int, int] | None = None
    energy: float | None = None
    evbmf: bool = False
    layer_macs: float | None = None
    macs: float | None = None
    params: float | None = None
    latency: float | None = None
    latency_table: Any = None
    scope: str = "optimal"
    exclude: str | tuple[str, ...] = ()
    data_aware: bool = True
    asymmetric: bool = True
    examples: int = 1024

    def __post_init__(self):
        for name in ("kinds", "exclude"):
            value = getattr(self, name)
            if not isinstance(value, str | tuple | list):
                raise SettingError(f"{name} must be a list of names. Received: {name}={value!r} (Factorize).")
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if isinstance(self.rank, list):
            object.__setattr__(self, "rank", tuple(self.rank))
        if isinstance(self.latency_table, dict):
            object.__setattr__(self, "latency_table", LatencyTable.from_dict(self.latency_table))
        unknown = [kind for kind in self.kinds if kind not in FACTORIZATIONS]
        if unknown or not self.kinds:
            raise SettingError(
                f"kinds must be of {', '.join(FACTORIZATIONS)}. Received: kinds={list(self.kinds)} (Factorize)."
            )
        given = [name for name in (*RULES, *BUDGETS) if self._is_given(name)]
        if len(given) != 1:
            raise SettingError(
                f"Exactly one of {', '.join((*RULES, *BUDGETS))} must be given. Received: "
                f"{', '.join(given) or 'none'} (Factorize)."
            )
        self._check_numbers()
        if (self.latency is None) != (self.latency_table is None):
            raise SettingError(
                "latency and latency_table go together. Received: "
                f"latency={self.latency}, latency_table={self.latency_table!r} (Factorize)."
            )
        if not isinstance(self.latency_table, LatencyTable | str | os.PathLike | None):
            raise SettingError(
                "latency_table must be a LatencyTable, the path of its file, or 'host'. Received: "
                f"latency_table={self.latency_table!r} (Factorize). Use 'host' to measure this computer."
            )
        if self.scope not in SCOPES:
            raise SettingError(f"scope must be one of {', '.join(SCOPES)}. Received: scope={self.scope!r} (Factorize).")
        if self.scope == "measured" and (given[0] in RULES or not self.data_aware):
            raise SettingError(
                f"scope 'measured' shares out {', '.join(BUDGETS)} by data. Received: scope='measured' with "
                f"{given[0] if given[0] in RULES else 'data_aware=False'} (Factorize). Use scope='optimal'."
            )

    def _is_given(self, name: str) -> bool:
        return getattr(self, name) is not None and getattr(self, name) is not False

    def _check_numbers(self) -> None:
        ranks = self.rank if isinstance(self.rank, tuple) else (self.rank,)
        if self.rank is not None and not (len(ranks) <= 2 and all(is_whole(r) for r in ranks)):
            raise SettingError(
                f"rank must be a whole number of at least 1, or a pair of them. Received: rank={self.rank!r} "
                "(Factorize)."
            )
        if isinstance(self.rank, tuple) and "tucker" not in self.kinds:
            raise SettingError(
                f"A pair of ranks is for kind 'tucker'. Received: rank={self.rank}, kinds={list(self.kinds)} "
                "(Factorize)."
            )
        if not isinstance(self.evbmf, bool):
            raise SettingError(f"evbmf must be true or false. Received: evbmf={self.evbmf!r} (Factorize).")
        for name in ("energy", "layer_macs", *BUDGETS):
            value = getattr(self, name)
            most = "(0, 1)" if name == "layer_macs" else "(0, 1]"
            if value is not None and not (is_number(value) and 0 < value <= 1 and (value < 1 or name != "layer_macs")):
                raise SettingError(f"{name} must be in {most}. Received: {name}={value!r} (Factorize).")
        if not is_whole(self.examples):
            raise SettingError(
                f"examples must be a whole number of at least 1. Received: examples={self.examples!r} (Factorize)."
            )

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        network = Network(model)
        self._check_exclude(network)
        split = None if data is None or not self.data_aware else data.calibration.sample(self.examples, seed)
        if split is None and self.scope == "measured":
            raise DataError(
                "scope 'measured' needs data to measure losses on. Received: none (Factorize). "
                "Give Data(calibration=inputs), or use scope='optimal'."
            )
        layers, skips = self._layers(network)
        fitting = Fitting(model, network, self.exclude)
        candidates = self._remembered(
            layers, model, data, seed, lambda: self._candidates(layers, network, fitting, split, data, seed)
        )
        in_turn = split if self.asymmetric else None
        settle = fitting.factorize if in_turn is None else None
        chosen, log = self._chosen(candidates, model, network, split, data, settle)
        skips += [Skip(path, reason) for path, reason in chosen.items() if isinstance(reason, str)]
        taken = {c.path: (c, option) for c in candidates if isinstance(option := chosen[c.path], Option)}
        if in_turn is not None and taken:
            in_turn = in_memory(in_turn, model, data and data.input_shape)
            fitting.side_by_side(taken, in_turn, seed)
            log |= {"examples": len(in_turn), "refitted": fitting.refitted}
        if split is not None:
            large = [path for path, (candidate, _) in taken.items() if candidate.problem.sums is None]
            skips += [
                Skip(path, f"fitted to its kernel, not to data: it has over {MOST_ROWS} inputs") for path in large
            ]
        log |= {"ranks": {p: [o.kind, o.rank] for p, (_, o) in taken.items()}, "losses": fitting.losses}
        changes = tuple(_change(candidate, option) for candidate, option in taken.values())
        return TransformResult(fitting.built(), changes, tuple(skips), log=log, reference=fitting.copy)

    def prove(self, model: Any, result: TransformResult, inputs: Any) -> tuple[Check, ...]:
        """The factors give what their product gives in the place of each layer's kernel."""
        return (equal_to_rounding("factors equal their product", result.reference, result.model, inputs),)

    def settings(self) -> dict[str, Any]:
        plain = super().settings()
        if isinstance(self.latency_table, LatencyTable):
            plain["latency_table"] = self.latency_table.to_dict()
        elif self.latency_table is not None:
            plain["latency_table"] = os.fspath(self.latency_table)
        return plain

    def identity(self) -> dict[str, Any]:
        return {**self.settings(), "latency_table": table_identity(self.latency_table)}

    def _check_exclude(self, network: Network) -> None:
        known = [call.path for call in network.all_calls() if call.is_layer]
        unknown = sorted(set(self.exclude) - set(known))
        if unknown:
            raise SettingError(
                f"exclude must name layers of the network. Received: {unknown} (Factorize). "
                f"The network has: {', '.join(known[:8])}, …"
            )

    def _layers(self, network: Network) -> tuple[dict[str, tuple[Call, tuple[str, ...]]], list[Skip]]:
        """Path -> (a call, the kinds that suit); and why layers with kernels are left alone."""
        found: dict[str, tuple[Call, tuple[str, ...]]] = {}
        skips: dict[str, Skip] = {}
        for call in network.all_calls():
            if not any(len(w.shape) > 1 for w in getattr(call.operation, "weights", [])) or call.path in found:
                continue
            if call.path in self.exclude:
                skips[call.path] = Skip(call.path, "excluded")
                continue
            reasons = {kind: FACTORIZATIONS[kind].why_not(call.operation) for kind in self.kinds}
            suitable = tuple(kind for kind, reason in reasons.items() if reason is None)
            if suitable:
                found[call.path] = call, suitable
            else:
                said = "; ".join(dict.fromkeys(f"{reason}" for reason in reasons.values()))
                skips[call.path] = Skip(call.path, f"it {said}")
        return found, list(skips.values())

    def _remembered(
        self, layers: dict[str, Any], model: Any, data: Any, seed: int, compute: Callable[[], list[Candidate]]
    ) -> list[Candidate]:
        """The candidates, with what they lose at which rank: kept where their second moments are not too large, and
        costs will not get better known."""
        rows = [LinearLayer(call.operation).shape[0] for call, _ in layers.values()]
        if self.latency is not None or sum(n * n for n in rows if n <= MOST_ROWS) > _MOST_KEPT:
            return compute()
        settings = (self.kinds, self.exclude, self.params is None, self.data_aware, self.examples, seed)
        return remembered(model, data, ("factors", *settings), compute)

    def _candidates(
        self, layers: dict[str, Any], network: Network, fitting: Fitting, split: Any, data: Any, seed: int
    ) -> list[Candidate]:
        linears = {path: LinearLayer(call.operation) for path, (call, _) in layers.items()}
        seen = {path: linear for path, linear in linears.items() if split is not None and linear.shape[0] <= MOST_ROWS}
        sums = {} if split is None else input_sums(network, seen, split, seed)
        problems = {
            path: Problem.unchanged(linear, sums[path], fitting.takes_shift(path))
            if path in sums
            else Problem.plain(linear)
            for path, linear in linears.items()
        }
        shapes = Shapes(network, data.input_shape if data else None)
        read: dict[str, list[tuple[int, ...]]] = {}
        for call in network.all_calls():
            if call.path in layers:
                read.setdefault(call.path, []).append(shapes.of(call.inputs[0]))

        def candidates(price: Price) -> list[Candidate]:
            return [
                Candidate(path, problems[path], read[path], call.operation.use_bias, price, kinds)
                for path, (call, kinds) in layers.items()
            ]

        # A network of nothing that suits has nothing to measure.
        if self.latency is None or not layers:
            return candidates(attrgetter("params" if self.params is not None else "macs"))
        if self.latency_table == HOST:
            return candidates(host_price(candidates(attrgetter("macs"))))
        table = opened(self.latency_table, None)
        return candidates(lambda piece: piece.calls * table.of(piece.name, piece.inputs, piece.outputs))

    def _chosen(
        self,
        candidates: list[Candidate],
        model: Any,
        network: Network,
        split: Any,
        data: Any,
        settle: Callable[[Candidate, Option], None] | None,
    ) -> tuple[dict[str, Option | str], dict[str, Any]]:
        """What each layer becomes, or why it stays; each goes to `settle` before the next is looked at, where it can,
        so that what is held for one layer is gone with it."""
        chosen: dict[str, Option | str] = {}

        def take(candidate: Candidate, option: Option | str) -> None:
            chosen[candidate.path] = option
            if settle is not None and isinstance(option, Option):
                settle(candidate, option)
            candidate.forget()

        rule = next((name for name in RULES if self._is_given(name)), None)
        if rule is not None:
            for candidate in candidates:
                take(candidate, by_rule(candidate, rule, getattr(self, rule)))
            return chosen, {}
        whole, share = self._cost_and_share(model, data)
        rest = whole - sum(candidate.own_cost for candidate in candidates)
        losses: list[Callable[[Option], float]] = [lambda option: option.loss] * len(candidates)
        if self.scope == "measured":
            losses = measured(model, network, candidates, split)
        options, gap = by_budget(candidates, losses, rest, share * whole)
        for candidate, option in zip(candidates, options, strict=True):
            take(candidate, option)
        return chosen, {"gap": gap}

    def _cost_and_share(self, model: Any, data: Any) -> tuple[float, float]:
        """(the whole network's cost, the share of it to keep)."""
        input_shape = data.input_shape if data else None
        if self.macs is not None:
            return profile(model, input_shape).macs, self.macs
        if self.params is not None:
            return model.count_params(), self.params
        assert self.latency is not None
        if self.latency_table == HOST:
            return predict_latency(model, input_shape=input_shape).ms, self.latency
        channels = Channels(model)
        counted = LatencyCount(channels, _known_to(opened(self.latency_table, None), channels), input_shape)
        return counted(np.ones(channels.count, bool)), self.latency


def _known_to(table: LatencyTable, channels: Channels) -> LatencyTable:
    """The part of a table that is of the network itself, without the factors."""
    known = set(channels.outputs) | set(channels.reads)
    layers = {path: row for path, row in table.layers.items() if path in known}
    return LatencyTable(layers, table.device, table.runtime, table.threads, table.fixed_ms, table.source)


def _change(candidate: Candidate, option: Option) -> Change:
    rank = "×".join(map(str, option.rank)) if isinstance(option.rank, tuple) else option.rank
    return Change(candidate.path, f"factorized ({option.kind}, rank {rank}), cost", candidate.own_cost, option.cost)

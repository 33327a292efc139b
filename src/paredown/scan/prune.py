"""Channels pruned: one group of coupled channels at a time, what reads them refitted, as `PruneChannels` does it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from paredown.budget import keep_share
from paredown.channels import ChannelGroup
from paredown.latency import measured_table
from paredown.moments import carries
from paredown.narrow import fresh_states, removed_channels, removed_inside
from paredown.profiling import LatencyCount
from paredown.reconstruct import in_memory, refit
from paredown.scan.case import Case, Cases, Method, shares
from paredown.scan.result import MethodSkip
from paredown.scan.scope import Scope
from paredown.scoring import component_scores
from paredown.sensitivity import made_up
from paredown.transforms import PruneChannels

NAME, CRITERION = "prune_channels", "structured_obs"


def _cases(scope: Scope, levels: Sequence[float]) -> Cases:
    channels, cases, skips = scope.channels, [], []
    for group in channels.groups:
        why = _why_not(scope, group)
        if why:
            skips.append(MethodSkip(group.name, why, NAME))
            continue
        for level in levels:
            settings = {"group": group.name, "level": level, "criterion": CRITERION}
            run = partial(_run, scope, group, level)
            cases.append(
                Case(group.name, tuple(group.outputs), NAME, level, settings, run, partial(_alone, scope, group, level))
            )
    kept = {path: f"its channels must stay: {reason}" for path, reason in channels.why_pinned().items()}
    kept |= {path: f"it was not followed: {reason}" for path, reason in channels.barriers.items()}
    made = {path for group in channels.groups for path in group.outputs}
    skips += [MethodSkip(path, kept[path], NAME) for path in scope.with_kernels() if path in kept and path not in made]
    return cases, skips


def _why_not(scope: Scope, group: ChannelGroup) -> str | None:
    if group.size == 1:
        whole = any(indices.size > 1 for indices in group.outputs.values())
        return "its channels can only go all together" if whole else "has 1 channel"
    read = [path for path in group.inputs if not carries(scope.channels, path)]
    if not any(path in scope.linear for path in read):
        return f"no Dense or convolution reads its channels, by which {CRITERION!r} could score them"
    return None


def _alone(scope: Scope, group: ChannelGroup, level: float, more: dict) -> PruneChannels | None:
    """Excludes one layer of each other group; None where another has none of its own."""
    others = [
        [path for path in g.outputs if path not in group.outputs] for g in scope.channels.groups if g is not group
    ]
    if not all(others):
        return None
    exclude = tuple(dict.fromkeys(paths[0] for paths in others))
    return PruneChannels(
        CRITERION, sparsity=1 - level, reconstruct=True, exclude=exclude, examples=max(1, scope.examples)
    )


def _scores(scope: Scope) -> np.ndarray:
    found = scope.known.get((NAME,))
    if found is None:
        with fresh_states(scope.network):
            found = component_scores(scope.channels, CRITERION, scope.data, scope.seed, moments=scope.moments)
        scope.known[(NAME,)] = found
    return found


def _run(scope: Scope, group: ChannelGroup, level: float) -> dict[str, Any] | str:
    channels = scope.channels
    keep = keep_share(_scores(scope), [group.components], 1 - level, "layer")
    gone = int((~keep).sum())
    if not gone:
        return f"has {group.size} channels, of which all stay at this level"
    split = in_memory(scope.split, scope.model, scope.input_shape)
    with scope.trial.changed(), fresh_states(scope.network):
        refit(scope.model, channels, keep, split, True, scope.seed, copy=scope.trial.copy)
        removed = {**removed_channels(channels, keep), **removed_inside(channels, keep)}
        judged = scope.trial.judge(scope.trial.masked(removed))
    everything = np.ones(channels.count, bool)
    params = round(scope.params(everything) - scope.params(keep))
    return {
        "setting": f"{group.size - gone} of {group.size} channels",
        "predicted": _predicted(scope, group, keep),
        **judged,
        "saved_macs": round(scope.macs(everything) - scope.macs(keep)),
        "saved_params": params,
        "saved_bytes": 4 * params,
        "more": {"group": group.name, "gone": gone},
    }


def _predicted(scope: Scope, group: ChannelGroup, keep: np.ndarray) -> float | None:
    """What its readers lose once their other inputs have made up for it, and how much of that reaches the outputs."""
    consumers, total = scope.moments.consumers, 0.0
    for path in group.inputs:
        if carries(scope.channels, path):
            continue
        if path not in consumers or path not in scope.linear:
            return None
        step = made_up(consumers[path], keep[consumers[path].components]) - consumers[path].matrix
        shift = -(consumers[path].mean @ step) if scope.takes_shift(path) else 0.0
        total += scope.predicted(path, scope.lost(path, step, shift))
    return total


def _times(scope: Scope, mores: list[dict]) -> list[float | None]:
    """From a table of all layers at many widths."""
    table = measured_table(scope.model, input_shape=scope.input_shape)
    count = LatencyCount(scope.channels, table, scope.input_shape)
    groups = {group.name: group for group in scope.channels.groups}
    keep = np.ones(scope.channels.count, bool)
    whole, saved = count(keep), []
    for more in mores:
        # The channels of a group have the same places: which of them go makes no difference.
        keep[groups[more["group"]].components[: more["gone"]]] = False
        saved.append(whole - count(keep))
        keep[:] = True
    return saved


METHOD = Method("prune", shares, _cases, _times)

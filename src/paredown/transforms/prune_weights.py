"""PruneWeights: sets single weights to zero; every shape stays as it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from paredown.checks import Check
from paredown.errors import DataError
from paredown.network import Network
from paredown.rebuild import rebuild
from paredown.sparse import KINDS, METHODS, Kernel, Pattern, count_to_zero, hessians, zeros
from paredown.transform import Change, Skip, Transform, TransformResult, is_number
from paredown.transforms.kernel_values import carrying, changed_elsewhere, chosen_kernels
from paredown.transforms.weight_scores import Scored, scored


@dataclass(frozen=True)
class PruneWeights(Transform):
    """Makes those weights of kernels zero that a method holds least worth; weights that are zero stay zero.

    Zeros save nothing by themselves: files become smaller when they are zipped, and runtimes faster where they have
    a kernel for the pattern. `FineTune(keep_zeros=True)` trains the others on.

    Args:
        method: A row of `sparse.METHODS`: "magnitude", "obd", "obs" (the others make up for those that go) or
            "random". "obd" and "obs" read calibration inputs.
        sparsity: Share of the weights of the treated kernels that are zero afterwards, in [0, 1); rounded to whole
            weights or blocks. Not given with an n:m pattern, which says it itself.
        pattern: "unstructured"; "2:4": of every 4 neighbours along the input axis 2 are not zero, at most;
            "block 4": 4 neighbours along the input axis become zero together.
        scope: "layer": each kernel loses the same share; "global": all weights are ranked together, by magnitude as
            they are, for "obd" and "obs" by the share of the layer's output energy that they cost.
        include: Kinds of kernels that are treated: "dense", "conv", "transposed", "depthwise". Depthwise kernels are
            small and hardly ever gain from zeros: left out unless named.
        exclude: Names of layers whose weights all stay.
        examples: For "obd" and "obs": at most so many calibration inputs are read.
        batch_size: Examples per step of that pass.
        ridge: For "obs": what is added to the Hessian's diagonal, as a share of its mean.
    """

    name: ClassVar[str] = "prune_weights"

    method: str = "magnitude"
    sparsity: float | None = None
    pattern: str = "unstructured"
    scope: str = "layer"
    include: tuple[str, ...] = ("dense", "conv", "transposed")
    exclude: tuple[str, ...] = ()
    examples: int = 1024
    batch_size: int = 64
    ridge: float = 1e-4

    def __post_init__(self):
        for name in ("include", "exclude"):
            given = getattr(self, name)
            self._require(name, not isinstance(given, str), "a list of names", f"[{given!r}]")
            object.__setattr__(self, name, tuple(given))
        self._require("method", self.method in METHODS, f"one of {', '.join(METHODS)}")
        self._require("scope", self.scope in ("layer", "global"), "one of layer, global")
        self._require("include", bool(self.include) and set(self.include) <= set(KINDS), f"of {', '.join(KINDS)}")
        share = Pattern.parse(self.pattern).share
        if share is None:
            within = self.sparsity is not None and is_number(self.sparsity) and 0 <= self.sparsity < 1
            self._require("sparsity", within, "in [0, 1)", "0.5 to make half of the weights zero")
        else:
            rule = f"left out with pattern={self.pattern!r}, which makes {share:g} of the weights zero"
            self._require("sparsity", self.sparsity is None, rule)
        for name in ("examples", "batch_size"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            self._require(name, whole, "a whole number of at least 1")
        self._require("ridge", is_number(self.ridge) and 0 < self.ridge < np.inf, "above 0", "0.0001")

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        treated, skips = self._treated(Network(model))
        found = self._scored(Network(model), treated, data, seed)
        masks = zeros(self._pattern, [each.scores for each in found], self.sparsity, self.scope == "global")
        values: dict[str, dict[str, np.ndarray]] = {}
        errors = {}
        for each, gone in zip(found, masks, strict=True):
            kernel, matrices = each.kernel, each.without(gone)
            values.setdefault(kernel.path, {})[kernel.weight] = kernel.join(matrices)
            if each.hessian is not None:
                errors[kernel.key] = {"masked": each.error(each.masked(gone)), "result": each.error(matrices)}
        new = rebuild(model, carry=carrying(values))
        changes, untouched = _told(treated, values)
        log = {"output_error": errors} if errors else {}
        return TransformResult(new, changes, (*skips, *untouched), log=log)

    def prove(self, model: Any, result: TransformResult, inputs: Sequence[np.ndarray]) -> tuple[Check, ...]:
        """The pattern and the budget hold exactly, and nothing changed that had no reason to.

        Args:
            inputs: Not looked at: the equalities are of the weights themselves.
        """
        treated, _ = self._treated(Network(model))
        layers = {call.path: call.operation for call in Network(result.model).all_calls()}
        after = [kernel.value(layers[kernel.path]) for kernel in treated]
        checks = [
            Check("zeros lie in the pattern", self._broken(treated, after), 0.0),
            Check("all other weights are as they were", changed_elsewhere(Network(model), layers, treated), 0.0),
        ]
        if not METHODS[self.method].refits:
            moved = sum(
                int(((new != old) & (new != 0)).sum()) for new, old in zip(after, _values(treated), strict=True)
            )
            checks.append(Check("surviving weights are as they were", float(moved), 0.0))
        return tuple(checks)

    @property
    def _pattern(self) -> Pattern:
        return Pattern.parse(self.pattern)

    def _treated(self, network: Network) -> tuple[list[Kernel], list[Skip]]:
        return chosen_kernels(self, network, self._why_not)

    def _why_not(self, kernel: Kernel) -> str | None:
        width = self._pattern.width
        if kernel.run % width:
            return (
                f"its {kernel.weight} reads {kernel.run} neighbouring inputs, no multiple of {width} ({self.pattern})"
            )
        if METHODS[self.method].needs_data and kernel.weight != "kernel":
            return f"what its {kernel.weight} reads lies inside the layer, where {self.method} does not see it"
        return None

    def _scored(self, network: Network, treated: list[Kernel], data: Any, seed: int) -> list[Scored]:
        method, seen = METHODS[self.method], {}
        if method.needs_data:
            if data is None:
                raise DataError(
                    f"method {self.method!r} needs data to run the network on. Received: data=None (PruneWeights). "
                    "Give Data(calibration=inputs), or use 'magnitude'."
                )
            split, whole = data.calibration.take(self.examples), method.reads == "hessian"
            seen = hessians(network, treated, split, self.batch_size, whole, self._pattern.width)
        generator = np.random.default_rng(seed)
        return [
            scored(method, kernel, self._pattern, seen.get(kernel.key), generator, self.ridge, self.scope == "global")
            for kernel in treated
        ]

    def _broken(self, treated: list[Kernel], after: list[np.ndarray]) -> float:
        """Groups that hold too much, or weights short of the budget in whole blocks."""
        pattern = self._pattern
        matrices = [kernel.split(value) for kernel, value in zip(treated, after, strict=True)]
        if self.sparsity is None:
            return float(sum(pattern.broken(each) for each in matrices))
        found = [pattern.zeros_that_count(each) for each in matrices]
        sizes = [each.size for each in matrices]
        if self.scope == "global":
            found, sizes = [sum(found)], [sum(sizes)]
        wanted = [count_to_zero(pattern, size, self.sparsity) for size in sizes]
        return float(sum(max(0, need - have) for need, have in zip(wanted, found, strict=True)))


def _values(treated: list[Kernel]) -> list[np.ndarray]:
    return [kernel.value() for kernel in treated]


def _told(treated: list[Kernel], values: dict[str, dict[str, np.ndarray]]) -> tuple[tuple[Change, ...], list[Skip]]:
    """One change per layer that has more zeros than before, one skip per layer that has not."""
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    for kernel in treated:
        new = values[kernel.path][kernel.weight]
        before[kernel.path] = before.get(kernel.path, 0) + int((kernel.value() == 0).sum())
        after[kernel.path] = after.get(kernel.path, 0) + int((new == 0).sum())
    changes = tuple(Change(p, "zero weights", n, after[p]) for p, n in before.items() if after[p] != n)
    skips = [Skip(p, f"the budget asks for no zeros beyond its {n}") for p, n in before.items() if after[p] == n]
    return changes, skips

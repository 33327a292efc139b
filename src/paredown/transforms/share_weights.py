"""ShareWeights: the weights of a kernel take few different values; every shape stays as it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from paredown.checks import Check
from paredown.errors import DataError, SettingError
from paredown.network import Network
from paredown.rebuild import rebuild
from paredown.sharing import METHODS, WIDTHS, different, fisher, scale_of
from paredown.sparse import KINDS, Kernel, hessians, kernels
from paredown.transform import Change, Skip, Transform, TransformResult, is_number, is_whole
from paredown.transforms.kernel_values import Values, carrying, changed_elsewhere, chosen_kernels
from paredown.transforms.objective import example_loss
from paredown.transforms.shared_kernel import SharedKernel, within

#: What a weight's change may be weighted by.
WEIGHTINGS = ("hessian", "fisher")
#: What values may be bound to.
GRIDS = ("int8",)
#: Most values that a codebook may hold.
MOST = 2 ** max(WIDTHS)


@dataclass(frozen=True)
class ShareWeights(Transform):
    """Gives the weights of each kernel k different values, those that change the kernel least.

    Nothing is saved by that alone: a file has to hold indices and a codebook in the place of weights.
    `FineTune(keep_shared=True)` trains the shared values on. Exactly one of `k`, `bits` and `size` is given. A kernel
    of no more different values stays as it is, with that reason; biases and BatchNormalization are not looked at.

    `result.log["shared"]` holds for each kernel `k`, how many `codebooks`, the `loss` (mean square of the change as a
    share of the kernel's variance, both weighted) and the `bits` of indices and codebooks; `result.log["bits"]` their
    sum.

    Args:
        k: Values of each codebook, 2 to 256.
        bits: Bits of an index: 2**bits values; 1 to 6, or 8.
        size: Share of the treated kernels' float32 size to keep, indices and codebooks, in (0, 1]: the bits of all
            kernels at once with the least sum of losses; what fits as it is stays. Losses are added up as
            `log["shared"]` holds them; with weighting "fisher" as ½·Σ F·δ², the predicted rise of the network's loss.
        channels: So many neighbouring output channels have one codebook; None: the whole kernel.
        method: A row of `sharing.METHODS`: "optimal", the best codebook there is; "linear" and "density", Lloyd's
            iteration from even steps and from quantiles, for comparison.
        weighting: What the square of a weight's change counts. None: all the same. "hessian": the mean square of what
            the weight is multiplied with, so that the layer's outputs change least. "fisher": the mean square of the
            loss's gradient to it, on the labels or, without any, on the network's own outputs. Both read data.
        keep_zeros: What is zero stays zero and is one of the k values, so that sparsity survives.
        grid: "int8": the values of a kernel are rounded to a grid, scale·q with whole q in -127 .. 127, one scale for
            all its codebooks; `FineTune(keep_shared=True)` keeps to it. Values that meet there are one: large k need
            not be reached. None: any value.
        include: Kinds of kernels that are treated: "dense", "conv", "transposed", "depthwise".
        exclude: Names of layers whose weights all stay.
        examples: With a weighting: at most so many of the calibration data, drawn at random, are read; "fisher" goes
            through them one by one.
        batch_size: With "hessian": examples per step.
    Source:
        Han et al. 2016, arXiv:1510.00149, section 3; weighting: Choi et al. 2017, arXiv:1612.01543, section 3.
    """

    name: ClassVar[str] = "share_weights"

    k: int | None = None
    bits: int | None = None
    size: float | None = None
    channels: int | None = None
    method: str = "optimal"
    weighting: str | None = None
    keep_zeros: bool = True
    grid: str | None = None
    include: tuple[str, ...] = KINDS
    exclude: tuple[str, ...] = ()
    examples: int = 1024
    batch_size: int = 64

    def __post_init__(self):
        for name in ("include", "exclude"):
            given = getattr(self, name)
            self._require(name, not isinstance(given, str), "a list of names", f"[{given!r}]")
            object.__setattr__(self, name, tuple(given))
        given = [name for name in ("k", "bits", "size") if getattr(self, name) is not None]
        if len(given) != 1:
            raise SettingError(
                f"Exactly one of k, bits, size must be given. Received: {', '.join(given) or 'none'} (ShareWeights). "
                "Use k=16."
            )
        self._require("k", self.k is None or (is_whole(self.k, 2) and self.k <= MOST), f"from 2 to {MOST}", "16")
        known = is_whole(self.bits) and self.bits in WIDTHS
        self._require("bits", self.bits is None or known, f"one of {', '.join(map(str, WIDTHS))}", "4")
        share = self.size is None or (is_number(self.size) and 0 < self.size <= 1)
        self._require("size", share, "in (0, 1]", "0.125 for some 4 bits a weight")
        self._require("channels", self.channels is None or is_whole(self.channels), "at least 1")
        self._require("method", self.method in METHODS, f"one of {', '.join(METHODS)}")
        weighted = self.weighting is None or self.weighting in WEIGHTINGS
        self._require("weighting", weighted, f"left out or one of {', '.join(WEIGHTINGS)}")
        self._require("keep_zeros", isinstance(self.keep_zeros, bool), "true or false")
        on_grid = self.grid is None or self.grid in GRIDS
        self._require("grid", on_grid, f"left out or one of {', '.join(GRIDS)}")
        self._require("include", bool(self.include) and set(self.include) <= set(KINDS), f"of {', '.join(KINDS)}")
        for name in ("examples", "batch_size"):
            self._require(name, is_whole(getattr(self, name)), "a whole number of at least 1")

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        network = Network(model)
        found, skips = self._treated(network)
        weights = self._weights(network, found, data, seed)
        treated = [self._seen(kernel, weights.get(kernel.key)) for kernel in found]
        chosen, log = self._chosen(treated)
        values: Values = {}
        told = {}
        for each, k in zip(treated, chosen, strict=True):
            if k is not None:
                new = each.shared(k)
                values.setdefault(each.kernel.path, {})[each.kernel.weight] = new
                told[each.kernel.key] = each.told(k, new)
        changes, untouched = _told(found, values, self._why_not_shared)
        log |= {"shared": told, "bits": sum(one["bits"] for one in told.values())}
        return TransformResult(rebuild(model, carry=carrying(values)), changes, (*skips, *untouched), log=log)

    def prove(self, model: Any, result: TransformResult, inputs: Sequence[np.ndarray]) -> tuple[Check, ...]:
        """No codebook holds more than k values, zeros and grid are kept, the budget is met, and nothing else changed.

        Args:
            inputs: Not looked at: the equalities are of the weights themselves.
        """
        network, told = Network(model), result.log["shared"]
        layers = {call.path: call.operation for call in Network(result.model).all_calls()}
        treated = {kernel.key: self._seen(kernel) for kernel in kernels(network)[0]}
        shared = [
            (treated[key], treated[key].kernel.value(layers[treated[key].kernel.path]), told[key]) for key in told
        ]
        beyond = sum(max(0, different(part) - row["k"]) for each, new, row in shared for part in each.parts(new))
        checks = [
            Check("values beyond k in a codebook", float(beyond), 0.0),
            Check(
                "all other weights are as they were",
                changed_elsewhere(network, layers, [s.kernel for s, _, _ in shared]),
                0.0,
            ),
        ]
        if self.keep_zeros:
            lost = sum(int((new[each.value == 0] != 0).sum()) for each, new, _ in shared)
            checks.append(Check("zeros that were lost", float(lost), 0.0))
        if self.grid is not None:
            off = sum(scale_of(new) is None for _, new, _ in shared)
            checks.append(Check("kernels off the grid", float(off), 0.0))
        if self.size is not None:
            found, _ = self._treated(network)
            used = sum(told[k.key]["bits"] if k.key in told else treated[k.key].own_bits for k in found)
            limit = self.size * sum(treated[k.key].own_bits for k in found)
            checks.append(Check("bits beyond the budget", max(0.0, used - limit), 0.0))
        return tuple(checks)

    @property
    def _k(self) -> int | None:
        return self.k if self.bits is None else 2**self.bits

    def _seen(self, kernel: Kernel, weights: np.ndarray | None = None) -> SharedKernel:
        return SharedKernel(kernel, self.channels, self.method, self.keep_zeros, self.grid is not None, weights)

    def _treated(self, network: Network) -> tuple[list[Kernel], list[Skip]]:
        return chosen_kernels(self, network, self._why_not)

    def _why_not(self, kernel: Kernel) -> str | None:
        if self.grid is not None and (dtype := kernel.value().dtype) != "float32":
            return f"its {kernel.weight} is {dtype}, and grids are made for float32"
        if self.weighting == "hessian" and kernel.weight != "kernel":
            return f"what its {kernel.weight} reads lies inside the layer, where 'hessian' does not see it"
        return None

    def _why_not_shared(self, kernel: Kernel) -> str:
        if self._k is None:
            return f"the budget is met with its {kernel.weight} as it is"
        return f"its {kernel.weight} has no more than {self._k} different values in a codebook"

    def _weights(self, network: Network, found: list[Kernel], data: Any, seed: int) -> dict[str, np.ndarray]:
        """Kernel key -> what each weight's change counts, in the kernel's shape; empty without a weighting."""
        if self.weighting is None:
            return {}
        if data is None:
            raise DataError(
                f"weighting {self.weighting!r} needs data to run the network on. Received: data=None (ShareWeights). "
                "Give Data(calibration=inputs), or leave weighting out."
            )
        split = data.calibration.sample(self.examples, seed)
        if self.weighting == "fisher":
            variables = {kernel.key: kernel.variable(kernel.layer) for kernel in found}
            return fisher(network, variables, split, example_loss(network.model, split))
        seen = hessians(network, found, split, self.batch_size, whole=False)
        result = {}
        for kernel in found:
            diagonal = np.concatenate(seen[kernel.key].blocks, axis=1)  # [g, n]
            whole = np.broadcast_to(diagonal[:, :, None], kernel.split(kernel.value()).shape)
            result[kernel.key] = kernel.join(whole)
        return result

    def _chosen(self, treated: list[SharedKernel]) -> tuple[list[int | None], dict[str, Any]]:
        """Per kernel its k, or None where it stays."""
        if self._k is not None:
            return [self._k if each.may_change(self._k) else None for each in treated], {}
        assert self.size is not None
        chosen, gap = within(self.size, treated, absolute=self.weighting == "fisher")
        return chosen, {"gap": gap}


def _told(found: list[Kernel], values: Values, why_not: Any) -> tuple[tuple[Change, ...], list[Skip]]:
    """One change per layer with shared weights, one skip per kernel that stays."""
    counts: dict[str, np.ndarray] = {}
    skips = []
    for kernel in found:
        before = kernel.value()
        after = values.get(kernel.path, {}).get(kernel.weight)
        if after is None:
            skips.append(Skip(kernel.path, why_not(kernel)))
        else:
            pair = np.array([different(before), different(after)])
            counts[kernel.path] = counts.get(kernel.path, 0) + pair
    return tuple(Change(path, "different weights", int(a), int(b)) for path, (a, b) in counts.items()), skips

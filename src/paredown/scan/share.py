"""Weights shared: the kernels of one layer as few values each, as `ShareWeights` chooses them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from paredown.scan.case import Case, Cases, Method, no_time
from paredown.scan.result import MethodSkip
from paredown.scan.scope import Scope, assign, matrix_of
from paredown.sparse import Kernel, hessians
from paredown.transforms import ShareWeights
from paredown.transforms.shared_kernel import SharedKernel

NAME, WEIGHTING = "share_weights", "hessian"
#: Bits of an index: few enough that it begins to show.
BITS = (4, 3, 2)
_FLOAT_BITS, _BATCH = 32, 64


def _levels(asked: Sequence[float]) -> list[tuple[float, str]]:
    return [(bits / _FLOAT_BITS, f"{bits} bits") for bits in BITS]


def _cases(scope: Scope, levels: Sequence[float]) -> Cases:
    cases, skips, treated = [], [], {}
    for path in scope.with_kernels():
        treated[path] = [kernel for kernel in scope.kernels.get(path, ()) if kernel.weight == "kernel"]
        if not treated[path]:
            kind = type(scope.calls[path][0].operation).__name__
            skips.append(MethodSkip(path, f"{kind} has no kernel whose inputs can be seen", NAME))
    # Every other layer that has kernels at all, those that `ShareWeights` would name itself left out.
    for path, kernels in treated.items():
        exclude = tuple(other for other in scope.kernels if other != path)
        for level in levels if kernels else ():
            bits = round(level * _FLOAT_BITS)
            run = partial(_run, scope, path, kernels, bits)
            settings = {"layer": path, "bits": bits, "weighting": WEIGHTING}
            cases.append(Case(path, (path,), NAME, level, settings, run, partial(_alone, scope, bits, exclude)))
    return cases, skips


def _alone(scope: Scope, bits: int, exclude: tuple[str, ...], more: dict) -> ShareWeights:
    return ShareWeights(bits=bits, weighting=WEIGHTING, exclude=exclude, examples=scope.examples)


def _weights(scope: Scope) -> dict[str, np.ndarray]:
    """Kernel key -> mean squares of what it reads, as W[g, n]."""
    found = scope.known.get((NAME,))
    if found is None:
        wanted = [kernel for kernels in scope.kernels.values() for kernel in kernels if kernel.weight == "kernel"]
        seen = hessians(scope.network, wanted, scope.split, _BATCH, whole=False)
        found = {key: np.concatenate(hessian.blocks, axis=1) for key, hessian in seen.items()}
        scope.known[(NAME,)] = found
    return found


def _run(scope: Scope, path: str, kernels: Sequence[Kernel], bits: int) -> dict[str, Any] | str:
    layer, saved, changed = scope.trial.made[path], 0, 0
    with scope.trial.changed():
        for kernel in kernels:
            one = _seen(scope, kernel)
            if one.may_change(2**bits):
                assign(kernel.variable(layer), one.shared(2**bits))
                saved += one.own_bits - one.bits(2**bits)
                changed += 1
        if not changed:
            return f"its kernel has no more than {2**bits} different values"
        judged = scope.trial.judge(scope.trial.outputs())
        step = None if path not in scope.linear else matrix_of(layer) - matrix_of(scope.calls[path][0].operation)
    return {
        "setting": f"{2**bits} values",
        "predicted": None if step is None else scope.predicted(path, scope.lost(path, step)),
        **judged,
        "saved_macs": 0,
        "saved_params": 0,
        "saved_bytes": saved // 8,
        "more": {},
    }


def _seen(scope: Scope, kernel: Kernel) -> SharedKernel:
    diagonal = _weights(scope)[kernel.key]
    weights = kernel.join(np.broadcast_to(diagonal[:, :, None], kernel.split(kernel.value()).shape))
    return SharedKernel(kernel, None, "optimal", True, False, weights)


METHOD = Method("share", _levels, _cases, no_time)

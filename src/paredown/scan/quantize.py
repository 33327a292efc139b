"""Layers quantized: one at a time in the network's own .tflite file, by `quantization: {layer: int8}`."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from paredown.errors import ParedownError
from paredown.export import float_content
from paredown.export.quantization import quantize
from paredown.measure import LiteRTRunner
from paredown.number_formats import Plan
from paredown.scan.case import Case, Cases, Method
from paredown.scan.result import MethodSkip
from paredown.scan.scope import Scope

NAME = "quantize"
#: The step of class scores in int8: below it they are zero, of which there is no logarithm.
_STEP = 1 / 256
#: Level -> the format.
FORMATS = {8 / 32: "int8", 4 / 32: "int4"}


def _levels(asked: Sequence[float]) -> list[tuple[float, str]]:
    return list(FORMATS.items())


def _cases(scope: Scope, levels: Sequence[float]) -> Cases:
    cases, skips = [], []
    for path in scope.with_kernels():
        if path not in scope.kernels:
            kind = type(scope.calls[path][0].operation).__name__
            skips.append(MethodSkip(path, f"{kind} has no kernel of a kind that is treated", NAME))
            continue
        for level in levels:
            settings = {"quantization": {path: FORMATS[level]}}
            cases.append(Case(path, (path,), NAME, level, settings, partial(_run, scope, path, level)))
    return cases, skips


def _run(scope: Scope, path: str, level: float) -> dict[str, Any] | str:
    plain = scope.known.get((NAME,))
    if plain is None:
        plain = scope.known[(NAME,)] = float_content(scope.model, scope.input_shape)
    try:
        content, skips = quantize(plain, Plan(layers={path: FORMATS[level]}), scope.network, scope.data)
    except ParedownError as error:
        return str(error)
    left = [skip.reason for skip in skips if skip.layer == path]
    if left:
        return left[0]
    runner = LiteRTRunner(content)
    parts = [runner.run(x) for x, _ in scope.judged.batches(256)]
    outputs = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    weights = sum(kernel.value().size for kernel in scope.kernels[path])
    return {
        "setting": FORMATS[level],
        "predicted": None,
        **scope.trial.judge(outputs, _STEP),
        "saved_macs": 0,
        "saved_params": 0,
        "saved_bytes": round(weights * 4 * (1 - level)),
        "more": {},
    }


def _times(scope: Scope, mores: list[dict]) -> list[float | None]:
    return [None] * len(mores)


METHOD = Method(
    "quantize",
    _levels,
    _cases,
    _times,
    "a layer quantized alone has conversions around it that a network quantized as a whole has not",
)

"""Latency in LiteRT, compared fairly: all files take turns, and ratios are taken within a turn.

A machine that slows down in the middle of a measurement then slows every file alike, and the ratio stays right.
"""

import dataclasses
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from paredown import progress
from paredown.errors import SettingError
from paredown.measure.litert_runner import LiteRTRunner, check_threads

# Below this, the clock's own steps and the call's overhead show: shorter inferences are timed several at once.
SHORTEST_TIMING_MS = 1.0
#: A speed-up below this is slower, beyond what two medians differ by on a quiet machine.
CLEARLY_SLOWER = 0.97


@dataclass(frozen=True)
class Latency:
    """One file's figures.

    Args:
        path: The file.
        median_ms, p10_ms, p90_ms: Time of one inference.
        times_ms: Every timing in order, per inference.
        speedup_median, speedup_p10, speedup_p90: Of the ratios first file's time / this file's time within each
            turn; unitless, above 1 is faster than the first. 1.0 for the first.
    """

    path: str
    median_ms: float
    p10_ms: float
    p90_ms: float
    times_ms: list[float]
    speedup_median: float
    speedup_p10: float
    speedup_p90: float


@dataclass(frozen=True)
class LatencyReport:
    """Figures of several files that were measured together.

    Args:
        threads: Of the interpreter.
        runs: Turns; each gives every file one timing.
        warmup: Inferences of each file before the first timing.
        runtime: Name and version of the runtime.
        rows: One `Latency` per file, in order.
    """

    threads: int
    runs: int
    warmup: int
    runtime: str
    rows: tuple[Latency, ...]

    def to_dict(self) -> dict:
        """Plain data, as in run.json."""
        return {**dataclasses.asdict(self), "rows": [dataclasses.asdict(row) for row in self.rows]}


def measure_latency(
    paths: str | os.PathLike | Sequence[str | os.PathLike], threads: int = 1, runs: int = 50, warmup: int = 5
) -> LatencyReport:
    """Measures .tflite files interleaved (A B A B …) on this machine.

    Args:
        paths: One file or several; the first is what the others are compared with.
        threads: Of the interpreter, at least 1.
        runs: Timings per file, at least 1.
        warmup: Inferences per file that are not counted, at least 1.
    Returns:
        LatencyReport. Inputs are random, the same for all files whose inputs have one shape.
    Raises:
        SettingError: If there is no file, or threads, runs or warmup is less than 1.
        ModelError: If a file is missing, damaged, or no .tflite file of batch 1.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    check_threads(threads)
    for name, value in (("files", len(files)), ("runs", runs), ("warmup", warmup)):
        if value < 1:
            raise SettingError(f"{name} must be at least 1. Received: {name}={value}.")
    runners = [_ready(path, threads) for path in files]
    repeats = [_warm_up(runner, warmup) for runner in runners]
    times_ms = np.empty((runs, len(files)))
    with progress.task("Measure latency", total=runs) as advance:
        for turn in range(runs):
            for column, (runner, repeat) in enumerate(zip(runners, repeats, strict=True)):
                times_ms[turn, column] = _time_ms(runner, repeat)
            advance(1)
    runtime = f"ai-edge-litert {version('ai-edge-litert')}"
    rows = tuple(row(path, column, times_ms[:, 0]) for path, column in zip(files, times_ms.T, strict=True))
    return LatencyReport(threads, runs, warmup, runtime, rows)


def _ready(path: str | os.PathLike, threads: int) -> LiteRTRunner:
    runner = LiteRTRunner(path, threads)
    runner.set_random_inputs()
    return runner


def _warm_up(runner: LiteRTRunner, warmup: int) -> int:
    """Runs the file a few times and says how many inferences one timing must span."""
    fastest_ms = min(_time_ms(runner, 1) for _ in range(warmup))
    return max(1, math.ceil(SHORTEST_TIMING_MS / max(fastest_ms, 1e-4)))


def _time_ms(runner: LiteRTRunner, repeat: int) -> float:
    """Time of one inference, the mean of `repeat` in a row."""
    start = time.perf_counter()
    for _ in range(repeat):
        runner.invoke()
    return (time.perf_counter() - start) * 1e3 / repeat


def row(path: str | os.PathLike, times_ms: np.ndarray, first_ms: np.ndarray) -> Latency:
    """A file's figures.

    Args:
        path: The file.
        times_ms: Its timings, shape (turns,), milliseconds of one inference.
        first_ms: Those of the file that it is compared with, in the same turns.
    """
    speedups = first_ms / times_ms
    return Latency(
        str(path),
        *(float(v) for v in np.percentile(times_ms, (50, 10, 90))),
        times_ms=[float(v) for v in times_ms],
        **{
            f"speedup_{name}": float(np.percentile(speedups, q))
            for name, q in (("median", 50), ("p10", 10), ("p90", 90))
        },
    )

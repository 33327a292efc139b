"""model-costs: which networks run slowly in LiteRT, and why? The thesis's first questions, measured.

Each network of `model_costs_nets` is exported in float32 and int8 and measured at one and two threads, its operations
one by one, and its instructions on Arm where that is set up (`paredown setup arm64`).
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paredown.data import Data
from paredown.devices import Options, device, measure_on
from paredown.errors import ModelError
from paredown.experiments.experiment import Experiment
from paredown.experiments.model_costs_nets import NETWORKS
from paredown.experiments.model_costs_page import page
from paredown.export import export_litert
from paredown.latency import OperationLatency, Roofline, roofline
from paredown.measure import measure_latency
from paredown.profiling import profile

#: Random images that int8 is calibrated with: ranges that random weights see, which change no time.
CALIBRATION = 4
RUNS = 15
#: Larger networks take minutes for one inference under emulation.
MOST_MACS_EMULATED = 10**10
TOO_LARGE = "networks of more than 10 G MACs are not emulated, which takes minutes for one inference"


def cases(quick: bool) -> list[dict]:
    names = ("MobileNetV3Small",) if quick else tuple(NETWORKS)
    return [{"network": name, "runs": 2 if quick else RUNS} for name in names]


def run(case: dict) -> dict:
    """One network's costs, and the times of its operations."""
    model = NETWORKS[case["network"]]()
    shape = model.input_shape[1:]
    images = np.random.default_rng(0).random((CALIBRATION, *shape), "float32")
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.tflite" for name in ("float32", "int8")}
        export_litert(model, files["float32"])
        left = _int8(model, files["int8"], Data(calibration=images))
        written = [path for path in files.values() if path.exists()]
        found = roofline(model, file=files["float32"])
        costs = profile(model)
        return {
            "input": list(shape),
            "macs": costs.macs,
            "params": costs.params,
            "peak_activation_bytes": costs.peak_activation_bytes,
            **{f"{path.stem}_bytes": path.stat().st_size for path in written},
            **latencies(written, case["runs"]),
            **left,
            **_instructions(written, costs.macs),
            **_where(found),
        }


def _int8(model: Any, path: Path, data: Data) -> dict:
    """Writes the int8 file: how many operations stayed in float, or why there is none."""
    try:
        return {"int8_left": len(export_litert(model, path, "int8", data).skips)}
    except ModelError as error:
        return {"int8_missing": str(error)}


def latencies(files: Sequence[Path], runs: int) -> dict:
    """Milliseconds of files in turns, under their names, and how they compare with the first within a turn."""
    figures = {}
    for threads in (1, 2):
        report = measure_latency(list(files), threads=threads, runs=runs)
        for path, row in zip(files, report.rows, strict=True):
            figures[f"{path.stem}_ms_{threads}"] = row.median_ms
            figures[f"{path.stem}_speedup_{threads}"] = row.speedup_median
    return figures


def _instructions(files: Sequence[Path], macs: int) -> dict:
    """Arm instructions of each file; the reason where they are not counted."""
    counted = [instructions(file) for file in files] if macs <= MOST_MACS_EMULATED else [TOO_LARGE]
    missing = [count for count in counted if isinstance(count, str)]
    if missing:
        return {"arm_missing": missing[0]}
    return {f"{file.stem}_instructions": count for file, count in zip(files, counted, strict=True)}


def instructions(file: Path) -> int | str:
    """How many instructions one inference of a file takes on Arm, or why that is not known."""
    reason = device("arm64").why_not(Options())
    if reason is not None:
        return reason
    (report,) = measure_on("arm64", [file], Options(timeout_s=3600))
    return int(report.rows[0].instructions)


def _where(found: Roofline) -> dict:
    """Each operation's kind, MACs, bytes and time, the time by what bounds it, and the machine's peaks."""
    latency = found.latency
    return {
        "predicted_ms": latency.ms,
        "fastest_ms": latency.measured_ms,
        "peaks": vars(found.peaks),
        "shares": found.shares(),
        "operations": [[_kind(row), row.macs, row.bytes, row.ms] for row in latency.operations],
    }


def _kind(row: OperationLatency) -> str:
    """LiteRT's name; convolutions with a window of 1 apart from the others."""
    window = row.operation.split(", ")[1].split("×")[1:3] if row.kind == "CONV_2D" else []
    return f"CONV_2D {'1' if set(window) == {'1'} else 'k'}" if window else row.kind


EXPERIMENT = Experiment(
    name="model-costs",
    title="Which networks are slow on a phone's runtime, and why?",
    cases=cases,
    run=run,
    page=page,
)

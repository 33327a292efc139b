"""realized-speed-up: what becomes of MACs that are removed? Their ratio against that of the measured latency.

Networks with random weights, pruned and factorized to five shares of their MACs, and pruned to five shares of their
latency as measured on this computer; exported and measured beside the original in LiteRT on this computer, in its
Chromium, and as instructions on Arm, as far as these are installed.
"""

import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras

from paredown import demo
from paredown.devices.browser.report import BrowserReport
from paredown.experiments.experiment import Experiment
from paredown.experiments.headless import in_browser
from paredown.experiments.model_costs import instructions
from paredown.experiments.model_costs_nets import NETWORKS as LARGE
from paredown.experiments.model_costs_nets import application
from paredown.experiments.realized_speed_up_page import page
from paredown.export import export_litert
from paredown.measure import measure_latency
from paredown.profiling import profile
from paredown.transform import Transform
from paredown.transforms import Factorize, PruneChannels

#: Name on the page -> builds it. The residual network reads smaller images than usual: it is emulated often.
NETWORKS: dict[str, Callable[[], Any]] = {
    "classifier (28²)": demo.classifier,
    "MobileNetV2 (224²)": LARGE["MobileNetV2"],
    "MobileNetV3Small (224²)": LARGE["MobileNetV3Small"],
    "ResNet-50 (128²)": application("ResNet50", 128),
}
#: Label on the page -> the transform for a share.
METHODS: dict[str, Callable[[float], Transform]] = {
    "pruned to MACs": lambda share: PruneChannels("l2_norm", macs=share),
    "factorized to MACs": lambda share: Factorize(macs=share),
    "pruned to latency": lambda share: PruneChannels("l2_norm", latency=share, latency_table="host", scope="optimal"),
}
SHARES = (0.8, 0.65, 0.5, 0.35, 0.2)
RUNS = 25


def cases(quick: bool) -> list[dict]:
    if quick:
        return [_case("classifier (28²)", method, 0.5, 5, False) for method in METHODS]
    return [_case(network, method, share, RUNS, True) for network in NETWORKS for method in METHODS for share in SHARES]


def _case(network: str, method: str, share: float, runs: int, browser: bool) -> dict:
    return {"network": network, "method": method, "share": share, "runs": runs, "browser": browser}


def run(case: dict) -> dict:
    """The ratios of MACs, latency and Arm instructions of one network made smaller, over the original's."""
    original, path = _original(case["network"])
    smaller = METHODS[case["method"]](case["share"])(original).model
    with tempfile.TemporaryDirectory() as folder:
        files = [path, Path(folder) / "smaller.tflite"]
        export_litert(smaller, files[1])
        report = measure_latency(list(files), threads=1, runs=case["runs"])
        counted = _original_instructions(case["network"]), instructions(files[1])
        page_report = in_browser(files, case["runs"]) if case["browser"] else "the quick form leaves it out"
    row = report.rows[1]
    return {
        "macs_ratio": profile(smaller).macs / profile(original).macs,
        "latency_ratio": 1 / row.speedup_median,
        "latency_ratio_p10": 1 / row.speedup_p90,
        "latency_ratio_p90": 1 / row.speedup_p10,
        "original_ms": report.rows[0].median_ms,
        **_arm(*counted),
        **({"browser_missing": page_report} if isinstance(page_report, str) else _browser(page_report)),
    }


def _arm(original: int | str, smaller: int | str) -> dict:
    if isinstance(original, str):
        return {"arm_missing": original}
    if isinstance(smaller, str):
        return {"arm_missing": smaller}
    return {"arm_ratio": smaller / original}


def _browser(report: BrowserReport) -> dict:
    return {
        "browser_ratio": 1 / report.rows[1].speedup_median,
        "browser_ms": report.rows[0].median_ms,
        "browser_runtime": report.runtime,
    }


#: The original's file, written once for the cases of a network that follow one another.
_FOLDERS: list[Any] = []


@lru_cache(1)
def _original(name: str) -> tuple[Any, Path]:
    keras.utils.set_random_seed(0)
    model = NETWORKS[name]()
    _FOLDERS[:] = [tempfile.TemporaryDirectory()]
    path = Path(_FOLDERS[0].name) / "original.tflite"
    export_litert(model, path)
    return model, path


@lru_cache(1)
def _original_instructions(name: str) -> int | str:
    return instructions(_original(name)[1])


EXPERIMENT = Experiment(
    name="realized-speed-up",
    title="What becomes of removed MACs?",
    cases=cases,
    run=run,
    page=page,
)

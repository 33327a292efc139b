"""`benchmark_model`, LiteRT's own program for Android: which one is used, how it is started, what it prints.

LiteRT's Python package brings a tool of this purpose, but one for this computer's Python; the program for Android has
to be had from LiteRT's or TensorFlow's releases ("native benchmark binary", android_aarch64) or built.
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from paredown.errors import DeviceError

#: Names the program on this computer.
TOOL = "PAREDOWN_ANDROID_BENCHMARK"
#: Each start runs at least this many inferences, and this long; short starts that take turns share a phone's warmth.
INFERENCES, SECONDS = 5, 0.3
#: After this, no further inference is started.
LONGEST_S = 150.0

_NEEDED = f"{TOOL} must name the program benchmark_model, built for Android."
_GET_IT = (
    'Get the "native benchmark binary" for android_aarch64 that LiteRT\'s documentation of its benchmark tools links '
    f"to, and say where it is: export {TOOL}=/path/to/android_aarch64_benchmark_model"
)
#: Processor of an ELF file -> what Android calls it.
_MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86"}
_NUMBER = r"([\d.]+(?:[eE][+-]?\d+)?)"
_FINISHED = re.compile(rf"Inference \(avg\): {_NUMBER}")
_MEDIAN = re.compile(rf"\bcount=.*\bmedian={_NUMBER}")


@dataclass(frozen=True)
class Tool:
    """The program on this computer.

    Args:
        path: Of the file.
        abi: What it runs on, in Android's words: "arm64-v8a", …
    """

    path: Path
    abi: str


def why_no_tool() -> str | None:
    """Why there is no program to run, and what to do; None where there is."""
    try:
        tool()
    except DeviceError as error:
        return str(error)
    return None


def tool() -> Tool:
    """The program that PAREDOWN_ANDROID_BENCHMARK names.

    Raises:
        DeviceError: If it names none, and what to do.
    """
    named = os.environ.get(TOOL)
    if not named:
        raise DeviceError(f"{_NEEDED} Received: it is not set. {_GET_IT}")
    try:
        with Path(named).open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise DeviceError(f"{_NEEDED} Received: {named} ({error.strerror}). {_GET_IT}") from error
    abi = _MACHINES.get(int.from_bytes(head[18:20], "little")) if head[:4] == b"\x7fELF" else None
    if abi is None:
        raise DeviceError(f"{_NEEDED} Received: {named}, no program for a processor of Android's. {_GET_IT}")
    return Tool(Path(named), abi)


def arguments(graph: str, threads: int, timeout_s: float) -> list[str]:
    """How it is started for one turn of one file."""
    return [
        f"--graph={graph}",
        f"--num_threads={threads}",
        f"--num_runs={INFERENCES}",
        f"--min_secs={SECONDS}",
        f"--max_secs={min(timeout_s, LONGEST_S):g}",
        "--warmup_runs=1",
        f"--warmup_min_secs={SECONDS / 2}",
        "--use_xnnpack=true",
    ]


def turns(runs: int) -> int:
    """How many starts give a file about as many inferences as were asked for."""
    return math.ceil(runs / INFERENCES)


def inference_ms(printed: str) -> float | None:
    """Time of one inference from what the program printed; None where it did not come to its end.

    The median, which newer versions print in the line of the last count; else the mean.
    """
    end = _FINISHED.search(printed)
    if not end:
        return None
    # The count before the last is the warm-up's.
    *_, last = [line for line in printed[: end.start()].splitlines() if "count=" in line] or [""]
    median = _MEDIAN.search(last)
    return float((median or end)[1]) / 1e3


def complaint(printed: str) -> str:
    """The line of its output that says most about a failure."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR") or "error" in line.lower()]
    return (errors or lines or ["nothing"])[-1].rstrip(".")

"""What a figure depends on beside the code: versions, machine, processor."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "ai-edge-quantizer", "numpy")


def environment() -> dict[str, str | int | None]:
    """Versions, backend, platform, processor and the number of cores that this process may use."""
    import keras

    return {
        "paredown": _version("paredown"),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "backend": keras.backend.backend(),
        **{package: _version(package) for package in _PACKAGES},
    }


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    names = (package, f"{package}-cpu")
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None

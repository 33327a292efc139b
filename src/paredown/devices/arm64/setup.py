"""`paredown setup arm64`: fetches a small Debian of arm64 and LiteRT for it, and compiles the counter.

Everything comes from where this machine takes its packages anyway, apt's and pip's sources, and stays in the user's
cache; nothing is installed on the machine, and no rights of root are needed. It is made aside and renamed at the end:
what is half-made is never taken for a setup.
"""

import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from paredown import progress
from paredown.devices.arm64.counting import emulate
from paredown.devices.arm64.fetching import STEP_TIMEOUT_S, fetch_debian, fetch_packages, run
from paredown.devices.arm64.place import (
    COMMAND,
    COUNTER,
    CPUINFO,
    Place,
    current_place,
    emulator_version,
    why_no_emulator,
)
from paredown.errors import DeviceError

#: Commands that are used besides the emulator, and the package of Debian's that brings each.
_TOOLS = {"cc": "gcc libc6-dev", "apt-get": "apt", "dpkg-deb": "dpkg"}
#: Versions of QEMU's plugin interface: 1 up to QEMU 8, 2 from 9 on.
_PLUGIN_APIS = (1, 2, 3, 4, 5)


def setup() -> Path:
    """Sets the emulated core up where it is not yet.

    Returns:
        The folder that holds it.
    Raises:
        DeviceError: If something is missing or fails, and what to do; nothing half-made stays.
    """
    reason = why_no_emulator() or _missing()
    if reason:
        raise DeviceError(reason)
    target = current_place().folder
    if not target.is_dir():
        _make(target)
    return target


def _missing() -> str | None:
    missing = {tool: package for tool, package in _TOOLS.items() if not shutil.which(tool)}
    if not missing:
        return None
    return (
        f"{COMMAND} needs the commands {', '.join(_TOOLS)}. Received: no {', '.join(missing)}. "
        f"Install, on Debian or a system made from it: apt-get install {' '.join(missing.values())}"
    )


def _make(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".arm64-", dir=target.parent) as name:
            made = Place(Path(name) / "made")
            fetch_debian(made, Path(name) / "apt")
            fetch_packages(made)
            _describe_core(made)
            _compile_counter(made)
            _write_stamp(made)
            made.folder.rename(target)
    except OSError as error:
        # Another process that did the same may have been faster.
        if not target.is_dir():
            raise DeviceError(
                f"The emulated core must be kept in the cache. Received: {target}: {error.strerror or error}. Make "
                "room there (200 MB), or name another folder with XDG_CACHE_HOME."
            ) from error


def _describe_core(made: Place) -> None:
    """One core of the kind that is emulated, for those who look there and not at the processor itself."""
    (made.root / "proc").mkdir(exist_ok=True)
    shutil.copy(CPUINFO, made.root / "proc" / "cpuinfo")
    cores = made.root / "sys" / "devices" / "system" / "cpu"
    cores.mkdir(parents=True)
    for name in ("online", "possible", "present"):
        (cores / name).write_text("0\n")


def _compile_counter(made: Place) -> None:
    """Compiles the plugin for the first version of the interface that this QEMU takes."""
    problems = []
    with progress.task("Compile the counter and try it"):
        for api in _PLUGIN_APIS:
            options = ["-O2", "-shared", "-fPIC", f"-DPLUGIN_API={api}"]
            run(["cc", *options, "-o", str(made.plugin), str(COUNTER)], f"The counter must compile: {COUNTER}.")
            try:
                return _try(made)
            except DeviceError as error:
                problems.append(error)
    raise problems[0]


def _try(made: Place) -> None:
    """Loads the runtime and marks once.

    It leaves Python's compiled files behind, so that later starts take two seconds and not nine.
    """
    code = "import os, numpy, ai_edge_litert.interpreter; os.umask(0o463)"
    # Under the real paths: only those can be written to, which Python does with what it compiled.
    env = {"PYTHONHOME": str(made.root / "usr"), "PYTHONPATH": str(made.packages)}
    emulate(made, ["-c", code], made.folder, STEP_TIMEOUT_S, f"{code!r}, tried at the end of {COMMAND},", env)
    counts = made.folder / "counts"
    marks = counts.read_text().split() if counts.exists() else []
    if len(marks) != 1:
        raise DeviceError(
            f"The counter must see one mark. Received: {len(marks)} under QEMU {emulator_version()}. Use QEMU 7.2, "
            "with which it was tested."
        )
    counts.unlink()


def _write_stamp(made: Place) -> None:
    """For people: nothing reads it."""
    python = made.python.resolve().name
    versions = {"ai-edge-litert": version("ai-edge-litert"), "qemu": emulator_version(), "python": python}
    (made.folder / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")

"""`paredown setup arm64`: fetches a small Debian of arm64 and LiteRT for it, and compiles the counter.

Everything comes from where this machine takes its packages anyway, apt's and pip's sources, and stays in the user's
cache; nothing is installed on the machine, and no rights of root are needed. It is made aside and renamed at the end:
what is half-made is never taken for a setup.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from paredown import progress
from paredown.devices.arm64.counting import emulate
from paredown.devices.arm64.place import (
    COMMAND,
    COUNTER,
    CPUINFO,
    PACKAGES,
    Place,
    current_place,
    emulator_version,
    why_no_emulator,
)
from paredown.errors import DeviceError

#: Commands that are used besides the emulator, and the package of Debian's that brings each.
_TOOLS = {"cc": "gcc libc6-dev", "apt-get": "apt", "dpkg-deb": "dpkg"}
_STEP_TIMEOUT_S = 1800.0
#: Versions of QEMU's plugin interface: 1 up to QEMU 8, 2 from 9 on.
_PLUGIN_APIS = (1, 2, 3, 4, 5)
#: Oldest and newest C library that a wheel of arm64 may ask for, as 2.N; Debian 12 has 2.36.
_GLIBC = range(17, 37)
#: What the machine has apt do after an update concerns its own packages, not these.
_NO_HOOKS = "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n"


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
            _fetch_debian(made, Path(name) / "apt")
            _fetch_packages(made)
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


def _fetch_debian(made: Place, aside: Path) -> None:
    """Downloads the packages of arm64 as if nothing were installed, and unpacks them; runs none of their scripts."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (aside / folder).mkdir(parents=True)
    (aside / "status").touch()
    made.root.mkdir(parents=True)
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",
        "Dir::State": aside / "state",
        "Dir::State::status": aside / "status",
        "Dir::Cache": aside / "cache",
        "Dir::Cache::archives": aside / "cache" / "archives",
    }
    (aside / "no-hooks").write_text(_NO_HOOKS)
    apt = [
        "apt-get",
        "-q",
        "-y",
        "-c",
        str(aside / "no-hooks"),
        *(word for key, value in settings.items() for word in ("-o", f"{key}={value}")),
    ]
    with progress.task("Fetch Debian's packages for arm64"):
        _run([*apt, "update"], "The package lists of arm64 must be had from this machine's sources.")
        _run(
            [*apt, "install", "--download-only", "--no-install-recommends", *PACKAGES],
            "This machine's sources (Debian's hold arm64; a system's made from it may name them apart) must have the "
            f"packages {', '.join(PACKAGES)} for arm64.",
        )
    with progress.task("Unpack them"):
        for package in sorted((aside / "cache" / "archives").glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(made.root)], "Each package must unpack.")


def _fetch_packages(made: Place) -> None:
    """LiteRT of the version that this computer has, for the Python that was unpacked."""
    python = made.python.resolve().name.removeprefix("python")
    platforms = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in _GLIBC)]
    with progress.task("Fetch LiteRT for arm64"):
        _run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(made.packages)),
                *("--only-binary", ":all:", "--implementation", "cp", "--python-version", python),
                *(word for platform in platforms for word in ("--platform", platform)),
                *(f"ai-edge-litert=={version('ai-edge-litert')}", "numpy"),
            ],
            f"pip must find ai-edge-litert {version('ai-edge-litert')} and numpy for Python {python} on arm64.",
        )


def _describe_core(made: Place) -> None:
    """One core of the kind that is emulated, for those who look there and not at the processor itself."""
    (made.root / "proc").mkdir(exist_ok=True)
    shutil.copy(CPUINFO, made.root / "proc" / "cpuinfo")
    cores = made.root / "sys" / "devices" / "system" / "cpu"
    cores.mkdir(parents=True)
    for name in ("online", "possible", "present"):
        (cores / name).write_text("0\n")


def _compile_counter(made: Place) -> None:
    """Compiles the plugin for the first version of the interface that this QEMU takes, and tries it with the runtime.

    The trial leaves Python's compiled files behind, so that later starts take two seconds and not nine.
    """
    problem = None
    with progress.task("Compile the counter and try it"):
        for api in _PLUGIN_APIS:
            options = ["-O2", "-shared", "-fPIC", f"-DPLUGIN_API={api}"]
            _run(["cc", *options, "-o", str(made.plugin), str(COUNTER)], f"The counter must compile: {COUNTER}.")
            try:
                _try("import os; os.umask(0o463)", made)
                break
            except DeviceError as error:
                problem = problem or error
        else:
            raise problem or DeviceError("No version of the plugin interface was tried.")
        _try("import numpy, ai_edge_litert.interpreter", made)


def _try(code: str, made: Place) -> None:
    """Runs a line of Python; the first such run also shows that the counter writes."""
    # Under the real paths: only those can be written to, which Python does with what it compiled.
    env = {"PYTHONHOME": str(made.root / "usr"), "PYTHONPATH": str(made.packages)}
    what = f"{code!r}, tried at the end of {COMMAND},"
    emulate(made, ["-c", code], made.folder, _STEP_TIMEOUT_S, what, env)
    (made.folder / "counts").unlink()


def _write_stamp(made: Place) -> None:
    """For people: nothing reads it."""
    python = made.python.resolve().name
    versions = {"ai-edge-litert": version("ai-edge-litert"), "qemu": emulator_version(), "python": python}
    (made.folder / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


def _run(command: Sequence[str], rule: str) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_STEP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"{rule} Received from {command[0]}: no end within {_STEP_TIMEOUT_S:g} s.") from error
    except OSError as error:
        raise DeviceError(f"{rule} Received: {error.strerror or error} ({command[0]}).") from error
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        told = [line for line in lines if line.lower().startswith(("e:", "error"))] or lines or ["no reason given"]
        raise DeviceError(
            f"{rule} Received from {Path(command[0]).name}: {' '.join(told[:2])[:300].rstrip('.')}. "
            f"Mend it and run {COMMAND} again; what was fetched is thrown away."
        )

"""What the setup fetches: packages of Debian's and Python's for arm64, from where this machine takes its own."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from paredown import progress
from paredown.devices.arm64.place import COMMAND, PACKAGES, Place
from paredown.errors import DeviceError

STEP_TIMEOUT_S = 1800.0
#: Oldest and newest C library that a wheel of arm64 may ask for, as 2.N; Debian 12 has 2.36.
_GLIBC = range(17, 37)
#: What the machine has apt do after an update concerns its own packages, not these.
_NO_HOOKS = "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n"


def fetch_debian(made: Place, aside: Path) -> None:
    """Downloads the packages of arm64 as if nothing were installed, and unpacks them; runs none of their scripts.

    Raises:
        DeviceError: If apt cannot have them.
    """
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
        run([*apt, "update"], "The package lists of arm64 must be had from this machine's sources.")
        run(
            [*apt, "install", "--download-only", "--no-install-recommends", *PACKAGES],
            "This machine's sources (Debian's hold arm64; a system's made from it may name them apart) must have the "
            f"packages {', '.join(PACKAGES)} for arm64.",
        )
    with progress.task("Unpack them"):
        for package in sorted((aside / "cache" / "archives").glob("*.deb")):
            run(["dpkg-deb", "-x", str(package), str(made.root)], "Each package must unpack.")


def fetch_packages(made: Place) -> None:
    """Unpacks LiteRT, of the version that this computer has, for the Python that was unpacked.

    Raises:
        DeviceError: If pip cannot have it.
    """
    python = made.python.resolve().name.removeprefix("python")
    platforms = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in _GLIBC)]
    with progress.task("Fetch LiteRT for arm64"):
        run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(made.packages)),
                *("--only-binary", ":all:", "--implementation", "cp", "--python-version", python),
                *(word for platform in platforms for word in ("--platform", platform)),
                *(f"ai-edge-litert=={version('ai-edge-litert')}", "numpy"),
            ],
            f"pip must find ai-edge-litert {version('ai-edge-litert')} and numpy for Python {python} on arm64.",
        )


def run(command: Sequence[str], rule: str) -> None:
    """Runs a command of the setup.

    Raises:
        DeviceError: If it fails, with the `rule` that must hold for it to go well and what it said.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=STEP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"{rule} Received from {command[0]}: no end within {STEP_TIMEOUT_S:g} s.") from error
    except OSError as error:
        raise DeviceError(f"{rule} Received: {error.strerror or error} ({command[0]}).") from error
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        told = [line for line in lines if line.lower().startswith(("e:", "error"))] or lines or ["no reason given"]
        raise DeviceError(
            f"{rule} Received from {Path(command[0]).name}: {' '.join(told[:2])[:300].rstrip('.')}. "
            f"Mend it and run {COMMAND} again; what was fetched is thrown away."
        )

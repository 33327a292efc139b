"""Where the emulated Arm core is kept: a small Debian of arm64, LiteRT for it, and the plugin that counts."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from paredown.files import cache_folder

EMULATOR = "qemu-aarch64"
#: What QEMU emulates; `cpuinfo` describes the same to the runtime, which chooses its kernels by it.
CORE = "cortex-a76"
#: Debian's packages of arm64 that the runtime needs, with what they depend on.
PACKAGES = ("python3", "libstdc++6")
COMMAND = "paredown setup arm64"
#: Where the emulated program finds Python packages.
INSIDE = "/opt/paredown"

HERE = Path(__file__).parent
COUNTER, GUEST, CPUINFO = HERE / "count.c", HERE / "guest.py", HERE / "cpuinfo"
#: What a setup depends on besides versions.
_MADE_BY = (COUNTER, CPUINFO, HERE / "setup.py", HERE / "fetching.py")


@dataclass(frozen=True)
class Place:
    """A finished setup.

    Args:
        folder: Everything below is in it.
    """

    folder: Path

    @property
    def root(self) -> Path:
        """What the emulated program takes for /, where it has the file that is asked for."""
        return self.folder / "root"

    @property
    def packages(self) -> Path:
        """Python packages of arm64."""
        return self.root / INSIDE.removeprefix("/")

    @property
    def plugin(self) -> Path:
        """`count.c`, compiled for this computer."""
        return self.folder / "count.so"

    @property
    def python(self) -> Path:
        """Python of arm64."""
        return self.root / "usr" / "bin" / "python3"


def current_place() -> Place:
    """Where the setup for the runtime's, QEMU's and our own version is or would be."""
    parts = [CORE, INSIDE, *PACKAGES, emulator_version(), *(file.read_text(encoding="utf-8") for file in _MADE_BY)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return Place(cache_folder() / f"arm64-litert-{version('ai-edge-litert')}-{key[:12]}")


def emulator_version() -> str:
    """QEMU's version, empty where it is not installed."""
    found = shutil.which(EMULATOR)
    if not found:
        return ""
    said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    words = said.stdout.split()
    return words[2] if len(words) > 2 else said.stdout.strip()


def why_no_emulator() -> str | None:
    """Why nothing can be emulated on this computer; None where it can be, once it is set up."""
    if not sys.platform.startswith("linux"):
        return (
            f"arm64 needs Linux, where {EMULATOR} runs single programs. Received: {sys.platform}. "
            "Use a Linux machine or container."
        )
    if not shutil.which(EMULATOR):
        return (
            f"arm64 needs QEMU for single programs. Received: no command {EMULATOR}. "
            f"Install it with: apt-get install qemu-user; then: {COMMAND}"
        )
    return None


def why_not_ready() -> str | None:
    """Why nothing can be counted now, and the command to run; None where it can."""
    reason = why_no_emulator()
    if reason is not None or current_place().folder.is_dir():
        return reason
    return (
        "arm64 must be set up once for the installed versions of LiteRT and QEMU. "
        f"Received: no {current_place().folder}. Run: {COMMAND}"
    )

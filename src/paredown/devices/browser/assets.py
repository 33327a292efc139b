"""LiteRT.js, the runtime that the page runs: fetched once with npm, pinned by a lock file, kept in a cache."""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from paredown import progress
from paredown.errors import DeviceError
from paredown.files import cache_folder

VERSION = "2.5.3"
FETCH_TIMEOUT_S = 600

_NPM = Path(__file__).parent / "npm"
_CORE, _UTILS = "node_modules/@litertjs/core", "node_modules/@litertjs/wasm-utils"
# One of these runs in a browser: with threads; on one thread; without relaxed SIMD, 2 to 4 times slower.
_BUILDS = ("litert_wasm_threaded_internal", "litert_wasm_internal", "litert_wasm_compat_internal")
#: Name in the page's address -> place among npm's files. Nothing else of those is served.
FILES: dict[str, str] = {
    "core.js": f"{_CORE}/dist/index.js",
    "wasm-utils.js": f"{_UTILS}/dist/index.js",
    **{f"{name}.{kind}": f"{_CORE}/wasm/{name}.{kind}" for name in _BUILDS for kind in ("js", "wasm")},
}
_HOW = "It is needed once; connect this computer to the network, or copy the folder from a computer that has it."


def folder() -> Path:
    """Where the files are kept: a folder of their own for each lock file."""
    lock = hashlib.sha256((_NPM / "package-lock.json").read_bytes()).hexdigest()
    return cache_folder() / f"litert-js-{VERSION}-{lock[:12]}"


def at_hand() -> bool:
    """Whether every file is there."""
    return all((folder() / place).is_file() for place in FILES.values())


def why_not() -> str | None:
    """Why the files can neither be found nor fetched; None where they can. Cheap: the network is not asked."""
    if at_hand() or shutil.which("npm"):
        return None
    return (
        f"LiteRT.js must be fetched with npm before a phone can run it. Received: no command npm, and no {folder()}. "
        f"Install Node.js. {_HOW}"
    )


def fetch() -> dict[str, Path]:
    """The files, fetched where they are not there yet.

    Returns:
        Name in the page's address -> file.
    Raises:
        DeviceError: If they cannot be had; nothing half-fetched is left behind.
    """
    reason = why_not()
    if reason:
        raise DeviceError(reason)
    if not at_hand():
        _fetch()
    return {name: folder() / place for name, place in FILES.items()}


def _fetch() -> None:
    target = folder()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".litert-js-", dir=target.parent) as aside:
            made = Path(aside) / "made"
            shutil.copytree(_NPM, made)
            _npm_ci(made)
            if target.exists():  # Half of it was taken away by hand: the whole takes its place.
                shutil.rmtree(target)
            made.rename(target)
    except OSError as error:
        # Another process that fetched at the same time may have been faster.
        if not at_hand():
            raise DeviceError(
                f"LiteRT.js must be kept in the cache. Received: {target}: {error.strerror or error}. Make room there, "
                "or name another folder with XDG_CACHE_HOME."
            ) from error


def _npm_ci(where: Path) -> None:
    command = [shutil.which("npm") or "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        with progress.task("Fetch LiteRT.js with npm"):
            done = subprocess.run(
                command, cwd=where, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, stdin=subprocess.DEVNULL
            )
        problem = _last_line(done.stderr) if done.returncode else None
    except subprocess.TimeoutExpired:
        problem = f"no answer within {FETCH_TIMEOUT_S} s"
    missing = [place for place in FILES.values() if not (where / place).is_file()]
    if problem is None and missing:
        problem = f"it brought no {missing[0]}"
    if problem is not None:
        raise DeviceError(f"LiteRT.js must be fetched with npm. Received from npm ci: {problem}. {_HOW}")


def _last_line(text: str) -> str:
    """The line that says most: npm's own last ones only name a log file."""
    lines = [line.removeprefix("npm error").removeprefix("npm ERR!").strip() for line in text.splitlines()]
    told = [line for line in lines if line and "complete log" not in line and not line.endswith(".log")]
    return (told[-1] if told else "no reason given").rstrip(".")

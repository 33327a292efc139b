"""A phone through `adb`, the Android Debug Bridge."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from paredown.errors import DeviceError
from paredown.measure.quiet import one_line

#: Says which phone is meant where several are attached; adb reads it, too.
SERIAL = "ANDROID_SERIAL"
#: Seconds for what takes adb a moment.
_QUICK_S = 30.0
# A phone that hangs has had its time already.
_CLEAN_UP_S = 5.0
_NEEDED = "android needs one phone that adb can reach."
_DEBUGGING = "Turn on USB debugging in the phone's developer options, connect it, and look with: adb devices"
#: What to do about a state of `adb devices` other than "device".
_STATES = {
    "unauthorized": "Unlock the phone and allow this computer's debugging there.",
    "authorizing": "Unlock the phone and allow this computer's debugging there.",
    "offline": "Unplug the phone and plug it in again, or restart adb with: adb kill-server",
    "no permissions": "Let adb at the phone with udev rules: apt-get install android-sdk-platform-tools-common",
}


@dataclass(frozen=True)
class Phone:
    """A phone that is attached.

    Args:
        serial: As adb names it.
    """

    serial: str

    def push(self, file: Path, to: str, timeout_s: float) -> None:
        """Copies a file to the phone.

        Raises:
            DeviceError: If it cannot be, or takes longer than `timeout_s` seconds.
        """
        done = _adb(["-s", self.serial, "push", str(file), to], timeout_s)
        if done.returncode:
            raise DeviceError(f"adb must copy {file} to the phone. Received: {_told(done)}. {self.hint()}")

    def shell(self, words: list[str], timeout_s: float = _QUICK_S) -> subprocess.CompletedProcess:
        """Runs a command on the phone; its exit status may be any.

        Raises:
            DeviceError: If it takes longer than `timeout_s` seconds.
        """
        return _adb(["-s", self.serial, "shell", shlex.join(words)], timeout_s)

    def attached(self) -> bool:
        """Whether adb reaches it."""
        return _adb(["-s", self.serial, "get-state"], _CLEAN_UP_S).stdout.strip() == "device"

    def hint(self) -> str:
        """What to do after a failure."""
        return "Look at the phone's free space." if self.attached() else "Connect the phone again and start anew."

    def fact(self, name: str) -> str:
        """A property of the system, empty where it has none."""
        return self.shell(["getprop", name]).stdout.strip()

    @contextmanager
    def folder(self) -> Iterator[str]:
        """A folder on the phone that programs can be run from; it goes when the block ends, if adb still reaches it."""
        path = f"/data/local/tmp/paredown-{uuid4().hex[:12]}"
        done = self.shell(["mkdir", path])
        if done.returncode:
            raise DeviceError(f"adb must make the folder {path}. Received: {_told(done)}. {self.hint()}")
        try:
            yield path
        finally:
            with suppress(DeviceError):
                self.shell(["rm", "-rf", path], _CLEAN_UP_S)


def why_no_phone() -> str | None:
    """Why no phone can be used, and what to do; None where one can."""
    if not shutil.which("adb"):
        return (
            "android needs adb. Received: no command adb. Install Android's platform tools "
            f"(apt-get install adb). {_DEBUGGING}"
        )
    try:
        _choose(_states())
    except DeviceError as error:
        return str(error)
    return None


def phone() -> Phone:
    """The phone that is attached, or the one of several that ANDROID_SERIAL names.

    Raises:
        DeviceError: If there is none or it is not clear which, and what to do.
    """
    return Phone(_choose(_states()))


def _states() -> dict[str, str]:
    """Serial number -> state of everything that is attached."""
    done = _adb(["devices"], _QUICK_S)
    if done.returncode:
        raise DeviceError(f"{_NEEDED} Received from adb devices: {_told(done)}. {_DEBUGGING}")
    _, *lines = done.stdout[max(0, done.stdout.find("List of devices")) :].splitlines() or [""]
    rows = [line.split("\t") for line in lines]
    # What stands in brackets is advice: "no permissions (user in plugdev group; are your udev rules wrong?); see …".
    return {words[0]: words[1].split(" (")[0].strip() for words in rows if len(words) > 1}


def _choose(states: dict[str, str]) -> str:
    wanted = os.environ.get(SERIAL)
    listed = ", ".join(f"{serial} ({state})" for serial, state in states.items())
    if not states:
        raise DeviceError(f"{_NEEDED} Received: none is attached. {_DEBUGGING}")
    if wanted and wanted not in states:
        raise DeviceError(f"{SERIAL} must name a phone that is attached. Received: {wanted!r}; attached: {listed}.")
    if not wanted and len(states) > 1:
        raise DeviceError(f"{_NEEDED} Received: {listed}. Choose one with: export {SERIAL}={next(iter(states))}")
    serial = wanted or next(iter(states))
    if states[serial] != "device":
        what = _STATES.get(states[serial], "Start Android on it, unlocked.")
        raise DeviceError(f"{_NEEDED} Received: {serial} is {states[serial]}. {what}")
    return serial


def _adb(arguments: list[str], timeout_s: float) -> subprocess.CompletedProcess:
    command = [shutil.which("adb") or "adb", *arguments]
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"The phone must answer within {timeout_s:g} s. Received: no end of adb {' '.join(arguments)[:120]}. "
            "Connect it again, or give more with --timeout."
        ) from error
    except OSError as error:
        raise DeviceError(f"adb must start. Received: {error.strerror or error} ({command[0]}).") from error


def _told(done: subprocess.CompletedProcess) -> str:
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip() and not line.startswith("*")]
    return one_line(ValueError(lines[-1])) if lines else f"exit status {done.returncode}"

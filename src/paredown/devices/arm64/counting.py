"""One inference on the emulated core, counted."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paredown.devices.arm64.place import CORE, EMULATOR, GUEST, INSIDE, Place
from paredown.errors import DeviceError
from paredown.measure import LiteRTRunner
from paredown.measure.quiet import one_line

_COUNTS = "counts"
# All that the program sees of its surroundings, the same for every user: the lengths of paths alone, which lie on its
# stack and in its heap, would move a count by a dozen instructions.
_ENV = {
    "PYTHONHOME": "/usr",
    "PYTHONPATH": INSIDE,
    "PYTHONSAFEPATH": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Counted:
    """What one inference came to.

    Args:
        instructions: That were executed.
        outputs: One array per output, in the order of the file's `LiteRTRunner`.
    """

    instructions: int
    outputs: list[np.ndarray]


def count(place: Place, file: Path, runner: LiteRTRunner, inputs: list[np.ndarray], timeout_s: float) -> Counted:
    """Runs a .tflite file in a process of its own, so that no other file's traces change its count.

    Args:
        place: A finished setup.
        file: The .tflite file.
        runner: The same file on this computer: says how inputs and outputs are ordered.
        inputs: One array per input, of the input's own shape and type.
        timeout_s: Seconds after which the emulator is ended.
    Raises:
        DeviceError: If the emulator or the runtime in it fails, or takes longer.
    """
    with tempfile.TemporaryDirectory(prefix="paredown-arm64-") as name:
        folder = Path(name)
        # Inside the emulator some absolute paths lead elsewhere; a name in its own folder is what it says.
        (folder / "model.tflite").symlink_to(file.resolve())
        shutil.copy(GUEST, folder / "guest.py")
        arrays = {str(detail["index"]): array for detail, array in zip(runner.inputs, inputs, strict=True)}
        np.savez(folder / "inputs.npz", **arrays)  # pyright: ignore[reportArgumentType]
        emulate(place, ["guest.py"], folder, timeout_s, str(file))
        with np.load(folder / "outputs.npz") as found:
            outputs = [found[str(detail["index"])] for detail in runner.outputs]
        return Counted(_instructions((folder / _COUNTS).read_text().split()), outputs)


def _instructions(marks: list[str]) -> int:
    """Of the inference between the last two marks, less what Python executes between the two before them."""
    *_, empty_start, empty_end, start, end = map(int, marks)
    return (end - start) - (empty_end - empty_start)


def emulate(
    place: Place, arguments: list[str], folder: Path, timeout_s: float, what: str, env: Mapping[str, str] = _ENV
) -> None:
    """Runs Python of arm64 in a folder, with the counter writing to "counts" there.

    Raises:
        DeviceError: If it fails, naming `what` was run, or takes longer than `timeout_s` seconds.
    """
    emulator = shutil.which(EMULATOR) or EMULATOR
    plugin = str(place.plugin).replace(",", ",,")  # A comma parts the plugin's arguments.
    python = folder / "python"
    python.symlink_to(place.python)
    options = ["-seed", "1", "-cpu", CORE, "-0", "/usr/bin/python3", "-L", str(place.root)]
    try:
        done = subprocess.run(
            [emulator, *options, "-plugin", f"{plugin},out={_COUNTS}", python.name, *arguments],
            cwd=folder,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"{EMULATOR} must end within {timeout_s:g} s. Received: {what} was still running, and was ended. "
            "An emulated core is a hundred times slower than a real one: give more with --timeout."
        ) from error
    except OSError as error:
        raise DeviceError(f"{EMULATOR} must start. Received: {error.strerror or error} ({emulator}).") from error
    finally:
        python.unlink()
    if done.returncode:
        raise DeviceError(
            f"The emulated core must run {what} to its end. Received: {_ending(done)}. "
            "Where LiteRT on this computer runs it (--device host), this is a fault of the emulation."
        )


def _ending(done: subprocess.CompletedProcess) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("INFO:")]
    said = one_line(ValueError(lines[-1])) if lines else "nothing on standard error"
    if done.returncode < 0:
        return f"{signal.Signals(-done.returncode).name}, {said}"
    return f"exit status {done.returncode}, {said}"

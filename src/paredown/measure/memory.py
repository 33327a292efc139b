"""Memory that a .tflite file takes while it runs, which packing and zipping do not change.

    running = what no file backs, more than before loading      weights as XNNPACK wants them, activations
            + what was there for a while only                   of the conversion
            + resident pages of the file itself, as it is mapped

LiteRT's own code, the same for every network, is not counted.
"""

import os
import subprocess
import sys
from pathlib import Path

from paredown.errors import DeviceError, ModelError
from paredown.measure.litert_runner import check_threads
from paredown.measure.quiet import one_line
from paredown.measure.size import read_tflite

_GUEST = Path(__file__).with_name("memory_guest.py")
_PROC = Path("/proc/self/smaps")


def running_bytes(path: str | os.PathLike, threads: int = 1, timeout_s: float = 600) -> int:
    """Peak memory that loading a .tflite file and one inference take on this computer, bytes.

    In a process of its own, so that no other network's memory is used again; inputs are zeros.

    Args:
        path: The file.
        threads: Of the interpreter, at least 1.
        timeout_s: Seconds after which the process is ended.
    Raises:
        ModelError: If there is no such file, or LiteRT cannot run it.
        DeviceError: If this computer's system does not say what a process takes (other than Linux), or if it takes
            longer than `timeout_s`.
        SettingError: If `threads` is less than 1.
    Source:
        Linux, proc(5): status, smaps.
    """
    read_tflite(path)
    if not _PROC.exists():
        raise DeviceError(f"Memory while running is read from {_PROC}. Received: {sys.platform}. Use a Linux computer.")
    # As /proc names it; the interpreter maps what it is given.
    command = [sys.executable, str(_GUEST), str(Path(path).resolve()), str(check_threads(threads))]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # The guest's folder holds modules that it must not see.
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"One inference must end in {timeout_s:g} seconds. Received: {path}, which runs on. Give it more time."
        ) from error
    if done.returncode:
        why = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise ModelError(
            f"LiteRT must be able to run the file. Received: {path}: {one_line(RuntimeError(why))}. "
            "The file is damaged, or holds operations that LiteRT lacks; export it again."
        )
    return int(done.stdout)

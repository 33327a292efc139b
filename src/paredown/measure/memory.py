"""Memory that a .tflite file takes while it runs, of a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from paredown.errors import DeviceError, ModelError
from paredown.measure.litert_runner import check_threads
from paredown.measure.size import read_tflite

#: What the process does: the packages first, then the file by its path, as an app has it, mapped and not copied.
_SCRIPT = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
def memory(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key))
before = memory("VmRSS:")
interpreter = Interpreter(model_path=sys.argv[1], num_threads=int(sys.argv[2]))
interpreter.allocate_tensors()
for one in interpreter.get_input_details():
    interpreter.set_tensor(one["index"], np.zeros(one["shape"], one["dtype"]))
interpreter.invoke()
interpreter.invoke()
print(memory("VmHWM:") - before)
"""
_TIMEOUT_S = 600


def running_bytes(path: str | os.PathLike, threads: int = 1) -> int | None:
    """The most memory that a file takes while it is loaded and run twice.

    A fresh process loads the file in LiteRT; what it held before that is taken off its peak. Pages of the file that are
    read count, as do kernels that LiteRT unpacks or arranges anew, activations and the interpreter itself.

    Args:
        path: The .tflite file.
        threads: Of the interpreter, at least 1.
    Returns:
        Bytes of resident memory, in steps of 1024; None where the system does not say (it is read from /proc).
    Raises:
        ModelError: If the file is missing or LiteRT cannot run it.
        DeviceError: If it takes too long.
    """
    check_threads(threads)
    read_tflite(path)
    if not Path("/proc/self/status").exists():
        return None
    command = [sys.executable, "-c", _SCRIPT, str(path), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"A file must run in {_TIMEOUT_S} s to have its memory measured. Received: {path}, which does not. "
            "Try it on a machine that is less busy."
        ) from error
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(f"LiteRT must be able to run the file. Received: {path}: {reason}. Export it again.")
    return int(done.stdout.split()[-1]) * 1024

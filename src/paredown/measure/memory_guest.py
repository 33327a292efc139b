"""Loads and runs one .tflite file and prints what memory that took; nothing imports this file.

Run in a process of its own: python memory_guest.py MODEL.tflite THREADS
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def status() -> dict[str, int]:
    """Bytes: resident now, resident at most so far, and the part that no file backs."""
    rows = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {row[0]: int(row[1]) << 10 for row in rows if row[0] in ("VmRSS:", "VmHWM:", "RssAnon:")}


def mapped_bytes(path: str) -> int:
    """Resident bytes of a file's own pages."""
    total, here = 0, False
    for line in Path("/proc/self/smaps").read_text(errors="surrogateescape").splitlines():
        first, *rest = line.split(maxsplit=5)
        if "-" in first:
            here = rest[-1] == path
        elif here and first == "Rss:":
            total += int(rest[0]) << 10
    return total


def main() -> None:
    path, threads = sys.argv[1], int(sys.argv[2])
    before = status()
    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
    after = status()
    passing = after["VmHWM:"] - max(after["VmRSS:"], before["VmHWM:"])
    print(after["RssAnon:"] - before["RssAnon:"] + max(0, passing) + mapped_bytes(path))


if __name__ == "__main__":
    main()

"""Latencies within a search: from tables, and measured by one process at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from filelock import FileLock, Timeout

from paredown.files import cache_folder
from paredown.latency import OperationTable
from paredown.latency.network import latency_of
from paredown.tflite import LOOPS, Operation, graphs

MEASURED, ESTIMATED = "tables", "estimated"


@contextmanager
def alone_on(device: str, wait: bool = True) -> Iterator[bool]:
    """Holds a device against all other searches on this computer, until the block ends or the process dies.

    Args:
        device: Its name.
        wait: Until it is free; False: gives False at once where it is not.
    """
    folder = cache_folder() / "devices"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{device}.lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


class Latencies:
    """Predicted times of networks.

    Args:
        table: Times of operations on this computer.
        original: The original network's file, which gets measured.
        original_ms: What the original takes on the device that counts; None: on this computer.
    """

    def __init__(self, table: OperationTable, original: bytes, original_ms: float | None = None):
        self._table = table
        with alone_on("host"):
            here_ms = latency_of(original, None, table).ms
        self.original_ms = here_ms if original_ms is None else original_ms
        # Another device is taken to be slower or faster by one factor: what it really takes is measured in the end.
        self._factor = self.original_ms / here_ms
        self._seen = [operation for operation in graphs(original)[0].operations if operation.kind not in LOOPS]

    def of(self, content: bytes) -> tuple[float, str]:
        """(milliseconds of a file, MEASURED or ESTIMATED).

        What the tables lack is measured, unless another process measures: then it is estimated.
        """
        found = graphs(content)[0].operations
        if any(operation.kind in LOOPS for operation in found):
            with alone_on("host"):
                return latency_of(content, None, self._table).ms * self._factor, MEASURED
        known = self._table.known_ms(found)
        missing = [operation for operation in found if operation.key not in known]
        how = MEASURED
        if missing:
            with alone_on("host", wait=False) as free:
                if free:
                    known |= self._table.times_ms(missing)
                else:
                    how = ESTIMATED
                    known |= _estimated(missing, self._seen, self._table.known_ms(self._seen))
        if how == MEASURED:
            self._seen = list({operation.key: operation for operation in (*self._seen, *found)}.values())
        return sum(known[operation.key] for operation in found) * self._factor, how


def _estimated(missing: Sequence[Operation], seen: Sequence[Operation], times: dict[str, float]) -> dict[str, float]:
    """Milliseconds of operations by that of the most like one that was measured, in the ratio of their work."""
    found = {}
    for operation in missing:
        alike = [o for o in seen if o.key in times and o.kind == operation.kind and o.format == operation.format]
        alike = alike or [o for o in seen if o.key in times]
        nearest = min(alike, key=lambda o: abs(np.log(_work(o) / _work(operation))))
        found[operation.key] = times[nearest.key] * _work(operation) / _work(nearest)
    return found


def _work(operation: Operation) -> float:
    """Multiply-adds, and a byte moved counts as one."""
    return max(1.0, operation.macs + operation.bytes)

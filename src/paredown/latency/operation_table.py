"""Times of single operations in LiteRT, kept in a small database: measured once, read by every prediction after.

An operation takes turns with a reference operation, a convolution that is the same for all, and its time is kept as a
multiple of the reference's. A machine that is slow for a while slows both, and a table survives it.
"""

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from paredown.environment import cpu_name
from paredown.errors import ModelError, OutputError, SettingError
from paredown.files import cache_folder
from paredown.measure.litert_runner import LiteRTRunner, check_threads
from paredown.measure.quiet import one_line
from paredown.progress import task
from paredown.tflite import Operation, convolution, single

#: Turns per operation, and milliseconds after which no more are taken once there are the fewest.
MOST_TURNS, FEWEST_TURNS, ENOUGH_MS = 40, 5, 15.0
#: Shorter operations are run several times in one turn, so that the clock's own steps don't show.
_SHORTEST_MS = 0.1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS times (
    device TEXT, runtime TEXT, threads INTEGER, operation TEXT, description TEXT, ratio REAL, made REAL,
    PRIMARY KEY (device, runtime, threads, operation));
CREATE TABLE IF NOT EXISTS reference (
    device TEXT, runtime TEXT, threads INTEGER, ms REAL, PRIMARY KEY (device, runtime, threads));
CREATE TABLE IF NOT EXISTS networks (
    device TEXT, runtime TEXT, threads INTEGER, network TEXT, predicted_ms REAL, measured_ms REAL,
    PRIMARY KEY (device, runtime, threads, network));
"""


#: 1×1, 128 to 128 channels at 28×28; 12.8 million MACs.
REFERENCE = convolution(28, 128, 1)


@dataclass(frozen=True)
class Machine:
    """What times are kept for.

    Args:
        device: The processor.
        runtime: LiteRT's version.
        threads: Of the interpreter.
    """

    device: str
    runtime: str
    threads: int


class OperationTable:
    """Times of operations on this computer; what is missing is measured when it is asked for.

    Args:
        path: Of the database; None: `latency.sqlite` in paredown's cache folder, or, where that cannot be written, a
            file that is gone with the process.
        threads: Of the interpreter.
    Raises:
        OutputError: If the database cannot be opened.
    """

    def __init__(self, path: str | os.PathLike | None = None, threads: int = 1):
        self.path = cache_folder() / "latency.sqlite" if path is None else Path(path)
        runtime = f"ai-edge-litert {version('ai-edge-litert')}"
        self.machine = Machine(cpu_name(), runtime, check_threads(threads))
        try:
            self._prepare()
        except OutputError:
            if path is not None:
                raise
            # A cache that cannot be kept is no reason to lose a run: its times serve this process alone.
            self._aside = tempfile.TemporaryDirectory(prefix="paredown-")
            self.path = Path(self._aside.name) / "latency.sqlite"
            self._prepare()

    def _prepare(self) -> None:
        with self._database() as database:
            database.executescript(_SCHEMA)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=60)) as database, database:
                yield database
        except (OSError, sqlite3.Error) as error:
            raise OutputError(
                f"A table of latencies must be an SQLite file that can be written. Received: {self.path} ({error}). "
                "Name another path, or another cache folder with XDG_CACHE_HOME."
            ) from error

    def times_ms(self, wanted: Iterable[Operation]) -> dict[str, float]:
        """Milliseconds of operations, by their keys; the fastest of several runs, as for `fastest_ms`."""
        by_key = {operation.key: operation for operation in wanted}
        known = self._known()
        missing = [operation for key, operation in by_key.items() if key not in known]
        if missing:
            self._measure(missing)
            known = self._known()
        reference_ms = self.reference_ms()
        return {key: known[key] * reference_ms for key in by_key}

    def known_ms(self, wanted: Iterable[Operation]) -> dict[str, float]:
        """Milliseconds of those operations that have been measured before, by their keys."""
        known = self._known()
        if not known:
            return {}
        reference_ms = self.reference_ms()
        return {o.key: known[o.key] * reference_ms for o in wanted if o.key in known}

    def reference_ms(self) -> float:
        """The reference operation's fastest time seen."""
        rows = self._read("SELECT ms FROM reference WHERE device=? AND runtime=? AND threads=?")
        if not rows:
            raise SettingError(f"A table of latencies must hold measurements. Received: an empty one, {self.path}.")
        return rows[0][0]

    def keep_network(self, name: str, predicted_ms: float, measured_ms: float) -> None:
        """Notes a network's measured time beside the predicted one: what `error` is made of."""
        self._write(
            "INSERT INTO networks VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            # What disturbs a measurement only adds to it.
            "predicted_ms = excluded.predicted_ms, measured_ms = min(measured_ms, excluded.measured_ms)",
            [(name, predicted_ms, measured_ms)],
        )

    def error(self) -> tuple[float, int]:
        """(root mean square of predicted / measured - 1 over networks measured whole, how many there are)."""
        query = "SELECT predicted_ms / measured_ms - 1 FROM networks WHERE device=? AND runtime=? AND threads=?"
        errors = np.array([row[0] for row in self._read(query)])
        return (float(np.sqrt(np.mean(errors**2))) if len(errors) else float("nan")), len(errors)

    def _known(self) -> dict[str, float]:
        return dict(self._read("SELECT operation, ratio FROM times WHERE device=? AND runtime=? AND threads=?"))

    def _measure(self, missing: list[Operation]) -> None:
        threads = self.machine.threads
        reference = ready(single(REFERENCE), threads)
        best = float("inf")
        with task("Measure operations", total=len(missing)) as advance:
            for operation in missing:
                own_ms, reference_ms = fastest_pair_ms(ready(single(operation), threads), reference)
                best = min(best, reference_ms)
                # One by one: what was measured is kept whatever ends the program.
                row = (operation.key, str(operation), own_ms / reference_ms, time.time())
                self._write("INSERT OR REPLACE INTO times VALUES (?, ?, ?, ?, ?, ?, ?)", [row])
                self._write(
                    "INSERT INTO reference VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET ms = min(ms, excluded.ms)",
                    [(best,)],
                )
                advance(1)

    def _read(self, query: str) -> list[Any]:
        with self._database() as database:
            return database.execute(query, tuple(vars(self.machine).values())).fetchall()

    def _write(self, statement: str, rows: list[tuple]) -> None:
        with self._database() as database:
            database.executemany(statement, [(*vars(self.machine).values(), *row) for row in rows])


def ready(content: bytes, threads: int) -> Callable[[], None]:
    """One inference of a file, inputs set and run once."""
    runner = LiteRTRunner(content, threads, one_sample=False)
    runner.set_random_inputs()
    try:
        runner.invoke()
    except RuntimeError as error:
        raise ModelError(
            f"LiteRT must be able to run an operation to time it. Received: {one_line(error)}. Does the network read "
            "integers that are out of range for 0 and 1?"
        ) from error
    return runner.invoke


def fastest_pair_ms(first: Callable[[], None], second: Callable[[], None]) -> tuple[float, float]:
    """The fastest times of two inferences that take turns.

    The fastest, not the median: what disturbs a run only ever adds to it, and the sum of the fastest times of a
    network's operations comes nearest to the network's own.
    """
    repeats = [max(1, round(_SHORTEST_MS / max(_time_ms(run, 1), 1e-4))) for run in (first, second)]
    times: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(times) < MOST_TURNS:
        own_ms = _time_ms(first, repeats[0])
        # A network throws the second one's numbers out of the caches; how long it takes must not depend on the first.
        second()
        times.append((own_ms, _time_ms(second, repeats[1])))
        if len(times) >= FEWEST_TURNS and (time.perf_counter() - start) * 1e3 > ENOUGH_MS:
            break
    own, other = np.min(times, axis=0)
    return float(own), float(other)


def _time_ms(run: Callable[[], None], repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        run()
    return (time.perf_counter() - start) * 1e3 / repeat

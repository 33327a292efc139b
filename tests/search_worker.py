"""Workers of a search for tests: what processes run, with a judge that knows all figures beforehand.

Processes are forked from one that has imported all this once: `multiprocessing`'s forkserver.
"""

import dataclasses
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psycopg  # noqa: F401 - loaded once, for all workers

from paredown import Recipe
from paredown.cli import main
from paredown.data import Split
from paredown.errors import DeviceError
from paredown.latency.network import latency_of  # noqa: F401 - loaded once, for all workers
from paredown.search import ending, latencies, searching
from paredown.search.bench import Bench
from paredown.search.budget import Budget
from paredown.search.judgement import Judgement
from paredown.search.limits import parse_limits
from paredown.search.study import open_study
from paredown.transforms import FineTune, PruneChannels

# Optuna loads what it needs for a database when it first opens one.
with tempfile.TemporaryDirectory() as folder:
    open_study(f"sqlite:///{folder}/study.db", "loaded", 0)

METHODS = ("prune_channels", "factorize", "substitute_conv")
#: Seconds that a judgement takes.
JUDGING_S = 0.02


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker is to do.

    Args:
        folder: For what it writes: `calls` (a line for each judgement), its budget, and its words.
        url: Of the study's database; None: of the embedded one.
        do: Name of a function of this module.
        trials: Candidates in all.
        hangs_at: The judgement, counted in this process, before whose end it waits for the file `gate`.
        fills_at: The judgement from which on no file can grow.
        interrupted_at: The judgement in which Ctrl-C is pressed.
        device: Whether the device is there.
    """

    folder: str
    url: str | None = None
    do: str = "search"
    trials: int = 12
    grace_s: int = 4
    hangs_at: int | None = None
    fills_at: int | None = None
    interrupted_at: int | None = None
    device: bool = True

    @property
    def place(self) -> Path:
        return Path(self.folder)

    @property
    def database(self) -> str:
        return self.url or f"sqlite:///{self.place / 'study.db'}"


class FakeJudge:
    """A judge whose figures follow from the candidate; it writes down whom it judged."""

    def __init__(self, job: Job):
        self.job, self.count, self.made = job, 0, self
        self.limits = parse_limits(max_macs="0.5x")
        self.original = {"score": 0.99, "macs": 1000, "params": 100, "size_bytes": 400, "latency_ms": 1.0}
        self.formats = {"float32": {}}
        self.judged = Split(np.zeros((100, 8), "float32"), np.zeros(100, int))
        self.metric, self.figure = {"name": "accuracy", "higher_is_better": True}, "macs"
        self.primary, self.keep = "macs", 0.5
        self.model, self.data, self.seed, self.examples, self.table = None, None, 0, 8, None

    def settle(self, candidate):
        settled = json.dumps(candidate.to_dict(), sort_keys=True)
        share = int(hashlib.sha256(settled.encode()).hexdigest()[:12], 16) / 16**12
        return Recipe([PruneChannels("l2_norm", sparsity=share)]), candidate.keep

    def missed(self, candidate, judgement):
        return False

    def by(self, recipe):
        return recipe.transforms[0].sparsity

    def cheap(self, recipe, model, format="float32"):
        return self._judge("cheap", recipe, 0.3 * recipe.transforms[0].sparsity, keep=model)

    def tuning(self, candidate, epochs, most_steps=None):
        return FineTune(epochs=epochs, steps_per_epoch=most_steps)

    def tuned(self, recipe, format, tuning):
        drop = 0.1 * recipe.transforms[0].sparsity / tuning.epochs
        return self._judge(f"tuned-{tuning.epochs}", recipe, drop, keep=0.4)

    def _judge(self, how, recipe, drop, keep):
        self.count += 1
        whose = hashlib.sha256(f"{how} {recipe.to_yaml()}".encode()).hexdigest()[:12]
        note(self.job, "begin", how, whose)
        time.sleep(JUDGING_S)
        if self.count == self.job.fills_at:
            largest = max(path.stat().st_size for path in self.job.place.rglob("*") if path.is_file())
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        if self.count == self.job.interrupted_at:
            os.kill(os.getpid(), 2)
            time.sleep(60)
        if self.count == self.job.hangs_at:
            note(self.job, "hangs", how, whose)
            while not (self.job.place / "gate").exists():
                time.sleep(0.02)
        note(self.job, "end", how, whose)
        figures = {"macs": int(1000 * keep), "params": 50, "size_bytes": 200.0, "latency_ms": keep}
        return Judgement(
            score=0.99 - drop,
            drop=drop,
            drop_error=0.0,
            **figures,
            latency_from="tables",
            seconds=JUDGING_S,
            step_seconds=JUDGING_S,
            recipe=recipe.to_yaml(),
            label="fake",
        )


def note(job: Job, *words: str) -> None:
    """One line, whole: several processes write to the file."""
    line = f"{os.getpid()} {' '.join(words)}\n".encode()
    handle = os.open(job.place / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line)
    except OSError as error:
        print(f"no note: {error}", file=sys.stderr)
    finally:
        os.close(handle)


def bench_of(job: Job) -> Bench:
    study = open_study(job.database, "study", 0, job.grace_s)
    budget = Budget(1000, job.place / "seconds.json")
    return Bench(study, job.database, FakeJudge(job), METHODS, budget, job.trials, 2, job.grace_s)


# --- what a process can do ---


def search(job: Job) -> None:
    """What `paredown search` does with a study."""
    bench = bench_of(job)
    searching.propose(bench, "optuna")
    bench.wait()


def greedy(job: Job) -> None:
    """Two recipes, as a strategy asks for them one after the other."""
    bench = bench_of(job)
    recipes = [Recipe([PruneChannels("l2_norm", sparsity=share)]) for share in (0.25, 0.75)]
    drops = [judgement and judgement.drop for judgement in map(bench.judge_recipe, recipes)]
    (job.place / f"{os.getpid()}.json").write_text(json.dumps(drops))


def begin(job: Job) -> None:
    """Judges what every search begins with."""
    bench = bench_of(job)
    bench.begin()
    bench.drain()


def promote(job: Job) -> None:
    """Promotes the best, as another may do in the same moment, and sees the study through."""
    bench = bench_of(job)
    bench.promote(bench.best("cheap")[0])
    bench.drain()
    bench.wait()


def command(job: Job) -> int:
    """The command line, whose judge and whose end of the search are replaced."""
    model = job.place / "model.keras"
    searching.judge_of = lambda *arguments, **settings: FakeJudge(job)
    searching.search.__kwdefaults__["grace_s"] = job.grace_s
    ending.export_litert = lambda *arguments, **settings: None
    ending.measure_on = lambda name, files, options: [_measured(job, files)]
    ending.compress = lambda *arguments, **settings: _Run(
        {"original": {**_FIGURES, "macs": 1000}, "compressed": _FIGURES}
    )
    searching.report.write = lambda record, path: path.write_text("a page")
    main.search.start.prepare = lambda: None
    from paredown.cli import display

    display.run_summary = lambda record: None
    where = ["--data", str(job.place / "data.npz"), "--out", str(job.place / "out")]
    limits = [
        "--max-macs",
        "0.5x",
        "--trials",
        str(job.trials),
        "--hours",
        "0.2",
        "--methods",
        ",".join(METHODS),
        "--epochs",
        "2",
    ]
    storage = ["--storage", job.url] if job.url else []
    return main.run(["search", str(model), *where, *limits, *storage])


_FIGURES = {"score": 0.98, "macs": 400, "params": 50, "size_bytes": 200, "latency_ms": 0.5}


@dataclasses.dataclass(frozen=True)
class _Run:
    record: dict

    def __post_init__(self):
        self.record.setdefault("metric", {"name": "accuracy", "higher_is_better": True})


def _measured(job: Job, files: list) -> SimpleNamespace:
    note(job, "measured", str(len(files)), "files")
    if not job.device:
        raise DeviceError("The phone must be connected. Received: it is not. Plug it in.")
    row = SimpleNamespace(median_ms=0.5, speedup_median=2.0, speedup_p10=1.9, speedup_p90=2.1)
    return SimpleNamespace(rows=[row] * len(files))


def make(job: Job) -> None:
    """A network and data for the command line."""
    import keras

    keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)]).save(job.place / "model.keras")
    x, y = np.zeros((40, 8), "float32"), np.arange(40) % 4
    np.savez(job.place / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)


def hold(job: Job) -> None:
    """Keeps a device to itself until it is killed."""
    with latencies.alone_on("host"):
        note(job, "holds")
        time.sleep(600)


def look(job: Job) -> None:
    """Asks for a latency that is in no table while another holds the device, and when that one is gone."""
    operations = {name: _Operation(name) for name in (b"known", b"new")}
    latencies.graphs = lambda content: [SimpleNamespace(operations=[operations[content]])]
    latencies.latency_of = lambda content, shape, table: SimpleNamespace(ms=1.0)
    found = latencies.Latencies(_Table(), b"known")
    note(job, "ready")
    _until(job.place / "held")
    first = found.of(b"new")
    note(job, "estimated")
    _until(job.place / "freed")
    (job.place / "figures.json").write_text(json.dumps([first, found.of(b"new")]))


@dataclasses.dataclass(frozen=True)
class _Operation:
    name: bytes
    kind: str = "CONV_2D"
    format: str = "float32"
    bytes: int = 0

    @property
    def key(self) -> str:
        return self.name.decode()

    @property
    def macs(self) -> int:
        return {b"known": 1000, b"new": 3000}[self.name]


class _Table:
    """Knows one operation; what is measured takes 2.5 ms."""

    def known_ms(self, operations):
        return {operation.key: 1.0 for operation in operations if operation.key == "known"}

    def times_ms(self, operations):
        return {operation.key: 2.5 for operation in operations}


def _until(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)


def run(job: Job) -> None:
    """The process: its words go to the file `words`, its status is that of the command line."""
    words = os.open(job.place / "words", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(words, 1)
    os.dup2(words, 2)
    os.environ["XDG_CACHE_HOME"] = str(job.place / "cache")
    # The forkserver gave its own, which nobody reads.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    sys.exit(globals()[job.do](job) or 0)

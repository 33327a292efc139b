"""search: from a trained network and limits to the recipe that loses least within them."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from paredown import report
from paredown.checkpoints import first_key
from paredown.data import Data, with_validation
from paredown.devices import Options, measure_on
from paredown.errors import SettingError
from paredown.export import float_content
from paredown.files import write_text
from paredown.model_file import check_model, load_model
from paredown.progress import task
from paredown.run import Run, output_folder
from paredown.search.bench import Bench
from paredown.search.budget import Budget
from paredown.search.ending import STUDY, Ending
from paredown.search.formats import allowed
from paredown.search.judge import Judge
from paredown.search.limits import Limit, parse_limits
from paredown.search.methods import ALL, METHODS
from paredown.search.strategies import STRATEGIES
from paredown.search.study import GRACE_S, open_study, sqlite_url

#: Of what a study's trials hold: changes whenever older ones cannot be read.
FORM = 2
#: Hours from which on the report shows what each method does to each layer, unless told otherwise.
SCAN_HOURS = 0.25
#: Devices whose figures are milliseconds.
DEVICES = ("host", "browser", "android")
#: Largest loss in a format, beyond what may be lost in all, at which it is still tried.
FORMAT_SLACK = 0.02


def search(
    model: Any,
    data: Data,
    out: str | os.PathLike,
    *,
    max_latency: Any = None,
    max_size: Any = None,
    max_macs: Any = None,
    max_drop: float | None = None,
    hours: float = 1.0,
    trials: int | None = None,
    strategy: str = "optuna",
    methods: Sequence[str] = ALL,
    device: str = "host",
    options: Options | None = None,
    storage: str | None = None,
    epochs: int = 60,
    seed: int = 0,
    trust: bool = False,
    scan: bool | None = None,
    grace_s: int = GRACE_S,
) -> Run:
    """Finds the recipe with the least loss within limits, and runs it.

    Candidates are judged by rows held out of `data.train`: first without training, costs from tables, then after a
    short fine-tuning, the few after a long one; finalists are measured on the device. The chosen recipe is then run
    on all of the data by `compress`: what it gives is reported on `data.validation`, which nothing was chosen by. The
    same command goes on where it was interrupted; with `storage` on any number of machines, all work on one study.

    Args:
        model: A built Functional or Sequential model, or the path of a `.keras` file. It is not changed.
        data: As for `compress`; its train part is needed, labels are not.
        out: A folder for the results and the study.
        max_latency, max_size, max_macs: Limits: "0.5x" of the original's, or milliseconds ("3ms"), bytes ("200kB") and
            multiply-adds ("1.5M"). Without any: whatever is fastest within `max_drop`.
        max_drop: Most that may be lost: accuracy as a share (0.01 is one point); for other metrics the relative rise of
            the error; without labels the distance from the original's outputs. None: as little as can be.
        hours: That the search may take, over all times it was started; the chosen recipe's own run comes on top.
        trials: Most candidates to judge; None: as many as there is time for.
        strategy: A row of `STRATEGIES`.
        methods: Of `methods.ALL`, that may be used.
        device: "host", "browser" or "android": where finalists are measured, and what latency means.
        options: Of the device.
        storage: A database that several machines reach, `postgresql://user@host/database`; None: a file below `out`.
        epochs: Most epochs of a long fine-tuning; an epoch is at most 300 steps.
        seed: Of everything random.
        trust: Load a `.keras` file that holds code.
        scan: Whether the report also shows what each method does to each layer alone (`scan_sensitivity`), which comes
            on top of `hours`; None: in searches of a quarter of an hour or more.
        grace_s: Seconds without a sign of life after which another worker counts as dead and its trial is done again.
    Returns:
        Run, as `compress` gives it; its record has `search`: limits and what was reached ("met", "verdict"), all
        trials, the finalists and the chosen one.
    Raises:
        ParedownError: If model, data, settings, folder, database or device do not allow it.
    """
    limits = parse_limits(max_latency=max_latency, max_size=max_size, max_macs=max_macs)
    check(limits, max_drop, hours, strategy, methods, device)
    source = Path(model) if isinstance(model, str | os.PathLike) else None
    folder = output_folder(out, source)
    work = folder / STUDY
    work.mkdir(exist_ok=True)
    model = load_model(source, trust) if source else model
    check_model(model)
    data = with_validation(data.train, data.validation, data.calibration, name=data.name, note=data.note)
    data.check(model)
    budget = Budget(3600 * hours, work / "search-seconds.json")
    options = options or Options()
    key = first_key(model, data, seed, {})
    # One figure for all times the search is started: limits are shares of it, and tables get better with time.
    original = work / f"original-{device}-{key}.json"
    original_ms = _kept_ms(original) or _device_ms(model, data, work, device, options)
    judge = judge_of(model, data, limits, methods, max_drop, seed, original_ms)
    write_text(original, json.dumps({"latency_ms": judge.original["latency_ms"]}))
    url = storage or sqlite_url(work / "study.db")
    settings = [[dataclasses.astuple(limit) for limit in limits], strategy, sorted(methods), device, epochs, FORM]
    study = open_study(url, _name(key, settings), seed, grace_s)
    bench = Bench(study, url, judge, methods, budget, trials, epochs, grace_s)
    with task("Search", total=budget.seconds) as advance:
        advance(budget.used)
        bench.advance = advance
        propose(bench, strategy)
        bench.wait()
    budget.keep()
    scanned = hours >= SCAN_HOURS if scan is None else scan
    ending = Ending(bench, source or model, data, folder, max_drop, device, options, seed, trust, scanned)
    with FileLock(work / "ending.lock"):
        run = ending.run(strategy=strategy, hours=hours, storage=url.split(":")[0])
    write_text(folder / "run.json", json.dumps(run.record, indent=1))
    report.write(run.record, folder / "report.html")
    return run


def judge_of(
    model: Any,
    data: Data,
    limits: tuple[Limit, ...],
    methods: Sequence[str],
    max_drop: float | None = None,
    seed: int = 0,
    original_ms: float | None = None,
) -> Judge:
    """A `Judge` with the formats that methods and limits allow, but for those that lose too much by themselves."""
    sized = any(limit.figure == "size_bytes" for limit in limits)
    with task("Look at the original"):
        judge = Judge(model, data, limits, seed, original_ms, tuple(allowed(tuple(methods), sized)))
    if max_drop is not None and judge.metric["name"] == "accuracy":
        enough = max_drop + FORMAT_SLACK
        judge.formats = {n: f for n, f in judge.formats.items() if n == "float32" or f["drop"] <= enough}
    return judge


def propose(bench: Bench, strategy: str) -> None:
    """Lets a strategy propose while there is time, then trains the few."""
    STRATEGIES[strategy](bench)
    bench.drain()
    bench.finish()


def check(limits: Any, max_drop: Any, hours: Any, strategy: str, methods: Any, device: str) -> None:
    """Raises SettingError where settings of a search are out of their domains."""
    if not limits and max_drop is None:
        raise SettingError(
            "A search needs a limit. Received: none of max_latency, max_size, max_macs, max_drop. "
            "Use max_latency='0.5x'."
        )
    if max_drop is not None and (isinstance(max_drop, bool) or not 0 <= max_drop < 1):
        raise SettingError(
            f"max_drop must be in [0, 1). Received: max_drop={max_drop}. Use 0.01 for one point of accuracy."
        )
    if not hours > 0:
        raise SettingError(f"hours must be above 0. Received: hours={hours}. Use 0.5 for half an hour.")
    if strategy not in STRATEGIES:
        raise SettingError(f"strategy must be one of {', '.join(STRATEGIES)}. Received: strategy={strategy!r}.")
    unknown = [method for method in methods if method not in ALL]
    if unknown or not methods:
        raise SettingError(f"methods must be of {', '.join(ALL)}. Received: methods={list(methods)}.")
    if device not in DEVICES:
        raise SettingError(f"device must be one that measures time: {', '.join(DEVICES)}. Received: device={device!r}.")
    if any(limit.figure == "macs" for limit in limits) and not any(method in METHODS for method in methods):
        raise SettingError(
            f"max_macs needs a method that takes multiply-adds away: {', '.join(METHODS)}. "
            f"Received: methods={list(methods)}."
        )


def _device_ms(model: Any, data: Data, work: Path, device: str, options: Options) -> float | None:
    """What the original takes on a device; None for this computer, where its operations' tables say it."""
    if device == "host":
        return None
    path = work / "original.tflite"
    path.write_bytes(float_content(model, data.input_shape))
    return measure_on(device, [path], options)[0].rows[0].median_ms


def _kept_ms(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["latency_ms"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _name(key: str, settings: Any) -> str:
    """The study's name: the same on every machine for the same network, data, limits and settings."""
    return f"paredown-{hashlib.sha256(json.dumps([key, settings], default=str).encode()).hexdigest()[:16]}"

"""What an experiment is, and how one is run: case by case, each kept, then one page.

A finished case is one file `OUT/NAME/KEY.json`. Its key covers the experiment's name, the case's settings, the source
of the experiment's own module, and the environment (versions, backend, processor). It does not cover the rest of
paredown's source within one version: whoever changes that removes `OUT/NAME` to have all figures made anew.
"""

import hashlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from paredown.environment import environment
from paredown.files import writable_folder, write_text
from paredown.progress import task
from paredown.report import formats


@dataclass(frozen=True)
class Experiment:
    """A question, its cases, and the page that answers it.

    Args:
        name: What the command line and the page's file are called, e.g. `"fc-sum"`.
        title: What it shows, one line; the page's heading.
        cases: cases(quick) -> the plain settings of every case, in the order to run; a `"seed"` among them seeds
            everything random. The quick form is for the tests: seconds, and rows of the same form.
        run: run(case) -> plain figures, with the unit in each name; expensive. It depends on nothing but the case.
        page: page(rows, folder) -> the page's Markdown below its heading. A row is `{**case, **figures}`. Figures go
            to `folder` as `NAME-*.png` (`plots.save`).
        needs: Data and networks by name (`material`), so that a missing one is said before anything runs.
    """

    name: str
    title: str
    cases: Callable[[bool], Sequence[dict]]
    run: Callable[[dict], dict]
    page: Callable[[list[dict], Path], str]
    needs: tuple[str, ...] = ()


def run_experiment(experiment: Experiment, out: Path, quick: bool = False) -> Path:
    """Runs what is not yet kept of an experiment and writes its page.

    Args:
        experiment: A row of `EXPERIMENTS`.
        out: Folder for the page, its figures and the finished cases.
        quick: The quick form.
    Returns:
        The page, `out/NAME.md`.
    Raises:
        OutputError: If the folder cannot be written.
    """
    folder = writable_folder(writable_folder(out) / experiment.name)
    conditions = environment()
    files = {_key(experiment, case, conditions): case for case in experiment.cases(quick)}
    files = {folder / f"{key}.json": case for key, case in files.items()}
    left = [(path, case) for path, case in files.items() if _kept(path) is None]
    found = f", {len(files) - len(left)} kept" if len(left) < len(files) else ""
    with task(f"{experiment.name}: {len(files)} cases{found}", total=len(left)) as advance:
        for path, case in left:
            with task(", ".join(f"{key} {value}" for key, value in case.items())):
                write_text(path, json.dumps(_made(experiment, case), default=_plain, indent=1))
            advance(1)
    kept = [_kept(path) or {} for path in files]
    rows = [{**one["case"], **one["figures"]} for one in kept]
    head = _head(experiment, out, quick, conditions, sum(one["seconds"] for one in kept))
    page = out / f"{experiment.name}.md"
    write_text(page, f"# {experiment.title}\n\n{head}\n\n{experiment.page(rows, out).strip()}\n")
    return page


def _made(experiment: Experiment, case: dict) -> dict:
    import keras

    # Names and random numbers begin anew, so that a case comes out alike whatever ran before it.
    keras.utils.clear_session()
    keras.utils.set_random_seed(case.get("seed", 0))
    start = time.monotonic()
    figures = experiment.run(dict(case))
    seconds = time.monotonic() - start
    return {"case": case, "figures": figures, "seconds": seconds, "made": datetime.now(UTC).isoformat()}


def _key(experiment: Experiment, case: dict, conditions: dict) -> str:
    source = inspect.getsource(sys.modules[experiment.run.__module__])
    whole = json.dumps([experiment.name, case, source, conditions], sort_keys=True, default=_plain)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _kept(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, which JSON knows."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Cases and figures must be plain data. Received: {value!r}, a {type(value).__name__}.")


def _head(experiment: Experiment, out: Path, quick: bool, conditions: dict, seconds: float) -> str:
    """Where the page's figures come from, in the lines below its heading."""
    # A folder given by its absolute path says nothing to a reader on another machine.
    command = f"paredown experiment {experiment.name} --out {'DIR' if out.is_absolute() else out.as_posix()}"
    packages = ("paredown", "keras", "tensorflow", "ai-edge-litert")
    versions = ", ".join(f"{name} {conditions[name]}" for name in packages if conditions[name])
    cores = conditions["cores"]
    return (
        f"Made by `{command}{' --quick' if quick else ''}` on {date.today().isoformat()} in "
        f"{formats.seconds(seconds)} of computing. {conditions['cpu']}, {cores} thread{'' if cores == 1 else 's'}; "
        f"{versions}, backend {conditions['backend']}."
    )

"""scan: every layer by every method at several levels, each case alone, kept as it is finished."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from paredown.checkpoints import first_key, next_key
from paredown.data import Data
from paredown.environment import environment
from paredown.errors import SettingError
from paredown.files import writable_folder
from paredown.model_file import check_model
from paredown.progress import showing, task
from paredown.scan.case import Case
from paredown.scan.kept import Kept
from paredown.scan.methods import METHODS
from paredown.scan.parts import parts
from paredown.scan.result import MethodSkip, Row, Scan
from paredown.scan.scope import Scope
from paredown.scan.settings import check_settings
from paredown.scan.times import times

LEVELS = (0.75, 0.5, 0.25)
#: Method -> its levels with their labels.
Columns = dict[str, list[tuple[float, str]]]


def scan(
    model: Any,
    data: Data,
    methods: str | Sequence[str] | None = None,
    levels: float | Sequence[float] = LEVELS,
    folder: str | os.PathLike | None = None,
    seed: int = 0,
    examples: int = 512,
    latency: bool = True,
) -> Scan:
    """Tries every method on every layer alone, at several levels: what the network loses, and what it gains.

    Nothing is trained, and each case is a trial in a copy of the network that is put back afterwards. Statistics come
    from some examples, losses and scores from others: rows held out of the training data, never validation data.

    Args:
        model: A built Functional or Sequential model; it is not changed.
        data: Examples; labels are used where the training data have some.
        methods: Rows of `METHODS`; None: all.
        levels: Shares of a layer's channels, or of its MACs, that are kept, in (0, 1); methods that count in bits have
            levels of their own.
        folder: Where finished cases are kept, so that a scan that was interrupted goes on, and one whose network, data
            and settings are the same is read; None: nothing is kept.
        seed: Of everything random.
        examples: For statistics.
        latency: Also time layers and what would take their place, in LiteRT on this computer.
    Returns:
        Scan.
    Raises:
        ParedownError: If model, data, settings or folder do not allow it.
    """
    names, levels = check_settings(methods, levels, seed, examples)
    if not isinstance(data, Data):
        raise SettingError(f"data must be a paredown.Data. Received: {type(data).__name__}. Use Data.load('x.npz').")
    check_model(model)
    data.check(model)
    kept = Kept(None if folder is None else writable_folder(Path(folder)))
    read, judged = parts(data, examples, seed)
    key = first_key(model, Data(train=judged, calibration=read.calibration), seed, environment())
    scope = Scope(model, read, judged, seed, kept, key, latency)
    columns = {name: METHODS[name].levels(levels) for name in names}
    cases, skips = _cases(scope, columns)
    figures = _figures(scope, cases)
    skips += [
        MethodSkip(c.layer, f, c.method, c.level) for c, f in zip(cases, figures, strict=True) if isinstance(f, str)
    ]
    done = [(case, found) for case, found in zip(cases, figures, strict=True) if not isinstance(found, str)]
    return _assembled(scope, data.name, columns, done, _in_one(skips, columns))


def _assembled(
    scope: Scope, name: str, columns: Columns, done: list[tuple[Case, dict]], skips: tuple[MethodSkip, ...]
) -> Scan:
    whole_ms, saved, notes = times(scope, list(columns), done)
    costs, score = scope.profile, _metric(scope)
    whole = {"name": scope.model.name, "macs": costs.macs, "params": costs.params, "latency_ms": whole_ms}
    rows = tuple(_row(case, found, ms, whole) for (case, found), ms in zip(done, saved, strict=True))
    seen = {row.layer for row in rows} | {skip.layer for skip in skips}
    # What is inside a layer has a name of its own, and no call.
    layers = [path for path in scope.calls if path in seen] + sorted(seen - set(scope.calls))
    methods = [
        {"name": n, "label": METHODS[n].label, "levels": [{"level": level, "label": told} for level, told in levels]}
        for n, levels in columns.items()
    ]
    about = {
        "name": name,
        "examples": scope.examples,
        "judged": len(scope.judged),
        "labelled": score is not None,
    }
    return Scan(whole, about, scope.seed, score, tuple(layers), tuple(methods), rows, skips, tuple(notes))


def _cases(scope: Scope, columns: Columns) -> tuple[list[Case], list[MethodSkip]]:
    cases, skips = [], []
    for name, levels in columns.items():
        found, left = METHODS[name].cases(scope, [level for level, _ in levels])
        cases += found
        skips += left
    return cases, skips


def _figures(scope: Scope, cases: list[Case]) -> list[dict | str]:
    """What each case came to, or why it could not be tried; those that were finished before are read."""
    figures = []
    with task("Scan", total=len(cases)) as advance, _quietly():
        for case in cases:
            key = next_key(scope.key, case.method, {**case.settings, "method": case.method})
            found = scope.kept.get(key)
            if found is None:
                found = case.run()
                scope.kept.keep(key, found)
            figures.append(found)
            advance(1)
    return figures


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The parts of a case show no bars of their own: hundreds would pass by."""
    with showing(lambda label, total: contextlib.nullcontext(lambda amount=1.0: None)):
        yield


def _metric(scope: Scope) -> dict[str, Any] | None:
    if scope.judged.y is None:
        return None
    key = next_key(scope.key, "score", {})
    found = scope.kept.get(key)
    if found is None:
        score = scope.trial.score
        assert score is not None
        found = {"name": score.name, "value": score.value, "higher_is_better": score.higher_is_better}
        scope.kept.keep(key, found)
    return found


def _row(case: Case, found: dict, saved_ms: float | None, whole: dict) -> Row:
    figures = {key: value for key, value in found.items() if key != "more"}
    return Row(
        layer=case.layer,
        layers=case.layers,
        method=case.method,
        level=case.level,
        **figures,
        saved_ms=saved_ms,
        share_macs=_share(found["saved_macs"], whole["macs"]),
        share_params=_share(found["saved_params"], whole["params"]) or 0.0,
        share_ms=_share(saved_ms, whole["latency_ms"]),
    )


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _in_one(skips: list[MethodSkip], columns: Columns) -> tuple[MethodSkip, ...]:
    """A layer that is left alone at every level for one reason is named once."""
    found: dict[tuple[str, str, str], list[MethodSkip]] = {}
    for skip in skips:
        found.setdefault((skip.layer, skip.method, skip.reason), []).append(skip)
    return tuple(
        MethodSkip(layer, reason, method) if len(same) == len(columns[method]) else skip
        for (layer, method, reason), same in found.items()
        for skip in (same[:1] if len(same) == len(columns[method]) else same)
    )

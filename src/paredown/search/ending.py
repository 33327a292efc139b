"""The end of a search: finalists measured, one chosen, its recipe run, and what came of it in words."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paredown.devices import Options, measure_on
from paredown.errors import DeviceError, ModelError
from paredown.export import export_litert
from paredown.pipeline import compress
from paredown.recipe import Recipe
from paredown.run import Run
from paredown.scan import scan_sensitivity
from paredown.search.bench import FINALISTS, Bench
from paredown.search.entries import Entry
from paredown.search.judgement import STAGES, drop_of, front
from paredown.search.latencies import alone_on
from paredown.search.limits import SLACK, Limit
from paredown.search.methods import METHODS

#: Of the study and what belongs to it, below the output folder; the results need none of it.
STUDY = ".paredown-search"
#: How often as many finalists are measured, while none keeps to the limits.
MOST_ROUNDS = 3
#: Levels of the scan that the report shows.
SCAN_LEVELS = (0.5, 0.25)
#: A finalist's measured latency must stay so far below the limit: two measurements of one file differ by a little.
MARGIN = 0.97


@dataclasses.dataclass(frozen=True)
class Finalist:
    """A candidate that was measured.

    Args:
        entry: The trial.
        latency_ms: Measured on the device; `speedup_*` against the original in the same turns.
    """

    entry: Entry
    latency_ms: float
    speedup_median: float
    speedup_p10: float
    speedup_p90: float


class Ending:
    """What follows when no more candidates are judged; arguments as of `search`."""

    def __init__(
        self,
        bench: Bench,
        model: Any,
        data: Any,
        folder: Path,
        max_drop: float | None,
        device: str,
        options: Options,
        seed: int,
        trust: bool,
        scanned: bool = False,
    ):
        self.bench, self.model, self.data, self.folder, self.scanned = bench, model, data, folder, scanned
        self.max_drop, self.device, self.options, self.seed, self.trust = max_drop, device, options, seed, trust
        self.original = bench.judge.original

    def run(self, **told: Any) -> Run:
        """Chooses, runs the chosen recipe on all of the data, and writes what the page needs."""
        measured = self._finalists()
        chosen = self._chosen(measured)
        scan = self._scan() if self.scanned else None
        recipe = Recipe.from_yaml(chosen.entry.judgement.recipe)  # type: ignore[union-attr]
        run = compress(self.model, recipe, self.data, out=self.folder, seed=self.seed, trust=self.trust)
        record = {**run.record, "search": self._told(run.record, measured, chosen, {**told, "scan": scan})}
        return dataclasses.replace(run, record=record)

    def _scan(self) -> dict[str, Any] | None:
        """Where the original has fat and where bone: what each method does to each layer alone."""
        judge = self.bench.judge
        # A format is chosen for the whole file.
        methods = [name for name in self.bench.methods if name in METHODS]
        if not methods:
            return None
        folder = self.folder / STUDY / "scan"
        return scan_sensitivity(
            judge.model, judge.data, methods, SCAN_LEVELS, folder, judge.seed, judge.examples
        ).to_dict()

    def _finalists(self) -> list[Finalist]:
        """The most promising, measured; more where none of them keeps to the limits."""
        candidates, measured = self._candidates(), []
        for start in range(0, min(len(candidates), MOST_ROUNDS * FINALISTS), FINALISTS):
            measured += self._measured(candidates[start : start + FINALISTS])
            if any(self._share(finalist) <= 1 for finalist in measured):
                break
        return measured

    def _candidates(self) -> list[Entry]:
        """Those within reach of the limits in the order of promise: the longest trained first."""
        found: list[Entry] = []
        for stage in reversed(STAGES):
            if stage == STAGES[0] and found:
                # What was never trained is no choice beside what was.
                break
            gone = {entry.of for entry in found}
            hopeful = [e for e in self.bench.deserving(stage) if e.judgement and self.bench.use(e.judgement) <= SLACK]
            found += self._enough([entry for entry in hopeful if entry.of not in gone])
        if found:
            return found
        # None is within reach: those nearest to the limits.
        entries = [entry for stage in STAGES for entry in self.bench.best(stage)]
        if not entries:
            reasons = [e.reason for e in self.bench.entries() if e.reason]
            raise ModelError(
                "A search needs a candidate that can be made. Received: none of "
                f"{len(self.bench.entries())}; the last said: {reasons[-1] if reasons else 'nothing'}"
            )
        entries.sort(key=lambda e: (self.bench.use(e.judgement), -STAGES.index(e.stage)))  # type: ignore[arg-type]
        return entries[:FINALISTS]

    def _enough(self, hopeful: Sequence[Entry]) -> list[Entry]:
        """Without limits the cheapest that lose little enough come first; with limits the order stays."""
        if self.bench.limits or self.max_drop is None:
            return list(hopeful)
        return sorted(hopeful, key=lambda e: (self._too_lossy(e), self.bench.use(e.judgement)))  # type: ignore[arg-type]

    def _too_lossy(self, entry: Entry) -> float:
        """0 where the loss is within what may be lost, with a margin for chance where there is one; else the loss."""
        assert entry.judgement
        assert self.max_drop is not None
        judgement = entry.judgement
        if judgement.drop + judgement.drop_error / 2 <= self.max_drop:
            return 0.0
        return 1.0 + max(0.0, judgement.drop - self.max_drop)

    def _measured(self, entries: Sequence[Entry]) -> list[Finalist]:
        """The finalists on the device, the original beside them; their shapes are all that time depends on."""
        judge = self.bench.judge
        with tempfile.TemporaryDirectory(prefix="paredown-") as name, alone_on(self.device):
            files = [Path(name) / f"{number}.tflite" for number in range(len(entries) + 1)]
            export_litert(judge.model, files[0], None, judge.data)
            for entry, path in zip(entries, files[1:], strict=True):
                recipe = Recipe.from_yaml(entry.attributes["recipe"])
                model = judge.made.by(recipe)
                export_litert(model, path, recipe.quantization, judge.data, pack=recipe.pack)
            rows = self._rows(files)
        return [
            Finalist(entry, row.median_ms, row.speedup_median, row.speedup_p10, row.speedup_p90)
            for entry, row in zip(entries, rows[1:], strict=True)
        ]

    def _rows(self, files: list[Path]) -> Sequence[Any]:
        try:
            return measure_on(self.device, files, self.options)[0].rows
        except DeviceError as error:
            raise DeviceError(
                f"{error} All that was found is kept: when the device is there, give the same command again; it goes "
                "on from here."
            ) from error

    def _latency_share(self, finalist: Finalist, limit: Limit) -> float:
        """Of the latency limit that a measured file takes."""
        return (1 / finalist.speedup_median if limit.relative else finalist.latency_ms) / limit.amount

    def _share(self, finalist: Finalist, margin: float = MARGIN) -> float:
        """The largest figure as a share of its limit, latency as measured and with a margin: at most 1 is enough."""
        shares = [0.0]
        for limit in self.bench.limits:
            if limit.figure == "latency_ms":
                shares.append(self._latency_share(finalist, limit) / margin)
            else:
                shares.append(getattr(finalist.entry.judgement, limit.figure) / limit.value(self.original))
        return max(shares)

    def _chosen(self, measured: Sequence[Finalist]) -> Finalist:
        """The best of those trained longest that keeps to the limits as measured, with the margin rather than without;
        else the one that comes nearest."""
        for stage in reversed(STAGES):
            here = [finalist for finalist in measured if finalist.entry.stage == stage]
            for margin in (MARGIN, 1.0):
                fitting = [finalist for finalist in here if self._share(finalist, margin) <= 1]
                if fitting:
                    return fitting[0]
        return min(measured, key=self._share)

    def _told(self, record: dict, measured: Sequence[Finalist], chosen: Finalist, told: dict) -> dict[str, Any]:
        """`record["search"]`: all that the page shows."""
        before, after, metric = record["original"], record["compressed"], record["metric"]
        drop = drop_of(metric, before["score"], after["score"])
        limits = []
        for limit in self.bench.limits:
            reached = after[limit.figure]
            value = limit.value(before)
            if limit.figure == "latency_ms":
                value, reached = limit.value(self.original), chosen.latency_ms
                if limit.relative:
                    # As a ratio within the same turns, which is what was promised.
                    reached = value * self._latency_share(chosen, limit)
            limits.append({"figure": limit.figure, "asked": limit.asked, "value": value, "reached": reached})
        within = all(one["reached"] is not None and one["reached"] <= one["value"] for one in limits)
        enough = self.max_drop is None or drop <= self.max_drop
        return {
            **told,
            "limits": limits,
            "max_drop": self.max_drop,
            "drop": drop,
            "methods": list(self.bench.methods),
            "seconds": self.bench.budget.used,
            "formats": list(self.bench.judge.formats),
            "judged_rows": len(self.bench.judge.judged),
            "device": self.device,
            "metric": metric,
            "original": self.original,
            "trials": self._trials(),
            "finalists": [
                {
                    "number": f.entry.number,
                    "chosen": f is chosen,
                    **{key: getattr(f, key) for key in ("latency_ms", "speedup_median", "speedup_p10", "speedup_p90")},
                }
                for f in measured
            ],
            "chosen": chosen.entry.number,
            "met": within and enough,
            "verdict": _verdict(limits, drop, self.max_drop, metric["name"], within, enough),
        }

    def _trials(self) -> list[dict[str, Any]]:
        entries = self.bench.entries()
        known = [e for e in entries if e.judgement]
        best = set(front([(e.judgement.drop, self.bench.use(e.judgement)) for e in known]))  # type: ignore[union-attr]
        on_front = {known[i].number for i in best}
        found = []
        for entry in entries:
            figures = entry.judgement.to_dict() if entry.judgement else {}
            about = {"number": entry.number, "of": entry.of, "stage": entry.stage, "state": entry.state}
            found.append({**_NOTHING, **figures, **about, "reason": entry.reason, "front": entry.number in on_front})
        return found


_NOTHING: dict[str, Any] = dict.fromkeys(
    ("score", "drop", "drop_error", "macs", "params", "size_bytes", "latency_ms", "latency_from", "seconds", "recipe")
)
_NOTHING["label"] = ""
_NAMES = {"latency_ms": "latency", "size_bytes": "size", "macs": "MACs"}


def _verdict(limits: list[dict], drop: float, max_drop: Any, metric: str, within: bool, enough: bool) -> str:
    reached = "; ".join(
        f"{_NAMES[one['figure']]} {one['reached'] / one['value']:.0%} of the limit {one['asked']}" for one in limits
    )
    told = "; ".join(filter(None, [reached, _lost(drop, max_drop, metric)]))
    if within and enough:
        return f"The limits are kept: {told}."
    missed = " and ".join(filter(None, ["" if within else "the limits", "" if enough else "the loss"]))
    return f"Not met: {missed}. The nearest that was found: {told}. Allow more, or give the search more time."


def _lost(drop: float, max_drop: float | None, metric: str) -> str:
    if metric != "accuracy":
        return f"error {drop:+.2%}" + ("" if max_drop is None else f" of {100 * max_drop:g} % allowed")
    if drop < 0:
        return f"{-100 * drop:.2f} points gained"
    return f"{100 * drop:.2f} points lost" + ("" if max_drop is None else f" of {100 * max_drop:g} allowed")

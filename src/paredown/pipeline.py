"""compress: a trained network and a recipe in; a smaller, checked, measured network out."""

import contextlib
import dataclasses
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from paredown.checkpoints import Checkpoints, first_key, next_key
from paredown.data import Data, with_validation
from paredown.environment import environment
from paredown.errors import SettingError
from paredown.export import Export, export_litert
from paredown.latency import roofline
from paredown.measure import CLEARLY_SLOWER, Score, measure_latency, outputs_of, score_keras, score_litert
from paredown.model_file import check_model, load_model
from paredown.profiling import Profile, compared, profile
from paredown.progress import task
from paredown.recipe import Recipe
from paredown.run import WORK, Run, clear_work, output_folder
from paredown.transform import Change, Skip, Transform, TransformResult, proven

#: Examples that a network without labels is compared with the original on.
UNLABELLED_EXAMPLES = 256
LATENCY_RUNS = 50


def compress(
    model: Any,
    recipe: Recipe | str | os.PathLike,
    data: Data,
    out: str | os.PathLike | None = None,
    seed: int = 0,
    trust: bool = False,
    no_slower: bool = False,
) -> Run:
    """Makes a trained network smaller and faster, checks every step and measures what came of it.

    Args:
        model: A built Functional or Sequential model, or the path of a `.keras` file. It is not changed.
        recipe: A `Recipe` or the path of one.
        data: What to calibrate, train and report on; results are of `data.validation`.
        out: A folder for the results. A run that was interrupted continues from its last finished step there.
        seed: Of everything random.
        trust: Load a `.keras` file that holds code.
        no_slower: Measure the network after every step that changes its shape, and after quantizing, and undo what made
            it slower in LiteRT on this computer; the record names it.
    Returns:
        Run: the network, what changed, what was skipped, and the record of all figures.
    Raises:
        ParedownError: If model, recipe, data or folder do not allow it, or a change does not prove itself.
    """
    source = Path(model) if isinstance(model, str | os.PathLike) else None
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    if not isinstance(data, Data):
        raise SettingError(f"data must be a paredown.Data. Received: {type(data).__name__}. Use Data.load('x.npz').")
    folder = None if out is None else output_folder(out, source)
    data = with_validation(data.train, data.validation, data.calibration, name=data.name, note=data.note)
    model = load_model(source, trust) if source else model
    check_model(model)
    data.check(model)
    with _work_folder(folder) as work:
        run = _Compression(model, recipe, data, seed, work, source, folder is not None, no_slower).run()
        if folder is not None:
            run.save(folder)
    if folder is not None:
        clear_work(folder)
    return run


@contextlib.contextmanager
def _work_folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        (folder / WORK).mkdir(exist_ok=True)
        yield folder / WORK
        return
    with tempfile.TemporaryDirectory(prefix="paredown-") as name:
        yield Path(name)


class _Compression:
    """One run of a recipe on a network."""

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        data: Data,
        seed: int,
        work: Path,
        source: Path | None,
        keep: bool,
        no_slower: bool,
    ):
        self.original, self.recipe, self.data, self.seed = model, recipe, data, seed
        self.work, self.source, self.no_slower = work, source, no_slower
        self.kept = Checkpoints(work if keep else None)
        self.environment = environment()
        self.input_shape = data.input_shape
        self.judged = data.validation or data.train or data.calibration
        if self.judged.y is None:
            self.judged = self.judged.take(UNLABELLED_EXAMPLES)
        self.reference = None if self.judged.y is not None else outputs_of(model, self.judged)

    def run(self) -> Run:
        key = first_key(self.original, self.data, self.seed, self.environment)
        before = self._original_figures(key)
        model, steps = self._steps(key)
        changes = [Change(**change) for step in steps for change in step["changes"]]
        skips = [Skip(**skip) for step in steps for skip in step["skips"]]
        exported, slower = self._exported(model)
        after = self._figures(profile(model, self.input_shape))
        after |= self._file_figures(self.work / "model.tflite", exported)
        latency = self._latency(key, steps)
        before["latency_ms"], after["latency_ms"] = (latency["rows"][i]["median_ms"] for i in (0, -1))
        record = {
            "schema": 1,
            "paredown": self.environment["paredown"],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": {"name": self.original.name, "source": str(self.source) if self.source else None},
            "data": self._data_figures(),
            "seed": self.seed,
            "command": shlex.join(["paredown", *sys.argv[1:]]) if Path(sys.argv[0]).stem == "paredown" else None,
            "recipe": self.recipe.to_yaml(),
            "environment": self.environment,
            "metric": self._metric(before),
            "original": before,
            "compressed": after,
            "latency": latency,
            "roofline": self._roofline(model, key),
            "steps": steps,
            "export": {**exported.to_dict(), **({"undone": slower} if slower else {})},
            "layers": compared(profile(self.original, self.input_shape), profile(model, self.input_shape)),
        }
        content = (self.work / "model.tflite").read_bytes()
        return Run(model, changes, [*skips, *exported.skips], record, self.recipe, content)

    def _exported(self, model: Any) -> tuple[Export, dict | None]:
        """The result's file; and how much slower quantizing or packing made it, where that was undone."""
        path, quantization, pack = self.work / "model.tflite", self.recipe.quantization, self.recipe.pack
        exported = export_litert(model, path, quantization, self.data, pack=pack)
        if not self.no_slower or (quantization is None and pack is None):
            return exported, None
        plain = export_litert(model, self.work / "float32.tflite", None, self.data)
        slower = _slower(plain.path, path)
        if slower is None:
            return exported, None
        os.replace(plain.path, path)
        return dataclasses.replace(plain, path=path), {"quantization": quantization, "pack": pack, **slower}

    def _steps(self, key: str) -> tuple[Any, list[dict]]:
        """All transforms in order, those that were finished before taken from the work folder."""
        model, steps, finished, fastest = self.original, [], None, self.work / f"{key}.tflite"
        for number, transform in enumerate(self.recipe.transforms, 1):
            settings = transform.identity()
            own = next_key(key, transform.name, {**settings, "no_slower": True} if self.no_slower else settings)
            step = self.kept.figures(own)
            if step is None:
                model = model if finished is None else self.kept.model(finished, self.original)
                finished = None
                with task(f"Step {number}/{len(self.recipe.transforms)}: {transform.name}", total=1) as advance:
                    changed, step = self._step(number, transform, model)
                    if step["changes"]:
                        step["checks"] += self._file_of_step(changed, own)
                        step |= self._undone(model, own, fastest) if self.no_slower else {}
                    step["key"] = own
                    if "undone" not in step:
                        model = changed
                        self.kept.keep_model(own, model)
                    self.kept.keep_figures(own, step)
                    advance(1)
            else:
                # Two equal steps, the first of them undone, are one record.
                step = {**step, "index": number}
                finished = finished if "undone" in step else own
            if "undone" not in step:
                key, fastest = own, self.work / f"{own}.tflite" if step["changes"] else fastest
            steps.append(step)
        return (model if finished is None else self.kept.model(finished, self.original)), steps

    def _undone(self, model: Any, key: str, fastest: Path) -> dict:
        """What a step's figures become where its network is slower than the one before it."""
        slower = _slower(fastest, self.work / f"{key}.tflite")
        if slower is None:
            return {}
        figures = {**self._figures(profile(model, self.input_shape)), "score": self._score(model).value}
        return {**figures, "changes": [], "undone": slower}

    def _step(self, number: int, transform: Transform, model: Any) -> tuple[Any, dict]:
        start = time.perf_counter()
        result = transform(model, self.data, seed=self.seed, teacher=self.original)
        seconds = time.perf_counter() - start
        checks = proven(transform, model, result, self.data, f"transform {number}, ")
        return result.model, {
            "index": number,
            "name": transform.name,
            "settings": transform.settings(),
            "seconds": seconds,
            **self._figures(profile(result.model, self.input_shape)),
            "score": self._score(result.model).value,
            **_told(result),
            "checks": [check.to_dict() for check in checks],
        }

    def _file_of_step(self, model: Any, key: str) -> list[dict]:
        """Exports a network of new shape in float32, so that a step that makes it slower can be named."""
        exported = export_litert(model, self.work / f"{key}.tflite", None, self.data)
        return [check.to_dict() for check in exported.checks]

    def _latency(self, key: str, steps: list[dict]) -> dict[str, Any]:
        """The original, every step that changed the network's shape, and the result, measured in turn."""
        files = {"original": self.work / f"{key}.tflite"}
        for step in steps:
            key = step.pop("key")
            if step["changes"]:
                files[f"{step['index']} {step['name']}"] = self.work / f"{key}.tflite"
        files["compressed"] = self.work / "model.tflite"
        report = measure_latency(list(files.values()), runs=LATENCY_RUNS).to_dict()
        for label, row in zip(files, report["rows"], strict=True):
            row["label"] = label
            del row["path"]
        return {**report, "rows": list(report["rows"])}

    def _roofline(self, model: Any, key: str) -> dict[str, Any]:
        """Where the time goes, layer by layer, before and after."""
        files = {"original": (self.original, f"{key}.tflite"), "compressed": (model, "model.tflite")}
        return {label: roofline(network, file=self.work / name).to_dict() for label, (network, name) in files.items()}

    def _score(self, model: Any) -> Score:
        return score_keras(model, self.judged, self.reference)

    def _original_figures(self, key: str) -> dict[str, Any]:
        """The figures of the network as it came, and its float32 file."""
        path = self.work / f"{key}.tflite"
        kept = self.kept.figures(key)
        if kept is not None and path.exists():
            return kept
        exported = export_litert(self.original, path, None, self.data)
        score = self._score(self.original)
        figures = self._figures(profile(self.original, self.input_shape))
        figures |= self._file_figures(path, exported)
        figures |= {"keras_score": score.value, "metric": score.name, "higher_is_better": score.higher_is_better}
        self.kept.keep_figures(key, figures)
        return figures

    @staticmethod
    def _figures(costs: Profile) -> dict[str, Any]:
        return {
            "macs": None if costs.unknown else costs.macs,
            "params": costs.params,
            "peak_activation_bytes": costs.peak_activation_bytes,
        }

    def _file_figures(self, path: Path, exported: Any) -> dict[str, Any]:
        return {
            "score": score_litert(path, self.judged, self.reference).value,
            "size_bytes": exported.size_bytes,
            "zipped_bytes": exported.zipped_bytes,
        }

    @staticmethod
    def _metric(original: dict[str, Any]) -> dict[str, Any]:
        return {"name": original.pop("metric"), "higher_is_better": original.pop("higher_is_better")}

    def _data_figures(self) -> dict[str, Any]:
        sizes = {
            name: len(split)
            for name, split in (("train", self.data.train), ("validation", self.data.validation))
            if split
        }
        return {
            "name": self.data.name,
            "note": self.data.note,
            "train": sizes.get("train", 0),
            "validation": sizes.get("validation", 0),
            "calibration": len(self.data.calibration),
            "labelled": self.data.labelled,
        }


def _slower(earlier: Path, later: Path) -> dict | None:
    """Both files' milliseconds where the later one is clearly slower in LiteRT here; None where it is not."""
    first, second = measure_latency([earlier, later], runs=LATENCY_RUNS).rows
    if second.speedup_median >= CLEARLY_SLOWER:
        return None
    return {"before_ms": first.median_ms, "after_ms": second.median_ms, "speedup": second.speedup_median}


def _told(result: TransformResult) -> dict[str, Any]:
    """What a transform said of itself, as plain data."""
    return {
        "changes": [dataclasses.asdict(change) for change in result.changes],
        "skips": [dataclasses.asdict(skip) for skip in result.skips],
        "log": result.log,
    }

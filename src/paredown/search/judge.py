"""Judges what a search proposes: cheaply first, then with some training, on rows that nothing learns from."""

import contextlib
import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from paredown.data import Data, hold_out
from paredown.errors import DataError, ParedownError
from paredown.export import export_litert, float_content
from paredown.latency import OperationTable, measured_table
from paredown.latency_table import LatencyTable
from paredown.measure import outputs_of, score_keras, score_litert
from paredown.network import Network
from paredown.profiling import profile
from paredown.recipe import Recipe
from paredown.remembered import Memory
from paredown.search.aims import Aims
from paredown.search.candidate import Candidate
from paredown.search.formats import FORMATS, Format
from paredown.search.judgement import Judgement, drop_error_of, drop_of
from paredown.search.labels import label
from paredown.search.latencies import MEASURED, Latencies, alone_on
from paredown.search.limits import DEFAULT, Limit
from paredown.search.made import Made
from paredown.search.methods import METHODS, Draft
from paredown.search.widths import WidthPlan
from paredown.transform import Transform, TransformResult, proven
from paredown.transforms import FineTune, ReestimateBatchNorm
from paredown.transforms.watch import paced

#: Rows held out of the training data to judge by, at most; of these, those that a quantized file is judged by.
MOST_JUDGED, JUDGED_SHARE, FILE_ROWS = 5000, 0.2, 1000
#: Multiply-adds above which fewer examples serve transforms.
LARGE_MACS, EXAMPLES, FEW_EXAMPLES = 1e8, 512, 128
#: Steps that count as an epoch, and of the short training, at most; examples per step.
STEPS, SHORT_STEPS, BATCH = 300, 100, 128
#: Steps from which on a training may begin with its whole learning rate. What a refitted network lost by large steps a
#: shorter one has no time to mend: its rate is less by the root of its share of them.
LONG_STEPS = 3000
#: Steps in one go.
EXECUTION = 10
#: Where the limit of a figure is what a transform is given as its budget.
_BUDGETS = {"latency_ms": "latency", "size_bytes": "params", "macs": "macs"}


class Judge:
    """A network to be made cheaper, its data cut into what is learned from and what is judged by.

    Args:
        model: The original; not touched.
        data: The user's; its validation part is never read.
        limits: What is asked for; the tightest says which cost candidates keep a share of.
        seed: Of everything random.
        original_ms: The original's latency on another device; None: this computer counts.
        formats: Keys of `FORMATS` that may be used.
    Attributes:
        judged, data: The rows that are judged by, and what is learned from.
        original: The original's figures.
        primary, figure, keep: The cost that is tightest limited, what transforms call it, and the share to keep.
        made: The networks that recipes make of the original.
        formats: Format -> what it makes of the original, those first that save most of that cost.
    Raises:
        DataError: If there is nothing to train on.
    """

    def __init__(
        self,
        model: Any,
        data: Data,
        limits: tuple[Limit, ...] = (),
        seed: int = 0,
        original_ms: float | None = None,
        formats: tuple[str, ...] = ("float32",),
    ):
        if data.train is None or len(data.train) < 10:
            rows = 0 if data.train is None else len(data.train)
            raise DataError(
                f"A search learns from data.train, and judges by a part of it. Received: {rows} rows there. "
                "Give Data(train=inputs) or train=(inputs, labels), ten at least."
            )
        self.model, self.limits, self.seed = model, limits, seed
        share = min(JUDGED_SHARE, MOST_JUDGED / len(data.train))
        learned, self.judged = hold_out(data.train, share, seed)
        own = data.calibration
        calibration = learned if own.x is data.train.x or (data.validation and own.x is data.validation.x) else own
        self.data = Data(learned, self.judged, calibration, name=data.name, note=data.note)
        self._reference = None if self.judged.y is not None else outputs_of(model, self.judged)
        macs = profile(model, data.input_shape).macs
        self.examples = EXAMPLES if macs < LARGE_MACS else FEW_EXAMPLES
        self._plans: dict[str, WidthPlan] = {}
        self._memory = Memory(model, self.data)
        self.made = Made(model, lambda transform, before: self.transformed(transform, before).model)
        self._aims = Aims()
        content = float_content(model, data.input_shape)
        self._latencies = Latencies(OperationTable(), content, original_ms)
        score = score_keras(model, self.judged, self._reference)
        self.metric = {"name": score.name, "higher_is_better": score.higher_is_better}
        self.original = {
            **self._costs(model),
            "score": score.value,
            "size_bytes": len(content),
            "latency_ms": self._latencies.original_ms,
        }
        tightest = min(limits, key=lambda limit: limit.share(self.original), default=None)
        self.primary = tightest.figure if tightest else DEFAULT
        self.figure = _BUDGETS[self.primary]
        self.keep = tightest.share(self.original) if tightest else None
        self._has_norms = any(
            type(call.operation).__name__ == "BatchNormalization" for call in Network(model).all_calls()
        )
        factors = {name: self._format_factors(FORMATS[name]) for name in formats}
        self.formats = dict(sorted(factors.items(), key=lambda one: one[1].get(self.primary, 1.0)))

    @cached_property
    def table(self) -> LatencyTable | None:
        """What the original's layers take at every width; None where no latency is limited."""
        if self.figure != "latency":
            return None
        with alone_on("host"):
            return measured_table(self.model, input_shape=self.data.input_shape)

    def width_plan(self, criterion: str) -> WidthPlan:
        """Losses of the original's groups, measured once for each criterion."""
        if criterion not in self._plans:
            with self._memory.used():
                self._plans[criterion] = WidthPlan(self.model, self.data, criterion, self.examples, self.seed)
        return self._plans[criterion]

    def settle(self, candidate: Candidate) -> tuple[Recipe, Any]:
        """The candidate's recipe without training, every number in it settled, and the network that it makes.

        Raises:
            ParedownError: If the network does not allow it.
        """
        row = FORMATS[candidate.format]
        keep = min(1.0, self._aims.of(candidate) / self._format_share(candidate))
        draft, sharing = Draft(self.model), [name for name in candidate.methods if METHODS[name][1]]
        for name in candidate.methods:
            method, shares = METHODS[name]
            share = self._share(draft, keep, candidate, sharing.index(name), len(sharing)) if shares else 1.0
            if share < 1 or not shares:
                draft = method(self, draft, share, candidate)
        recipe = Recipe(draft.transforms, row.quantization, row.pack)
        self.made.keep(recipe, draft.model)
        return recipe, draft.model

    def missed(self, candidate: Candidate, judgement: Judgement) -> bool:
        """Whether the latency is not what the candidate was to keep; settled anew, it comes nearer."""
        shares = any(METHODS[name][1] for name in candidate.methods)
        known = judgement.latency_from == MEASURED
        if self.keep is None or self.primary != "latency_ms" or not shares or not known:
            return False
        share = judgement.latency_ms / self.original["latency_ms"]
        # There is nothing left to give back where all that the format leaves may be kept.
        if share < candidate.keep and self._aims.of(candidate) >= self._format_share(candidate):
            return False
        return self._aims.learn(candidate, share)

    def _format_share(self, candidate: Candidate) -> float:
        return self.formats[candidate.format].get(self.primary, 1.0)

    def cheap(self, recipe: Recipe, model: Any, format: str = "float32") -> Judgement:
        """A network without training: BatchNormalization's statistics taken anew, costs of its file, and what the
        format loses of the original.

        Args:
            recipe: What made it, all numbers settled.
            model: The network.
            format: Key of `FORMATS`.
        """
        start = time.monotonic()
        judged = self.network((ReestimateBatchNorm(),), model) if self._has_norms else model
        score = score_keras(judged, self.judged, self._reference).value
        size_bytes, latency_ms, how = self._file_costs(model, FORMATS[format])
        figures = {"size_bytes": size_bytes, "latency_ms": latency_ms, "latency_from": how}
        drop = drop_of(self.metric, self.original["score"], score) + self.formats[format]["drop"]
        score -= self.formats[format]["loss"]
        return self._judgement(score, {**self._costs(model), **figures}, recipe, start, drop=drop)

    def _file_costs(self, model: Any, row: Format) -> tuple[int, float, str]:
        """(bytes, milliseconds, where they are from) of a network's file in a format."""
        if row == FORMATS["float32"]:
            content = float_content(model, self.data.input_shape)
            return len(content), *self._latencies.of(content)
        with self._file(self._shared(model, row), row.quantization, row.pack) as (_, size_bytes, latency_ms, how):
            return size_bytes, latency_ms, how

    @contextlib.contextmanager
    def _file(self, model: Any, quantization: Any, pack: str | None) -> Iterator[tuple[Path, int, float, str]]:
        """A network's file while the block lasts: (path, bytes, milliseconds, where they are from)."""
        with tempfile.TemporaryDirectory(prefix="paredown-") as folder:
            path = Path(folder) / "model.tflite"
            exported = export_litert(model, path, quantization, self.data, pack=pack)
            yield path, exported.size_bytes, *self._latencies.of(path.read_bytes())

    def _shared(self, model: Any, row: Format) -> Any:
        """The network as a format wants it: with shared weights, where it stores such."""
        return self.network((row.sharing,), model) if row.sharing else model

    def tuned(self, recipe: Recipe, format: str, tuning: FineTune) -> Judgement:
        """After training, by the file that comes of it: all of what a user would get, but for the rows held out."""
        start = time.monotonic()
        whole = self.with_tuning(recipe, format, tuning)
        rest = whole.transforms[len(recipe.transforms) :]
        model = self.network(rest[: self._has_norms], self.made.by(recipe))
        with paced() as pace:
            tuned = self.transformed(tuning, model)
        model = self.network(rest[self._has_norms + 1 :], tuned.model)
        with self._file(model, whole.quantization, whole.pack) as (path, size_bytes, latency_ms, how):
            score, before_score, rows = self._file_score(model, path, whole)
        figures = {
            **self._costs(model),
            "size_bytes": size_bytes,
            "latency_ms": latency_ms,
            "latency_from": how,
        }
        drop = drop_of(self.metric, before_score, score)
        return self._judgement(score, figures, whole, start, drop, rows, pace.seconds_per_step)

    def with_tuning(self, recipe: Recipe, format: str, tuning: FineTune) -> Recipe:
        """The recipe with the training that makes it whole."""
        sharing = FORMATS[format].sharing
        steps: list[Transform] = [*recipe.transforms]
        if self._has_norms:
            steps.append(ReestimateBatchNorm())
        steps.append(tuning)
        if sharing:
            epochs = max(1, tuning.epochs // 4)
            steps += [sharing, dataclasses.replace(tuning, epochs=epochs, keep_shared=True, learning_rate=1e-4)]
        return Recipe(steps, recipe.quantization, recipe.pack)

    def tuning(self, candidate: Candidate, epochs: int, most_steps: int = STEPS) -> FineTune:
        """A candidate's training; an epoch is one pass over the data, or `most_steps` where that is less."""
        rows = len(self.data.train or ())
        batch = int(min(BATCH, max(8, rows // 8)))
        steps = min(most_steps, math.ceil(rows / batch))
        labelled = self.judged.y is not None
        return FineTune(
            epochs=epochs,
            steps_per_epoch=steps,
            batch_size=batch,
            optimizer="adam",
            learning_rate=_rounded(candidate.learning_rate * math.sqrt(min(1.0, epochs * steps / LONG_STEPS))),
            schedule="cosine",
            steps_per_execution=min(steps, EXECUTION),
            teacher_weight=candidate.teacher_weight if labelled and self.metric["name"] == "accuracy" else 0.0,
            temperature=4.0 if labelled and candidate.teacher_weight and self.metric["name"] == "accuracy" else 1.0,
            augment=candidate.augment,
            frozen_statistics=self._has_norms,
        )

    def network(self, transforms: Any, model: Any = None) -> Any:
        """The network that transforms make of another (the original)."""
        model = self.model if model is None else model
        for transform in transforms:
            model = self.transformed(transform, model).model
        return model

    def transformed(self, transform: Transform, model: Any) -> TransformResult:
        """What a transform gives, proven.

        Raises:
            CheckError: If the change does not prove itself.
        """
        with self._memory.used():
            result = transform(model, self.data, seed=self.seed, teacher=self.model)
        proven(transform, model, result, self.data)
        return result

    def _share(self, draft: Draft, keep: float, candidate: Candidate, place: int, count: int) -> float:
        """What a method keeps of the present cost, so that all of them keep `keep` of the original's."""
        if place < count - 1:
            return keep**candidate.split
        if not draft.transforms:
            return keep
        if self.figure == "latency":
            now, before = self._latencies.of(float_content(draft.model, self.data.input_shape))[0], self.original
            return keep * before["latency_ms"] / now
        now = self._costs(draft.model)
        return keep * (self.original[self.figure] or 1) / (now[self.figure] or 1)

    def _format_factors(self, row: Format) -> dict[str, float]:
        """What a format makes of the original: its size and latency as shares of float32's, and what it loses."""
        if row == FORMATS["float32"]:
            return {"size_bytes": 1.0, "latency_ms": 1.0, "drop": 0.0, "loss": 0.0}
        model, recipe = self._shared(self.model, row), Recipe((), row.quantization, row.pack)
        with self._file(model, row.quantization, row.pack) as (path, size_bytes, latency_ms, _):
            score, before, _ = self._file_score(model, path, recipe)
        return {
            "size_bytes": size_bytes / self.original["size_bytes"],
            "latency_ms": latency_ms / self.original["latency_ms"],
            "drop": drop_of(self.metric, before, score),
            "loss": before - score,
        }

    def _file_score(self, model: Any, path: Path, recipe: Recipe) -> tuple[float, float, int]:
        """(a file's score, the original's on the same rows, how many rows)."""
        if recipe.quantization is None and recipe.pack is None:
            # The file equals the network, which the export has checked; the network takes a batch at a time.
            return score_keras(model, self.judged, self._reference).value, self.original["score"], len(self.judged)
        few = self.judged.take(FILE_ROWS)
        reference = None if self._reference is None else [r[: len(few)] for r in self._reference]
        if few.y is None:
            return score_litert(path, few, reference).value, 0.0, len(few)
        return score_litert(path, few).value, score_keras(self.model, few).value, len(few)

    def _costs(self, model: Any) -> dict[str, Any]:
        costs = profile(model, self.data.input_shape)
        return {"macs": None if costs.unknown else costs.macs, "params": costs.params}

    def _judgement(
        self,
        score: float,
        figures: dict[str, Any],
        recipe: Recipe,
        start: float,
        drop: float,
        rows: int | None = None,
        step_seconds: float | None = None,
    ) -> Judgement:
        if not np.isfinite(score):
            raise ParedownError("A network must give finite outputs. Received: a score that is no number.")
        error = drop_error_of(self.metric, self.original["score"], score, rows or len(self.judged))
        return Judgement(
            score=float(score),
            drop=float(drop),
            drop_error=error,
            seconds=time.monotonic() - start,
            step_seconds=step_seconds,
            recipe=recipe.to_yaml(),
            label=label(recipe),
            **figures,
        )


def _rounded(rate: float) -> float:
    """To three digits, as one would write it into a recipe."""
    return float(f"{rate:.3g}")

"""What a strategy works with: it proposes, and gets judgements, each a trial of the study."""

import contextlib
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import optuna

from paredown.data import Split
from paredown.errors import DeviceError, OutputError, ParedownError
from paredown.progress import task
from paredown.recipe import Recipe
from paredown.search.budget import Budget
from paredown.search.candidate import Candidate
from paredown.search.entries import HOPEFUL, Entry, best_first, entries_of, identity, judged, promise, promoted
from paredown.search.formats import FORMATS
from paredown.search.judge import SHORT_STEPS, STEPS, Judge
from paredown.search.judgement import STAGES, Judgement
from paredown.search.limits import Limit, used
from paredown.search.methods import ALL
from paredown.search.space import Space
from paredown.search.study import DATABASE_ERRORS, GRACE_S, storing
from paredown.search.trials import Trials, VoidError

#: Epochs of the short training, and at least of the long one.
SHORT_EPOCHS, FEWEST_EPOCHS = 1, 2
#: Candidates that are trained long, and the share of the whole time that one of them may take.
FINALISTS, LONG_SHARE = 3, 0.2
#: A candidate is not trained long where after the short training it has lost so many times what the best has, and this
#: much (share of 1) more.
HOPELESS_TIMES, HOPELESS_MORE = 3, 0.01
#: What a second training, with shared values, takes on top of a long one: a quarter of the steps, which cost more.
SHARING_MORE = 0.5
#: Shares of a limit that are aimed at: latency is measured in the end, and must stay below; multiply-adds are counted.
BELOW = {"latency_ms": 0.94, "size_bytes": 0.97, "macs": 0.995}
#: How often a candidate is made, at most, until it keeps what it was to.
ATTEMPTS = 3
#: Candidates in a row that are known already, after which there is nothing left to find.
ENOUGH_REPEATED = 20
#: Seconds between two looks at what other workers do.
_LOOK_S = 0.5
#: Values that stand in the study for what is beyond them: a sampler takes no infinity.
_WORST = 1e3


class _Settled(NamedTuple):
    """A candidate's recipe without training, what is to be said of it, and whether the study knew that."""

    recipe: Recipe
    judgement: Judgement
    known: bool


class Bench:
    """A search at work.

    Args:
        study: Where trials are kept.
        url: Of its database, for messages.
        judge: Knows network and data.
        methods: That may be used.
        budget: Of time.
        most_trials: Candidates that are judged in all; None: as many as there is time for.
        most_epochs: Of the long training.
        grace_s: Seconds without a sign of life after which another worker counts as dead.
    """

    def __init__(
        self,
        study: optuna.Study,
        url: str,
        judge: Judge,
        methods: Sequence[str],
        budget: Budget,
        most_trials: int | None = None,
        most_epochs: int = 40,
        grace_s: int = GRACE_S,
    ):
        self.study, self.judge, self.budget = study, judge, budget
        self._trials = Trials(study, grace_s)
        self.methods = tuple(method for method in ALL if method in methods)
        self.most_trials, self.most_epochs = most_trials, most_epochs
        self._url = url
        #: How many candidates in a row came to recipes that were known.
        self.repeated = 0
        #: The budget's seconds for each second, in the last trial: its clock may be another.
        self._rate = 1.0
        #: Is told the seconds that every trial took, of the budget's.
        self.advance: Callable[[float], None] = lambda seconds: None
        formats = judge.formats
        reach = judge.keep is None or min(f.get(judge.primary, 1.0) for f in formats.values()) <= judge.keep
        labelled = judge.judged.y is not None
        images, aim = _images(judge.judged), BELOW[judge.primary]
        self.space = Space(self.methods, tuple(formats), judge.keep, images, labelled, reach, aim)

    @property
    def limits(self) -> tuple[Limit, ...]:
        return self.judge.limits

    def use(self, judgement: Judgement) -> float:
        """The largest figure as a share of its limit."""
        return used(self.limits, self.judge.original, asdict(judgement))

    def entries(self) -> list[Entry]:
        """All trials, with latencies as this machine would have them."""
        with storing(self._url):
            return [entry.seen_from(self.judge.original["latency_ms"]) for entry in entries_of(self._trials.all())]

    def best(self, stage: str) -> list[Entry]:
        """Those with a judgement at a stage, the most promising first."""
        return best_first(judged(self.entries(), stage), self.use, bool(self.limits))

    @property
    def exploring(self) -> bool:
        """Whether more may be proposed."""
        few = self.most_trials is None or len(self._proposed()) < self.most_trials
        return few and self.repeated < ENOUGH_REPEATED and self.budget.exploring

    def _proposed(self) -> list[Entry]:
        return [entry for entry in self.entries() if entry.stage == STAGES[0] and entry.state != "failed"]

    def begin(self) -> None:
        """Queues the candidates that every search begins with, those that no worker has queued."""
        entries = [entry for entry in self.entries() if entry.state != "failed"]
        there = {entry.attributes.get(name) for entry in entries for name in ("first", "key")}
        first = self.space.first()
        for number, parameters in enumerate(first[: self.most_trials]):
            if number not in there:
                self._enqueue(parameters, {"first": number})
        format, more = self.space.formats[0], self.most_trials is None or len(first) < self.most_trials
        if more and format != "float32" and "none" not in self.space.orders:
            # Not enough by itself, but what all else is to be held against.
            alone = Recipe((), FORMATS[format].quantization, FORMATS[format].pack)
            if _key(alone) not in there:
                self._enqueue_recipe(alone, format)

    def work(self) -> None:
        """Does one trial: trains whoever deserves it, else one that waits, else a new candidate."""
        # Long trainings come when nothing new is proposed any more.
        entry = promoted(self.entries(), self.use, bool(self.limits), STAGES[:2])
        if entry is not None:
            self.promote(entry)
        self._one()

    def finish(self) -> None:
        """Trains the most promising for longer, as far as time goes, and sees that nothing is left undone."""
        for stage, following in itertools.pairwise(STAGES):
            for place, entry in enumerate(self.deserving(stage)):
                gone = {e.of for e in self.entries() if e.stage == following and e.state != "failed"}
                there = [e for e in self.best(following) if self.hopeful(e)]
                enough = len(there) >= FINALISTS and place >= FINALISTS
                late = self.budget.left_to_train() <= 0 and (there or place >= FINALISTS)
                if enough or late or (gone and not self.hopeful(entry)):
                    break
                if entry.of not in gone:
                    self.promote(entry)
                    self.drain()

    def deserving(self, stage: str) -> list[Entry]:
        """Those with a judgement at a stage that may go on from there, the most promising first."""
        entries = self.best(stage)
        drops = [entry.judgement.drop for entry in entries if entry.judgement]
        if stage == STAGES[0] or not self.limits or not drops:
            return entries
        most = HOPELESS_TIMES * max(0.0, drops[0]) + HOPELESS_MORE
        return [entry for entry, drop in zip(entries, drops, strict=True) if drop <= most]

    def hopeful(self, entry: Entry) -> bool:
        """Whether a candidate is within the limits, or so near that it may be."""
        return not self.limits or (entry.judgement is not None and self.use(entry.judgement) <= HOPEFUL)

    def drain(self) -> None:
        """Does what is queued."""
        with storing(self._url):
            while self._trials.waiting:
                self._one(new=False)

    def wait(self) -> None:
        """Until no trial is under way elsewhere; what dead workers left is done here."""
        with storing(self._url), task("Wait for other workers"):
            while True:
                self._trials.revive()
                if self._trials.waiting:
                    self.drain()
                elif self._trials.running:
                    time.sleep(_LOOK_S)
                else:
                    # What others found may deserve more training.
                    self.finish()
                    if not (self._trials.waiting or self._trials.running):
                        return

    def promote(self, entry: Entry) -> None:
        """Queues the next stage of a candidate."""
        stage = STAGES[STAGES.index(entry.stage) + 1]
        kept = {key: entry.attributes[key] for key in ("recipe", "format", "candidate") if key in entry.attributes}
        epochs = SHORT_EPOCHS if stage == "short" else self._long_epochs(entry)
        self._enqueue(entry.params, {**kept, "stage": stage, "of": entry.of, "epochs": epochs})

    def judge_recipe(self, recipe: Recipe) -> Judgement | None:
        """A recipe's figures without training, from the study where it holds them; None where it cannot be made."""
        key = _key(recipe)
        while True:
            there = [e for e in self.entries() if e.attributes.get("key") == key and e.state != "failed"]
            done = [e for e in there if e.state in ("complete", "pruned")]
            if done:
                return done[0].judgement
            if not there:
                self._enqueue_recipe(recipe)
            elif there[0].state == "running":
                # Another worker is at it.
                with storing(self._url):
                    self._trials.revive()
                time.sleep(_LOOK_S)
            self.drain()

    def _long_epochs(self, entry: Entry) -> int:
        """As many as the time for one finalist allows, by what the short training took."""
        assert entry.judgement
        step = entry.judgement.step_seconds
        steps = self.judge.tuning(Candidate((), 1.0), 1).steps_per_epoch or STEPS
        each = self._rate * (entry.judgement.seconds if step is None else step * steps)
        if FORMATS[entry.attributes["format"]].sharing:
            each *= 1 + SHARING_MORE
        rest = {e.of for e in self.deserving(entry.stage)[:FINALISTS] if self.hopeful(e)}
        gone = {e.of for e in self.entries() if e.stage == STAGES[-1] and e.state != "failed"}
        share = max(self.budget.left_to_train(), 0.0) / max(1, len(rest - gone))
        allowed = min(LONG_SHARE * self.budget.seconds, share)
        return int(min(self.most_epochs, max(FEWEST_EPOCHS, allowed / max(each, 1e-3))))

    def _enqueue_recipe(self, recipe: Recipe, format: str = "float32") -> None:
        self._enqueue({}, {"key": _key(recipe), "recipe": recipe.to_yaml(), "format": format})

    def _enqueue(self, parameters: dict[str, Any], attributes: dict[str, Any]) -> None:
        with storing(self._url):
            self._trials.add(parameters, attributes)

    def _one(self, new: bool = True) -> None:
        """Does one trial; a new candidate, where it may be one, if none waits."""

        def objective(trial: optuna.Trial) -> tuple[float, float]:
            self._check_needed(trial, new)
            try:
                return self._objective(trial)
            except (OutputError, DeviceError, OSError, *DATABASE_ERRORS):
                raise
            except Exception as error:
                # One candidate that a network does not bear, foreseen or not, is no reason to lose the others.
                kind = "" if isinstance(error, ParedownError) else f"unexpected {type(error).__name__}: "
                trial.set_user_attr("reason", kind + " ".join(str(error).split())[:1000])
                raise optuna.TrialPruned from error

        before, start = self.budget.used, time.monotonic()
        with storing(self._url), task(f"Trial {len(self._trials.all())}"):
            try:
                self._trials.do(objective)
            finally:
                self.budget.keep()
        spent = self.budget.used - before
        self._rate = spent / max(time.monotonic() - start, 1e-9)
        self.advance(spent)

    def _objective(self, trial: optuna.Trial) -> tuple[float, float]:
        attributes = trial.user_attrs
        stage = attributes.get("stage", STAGES[0])
        candidate = self._candidate(trial, attributes)
        if stage == STAGES[0]:
            judgement = self._first_judgement(trial, candidate, attributes)
        else:
            most_steps = SHORT_STEPS if stage == STAGES[1] else STEPS
            tuning = self.judge.tuning(candidate, attributes["epochs"], most_steps)
            recipe = Recipe.from_yaml(attributes["recipe"])
            judgement = self.judge.tuned(recipe, attributes["format"], tuning)
        trial.set_user_attr("judgement", judgement.to_dict())
        trial.set_user_attr("original_ms", self.judge.original["latency_ms"])
        return self._values(judgement)

    def _values(self, judgement: Judgement) -> tuple[float, float]:
        """What the sampler gets: loss and cost. What is beyond the limits loses against all that is within."""
        use = self.use(judgement)
        beyond = use if self.limits and use > HOPEFUL else 0.0
        return min(judgement.drop + beyond, _WORST), min(use, _WORST)

    def _first_judgement(self, trial: optuna.Trial, candidate: Candidate, attributes: dict[str, Any]) -> Judgement:
        """Without training; other candidates may have come to the same recipe."""
        if "key" in attributes:
            recipe = Recipe.from_yaml(attributes["recipe"])
            return self.judge.cheap(recipe, self.judge.made.by(recipe), attributes["format"])
        made = [self._settled(candidate, ())]
        with contextlib.suppress(ParedownError):
            while len(made) < ATTEMPTS and self.judge.missed(candidate, made[-1].judgement):
                made.append(self._settled(candidate, made))
        best = min(made, key=lambda one: (self.use(one.judgement) > 1, promise(one.judgement, self.use)))
        trial.set_user_attr("recipe", best.recipe.to_yaml())
        trial.set_user_attr("format", candidate.format)
        self.repeated = self.repeated + 1 if best.known else 0
        return best.judgement

    def _settled(self, candidate: Candidate, made: Sequence[_Settled]) -> _Settled:
        """A candidate with its numbers settled; `made`: what it came to with other aims."""
        recipe, model = self.judge.settle(candidate)
        text = recipe.to_yaml()
        same = (e.judgement for e in judged(self.entries(), STAGES[0]) if e.attributes["recipe"] == text)
        known = next(same, None)
        again = next((one.judgement for one in made if one.recipe.to_yaml() == text), None)
        judgement = known or again or self.judge.cheap(recipe, model, candidate.format)
        return _Settled(recipe, judgement, known is not None)

    def _candidate(self, trial: optuna.Trial, attributes: dict[str, Any]) -> Candidate:
        """What the trial's parameters say; those of a recipe that came without any: how it is trained."""
        if "stage" in attributes:
            return Candidate(**json.loads(attributes["candidate"]))
        candidate = Candidate((), 1.0, **self.space.training) if "key" in attributes else self.space.draw(trial)
        trial.set_user_attr("candidate", json.dumps(candidate.to_dict()))
        return candidate

    def _check_needed(self, trial: optuna.Trial, new: bool) -> None:
        """Raises VoidError where several workers queued what only one has to judge, or took what only one could."""
        if "queued" in trial.user_attrs:
            mine = identity(trial)
            earlier = [e for e in self.entries() if e.number < trial.number and e.state != "failed"]
            same = [e.number for e in earlier if e.identity == mine]
            if same:
                raise VoidError(f"the same as trial {same[0]}")
        elif not new:
            raise VoidError("nothing waits any more")
        elif self.most_trials is not None and self._proposed_before(trial.number) >= self.most_trials:
            raise VoidError(f"{self.most_trials} are proposed")

    def _proposed_before(self, number: int) -> int:
        return len([entry for entry in self._proposed() if entry.number < number])


def _key(recipe: Recipe) -> str:
    return hashlib.sha256(recipe.to_yaml().encode()).hexdigest()[:16]


def _images(judged: Split) -> bool:
    """Whether inputs are images with at most one label each, which `FineTune` can shift."""
    if isinstance(judged.x, tuple) or len(judged.x.shape) != 4 or judged.y is None:
        return False
    return not isinstance(judged.y, tuple) and len(judged.y.shape) <= 2 and min(judged.x.shape[1:3]) >= 16

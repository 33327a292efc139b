"""What a search decides between trials: aims, who deserves training and how much of it, which finalist is chosen."""

import dataclasses

import numpy as np
import optuna
import pytest

from paredown import Data, FineTune, PruneChannels, Recipe, Split
from paredown.errors import SettingError
from paredown.search.aims import Aims
from paredown.search.bench import ATTEMPTS, LONG_SHARE, Bench
from paredown.search.budget import TRAIN, Budget
from paredown.search.candidate import Candidate
from paredown.search.ending import MARGIN, Ending, Finalist, _lost
from paredown.search.entries import Entry
from paredown.search.judgement import Judgement
from paredown.search.limits import parse_limits
from paredown.search.made import Made
from paredown.search.methods import ALL

# --- aims ---


@pytest.mark.parametrize(("fixed", "slope"), [(0.0, 1.0), (0.15, 0.8), (0.1, 0.5)])
def test_candidates_come_to_what_they_are_to_keep(fixed, slope):
    aims, candidate = Aims(), Candidate(("prune_channels",), 0.25)
    for _ in range(ATTEMPTS):
        share = fixed + (1 - fixed) * aims.of(candidate) ** slope
        missed = aims.learn(candidate, share)
    assert 0.8 <= share / 0.25 <= 1.1, missed
    other = dataclasses.replace(candidate, format="int8")
    assert aims.of(other) == other.keep


@pytest.mark.parametrize("share", [0.9, 0.001])
def test_aims_stay_within_reason(share):
    aims, candidate = Aims(), Candidate(("factorize",), 0.1)
    for _ in range(20):
        assert aims.learn(candidate, share)
    assert aims.of(candidate) == pytest.approx(0.1 / 8 if share > 0.1 else 0.8)


def test_structures_have_aims_of_their_own():
    aims, candidate = Aims(), Candidate(("substitute_conv", "prune_channels"), 0.2, structure="separable")
    assert aims.learn(candidate, 0.5)
    assert aims.of(candidate) < 0.2
    assert aims.of(dataclasses.replace(candidate, structure="bottleneck")) == 0.2
    assert aims.of(dataclasses.replace(candidate, layers=0.34)) == 0.2


# --- networks at hand ---


class _Network:
    """What stands in for a network: the shares of its transforms."""

    def __init__(self, shares=()):
        self.shares = shares

    def count_params(self):
        return 1


def test_recipes_that_begin_alike_are_made_from_there():
    asked = []

    def transformed(transform, model):
        asked.append(transform.macs)
        return _Network((*model.shares, transform.macs))

    made = Made(_Network(), transformed)
    steps = [PruneChannels("l2_norm", macs=share) for share in (0.9, 0.8, 0.7)]
    assert made.by(Recipe(())).shares == ()
    assert made.by(Recipe(steps[:2])).shares == (0.9, 0.8)
    assert made.by(Recipe(steps, "int8")).shares == (0.9, 0.8, 0.7)
    assert made.by(Recipe(steps)).shares == (0.9, 0.8, 0.7)
    assert asked == [0.9, 0.8, 0.7]
    for number in range(1, 200):
        made.keep(Recipe([PruneChannels("l2_norm", macs=number / 200)]), _Network((number,)))
    assert made.by(Recipe(steps[:1])).shares == (180,)
    assert made.by(Recipe(steps[:2])).shares == (180, 0.8)


# --- the bench ---


class _Judge:
    """Networks are shares; a file takes 0.1 ms of the original's 1 ms and a part that follows what was aimed at."""

    def __init__(self, limits, formats=("float32",), fails=False):
        self.limits, self.fails = limits, fails
        self.original = {"score": 0.9, "macs": 100, "params": 100, "size_bytes": 100, "latency_ms": 1.0}
        self.metric, self.formats = {"name": "accuracy"}, {name: {"latency_ms": 0.5} for name in formats}
        self.formats["float32"] = {}
        self.primary, self.keep = "latency_ms", limits[0].share(self.original) if limits else None
        self.judged = Split(np.zeros((8, 16, 16, 1)), np.zeros(8, int))
        self.aims, self.settled, self.judgements = Aims(), [], []

    def settle(self, candidate):
        self.settled.append(self.aims.of(candidate))
        if self.fails and len(self.settled) > 1:
            raise SettingError("The budget cannot be reached.")
        return Recipe([PruneChannels("l2_norm", macs=round(min(1.0, self.settled[-1]), 6))]), self.settled[-1]

    def cheap(self, recipe, model, format="float32"):
        self.judgements.append(_judgement(0.1, 0.1 + 0.9 * recipe.transforms[0].macs))
        return self.judgements[-1]

    def missed(self, candidate, judgement):
        return self.aims.learn(candidate, judgement.latency_ms)

    def tuning(self, candidate, epochs, most_steps=300):
        return FineTune(epochs=epochs, steps_per_epoch=most_steps)


def _judgement(drop, latency_ms, **more):
    figures = {"macs": 1, "params": 1, "size_bytes": 1, "latency_ms": latency_ms, "latency_from": "tables"}
    told = {"score": 0.9 - drop, "drop": drop, "drop_error": 0.0, "seconds": 8.0, "step_seconds": None, **more}
    return Judgement(**figures, **told, recipe="", label="")


def _entry(number, drop, latency_ms=0.4, stage="short", state="complete", **more):
    judgement = _judgement(drop, latency_ms, **more) if state == "complete" else None
    return Entry(number, stage, number % 10, state, None, judgement, {"format": "float32"}, {})


def _bench(judge, entries=(), seconds=1000.0, **settings):
    study = optuna.create_study(directions=["minimize", "minimize"])
    now = [0.0]
    bench = Bench(study, "sqlite://", judge, ALL, Budget(seconds, clock=lambda: now[0]), most_epochs=10**6, **settings)
    bench.entries = lambda: list(entries)
    return bench, now


HALF = parse_limits(max_latency="0.5x")


def test_a_candidate_is_made_until_it_keeps_what_it_is_to():
    judge = _Judge(parse_limits(max_latency="0.21x"))
    bench, _ = _bench(judge)
    trial = optuna.trial.create_trial(values=[0, 0])
    judgement = bench._first_judgement(trial, Candidate(("prune_channels",), 0.2), {})
    assert 1 < len(judge.settled) <= ATTEMPTS
    assert judgement.latency_ms <= 0.21
    made = [Recipe([PruneChannels("l2_norm", macs=round(share, 6))]).to_yaml() for share in judge.settled]
    assert trial.user_attrs["recipe"] in made[1:]
    # The next of its kind needs one attempt.
    judge.settled.clear()
    bench._first_judgement(trial, Candidate(("prune_channels",), 0.2), {})
    assert len(judge.settled) == 1


def test_a_candidate_that_cannot_be_made_anew_is_what_it_was():
    judge = _Judge(HALF, fails=True)
    bench, _ = _bench(judge)
    judgement = bench._first_judgement(optuna.trial.create_trial(values=[0, 0]), Candidate(("factorize",), 0.2), {})
    assert len(judge.settled) == 2
    assert judgement == judge.judgements[0]


def test_the_same_recipe_is_judged_once():
    judge = _Judge(HALF)
    bench, _ = _bench(judge)
    judge.settle = lambda candidate: (Recipe([PruneChannels("l2_norm", macs=0.9)]), None)
    bench._first_judgement(optuna.trial.create_trial(values=[0, 0]), Candidate(("factorize",), 0.2), {})
    assert len(judge.judgements) == 1


def test_who_has_lost_far_more_than_the_best_is_not_trained_long():
    entries = [_entry(1, 0.02), _entry(2, 0.06), _entry(3, 0.075), _entry(4, 0.001, latency_ms=0.9)]
    bench, _ = _bench(_Judge(HALF), entries)
    assert [entry.number for entry in bench.deserving("short")] == [1, 2, 4]
    assert _bench(_Judge(HALF), [])[0].deserving("short") == []
    assert len(_bench(_Judge(()), entries)[0].deserving("short")) == 4


@pytest.mark.parametrize("step_seconds", [None, 0.01])
def test_long_trainings_share_the_time_that_is_left(step_seconds):
    told = {"step_seconds": step_seconds}
    each = 8.0 if step_seconds is None else 300 * step_seconds
    short = [_entry(1, 0.02, **told), _entry(2, 0.03, **told), _entry(3, 0.04, **told)]
    bench, now = _bench(_Judge(HALF), short)
    assert bench._long_epochs(short[0]) == int(LONG_SHARE * 1000 / each)
    now[0] = 700.0
    assert bench._long_epochs(short[0]) == int((TRAIN * 1000 - 700) / 3 / each)
    # What was broken off counts for nothing, what is done for one.
    broken = _entry(11, 0, stage="long", state="failed")
    done = _entry(21, 0.01, stage="long")
    bench, now = _bench(_Judge(HALF), [*short, broken, done])
    now[0] = 700.0
    assert bench._long_epochs(short[1]) == int((TRAIN * 1000 - 700) / 2 / each)


@pytest.mark.parametrize(("trials", "queued"), [(None, True), (100, True), (1, False)])
def test_the_format_alone_is_a_candidate(trials, queued):
    judge = _Judge(parse_limits(max_latency="0.3x"), ("int8", "float32"))
    bench, _ = _bench(judge, most_trials=trials)
    bench.begin()
    recipes = [trial.user_attrs.get("recipe") for trial in bench.study.trials]
    assert (Recipe((), "int8").to_yaml() in recipes) == queued


# --- the ending ---


def _ending(measured):
    """An ending whose finalists took so many milliseconds of one; `measured`: (entry, milliseconds)."""
    entries = [entry for entry, _ in measured]
    bench, _ = _bench(_Judge(HALF), entries)
    ending = Ending(bench, None, Data(np.zeros((4, 2))), None, None, "host", None, 0, False)
    return ending, [Finalist(entry, ms, 1 / ms, 1 / ms, 1 / ms) for entry, ms in measured]


def test_what_was_trained_longer_is_chosen_first():
    long, short = _entry(11, 0.02, stage="long"), _entry(2, 0.01, latency_ms=0.3)
    nearly = 0.5 * (1 + MARGIN) / 2
    for ms in (0.4, nearly):
        ending, measured = _ending([(long, ms), (short, 0.3)])
        assert ending._chosen(measured).entry is long
    ending, measured = _ending([(long, 0.6), (short, 0.3)])
    assert ending._chosen(measured).entry is short
    other = _entry(13, 0.03, stage="long")
    ending, measured = _ending([(long, nearly), (other, 0.4)])
    assert ending._chosen(measured).entry is other
    ending, measured = _ending([(long, 0.7), (short, 0.6)])
    assert ending._chosen(measured).entry is short


def test_what_was_never_trained_is_no_choice_beside_what_was():
    long, short, hopeless = _entry(11, 0.02, stage="long"), _entry(2, 0.01), _entry(3, 0.5)
    cheap = [_entry(1, 0.3, stage="cheap"), _entry(4, 0.3, stage="cheap")]
    ending, _ = _ending([(entry, 1.0) for entry in (*cheap, hopeless, short, long)])
    assert ending._candidates() == [long, short]
    ending, _ = _ending([(entry, 1.0) for entry in cheap])
    assert ending._candidates() == cheap


@pytest.mark.parametrize(
    ("drop", "allowed", "metric", "told"),
    [
        (0.0123, 0.01, "accuracy", "1.23 points lost of 1 allowed"),
        (0.0123, None, "accuracy", "1.23 points lost"),
        (-0.0028, 0.01, "accuracy", "0.28 points gained"),
        (0.05, 0.1, "mean_squared_error", "error +5.00% of 10 % allowed"),
    ],
)
def test_what_was_lost_in_words(drop, allowed, metric, told):
    assert _lost(drop, allowed, metric) == told

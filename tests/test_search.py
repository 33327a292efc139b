"""The search: limits, candidates, judgements, who is trained further, and a whole search."""

import json

import keras
import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from paredown import Data, Recipe, compress, profile
from paredown.cli.main import run as command
from paredown.errors import DataError, SettingError
from paredown.latency import OperationTable
from paredown.search.bench import Bench
from paredown.search.budget import Budget
from paredown.search.candidate import Candidate
from paredown.search.formats import FORMATS, allowed
from paredown.search.judge import Judge
from paredown.search.judgement import drop_of, front, hypervolume
from paredown.search.latencies import ESTIMATED, MEASURED, Latencies, alone_on
from paredown.search.limits import parse_limits, used
from paredown.search.methods import ALL, METHODS
from paredown.search.searching import search
from paredown.search.space import Space
from paredown.search.strategies import STRATEGIES
from paredown.search.study import open_study, sqlite_url

# --- limits ---


@pytest.mark.parametrize(
    ("asked", "figure", "value"),
    [
        ({"max_latency": "0.5x"}, "latency_ms", 2.0),
        ({"max_latency": "3ms"}, "latency_ms", 3.0),
        ({"max_latency": 3}, "latency_ms", 3.0),
        ({"max_latency": "250us"}, "latency_ms", 0.25),
        ({"max_size": "0.25X"}, "size_bytes", 250.0),
        ({"max_size": "1.5 kB"}, "size_bytes", 1500.0),
        ({"max_macs": "2M"}, "macs", 2e6),
        ({"max_macs": "2e3"}, "macs", 2e3),
    ],
)
def test_limits_are_shares_or_absolute(asked, figure, value):
    (limit,) = parse_limits(**asked)
    assert limit.figure == figure
    assert limit.value({"latency_ms": 4.0, "size_bytes": 1000, "macs": 1e7}) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "x", "1.5x", "0", "0x", "-1", "3 parsecs", "0.5.1x", "nan", "inf"])
def test_limits_that_are_none(text):
    with pytest.raises(SettingError, match=r"max_latency must be .* Received: max_latency="):
        parse_limits(max_latency=text)


def test_use_is_the_tightest_limit():
    original = {"latency_ms": 4.0, "size_bytes": 1000, "macs": 100}
    limits = parse_limits(max_latency="0.5x", max_macs="50")
    assert used(limits, original, {"latency_ms": 1.0, "size_bytes": 1, "macs": 75}) == pytest.approx(1.5)
    assert used((), original, {"latency_ms": 1.0, "size_bytes": 1, "macs": 75}) == pytest.approx(0.25)


# --- fronts ---

POINTS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=12)


@given(POINTS)
@settings(deadline=None)
def test_the_front_is_what_no_other_beats(points):
    kept = {points[i] for i in front(points)}
    for p in points:
        beaten = any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)
        assert (p in kept) == (not beaten)


@given(POINTS)
@settings(deadline=None)
def test_hypervolume_counts_the_cells_that_a_point_beats(points):
    cells = sum(any(p[0] <= x and p[1] <= y for p in points) for x in range(7) for y in range(7))
    assert hypervolume(points, (7, 7)) == cells


def test_what_counts_as_loss():
    accuracy = {"name": "accuracy"}
    assert drop_of(accuracy, 0.99, 0.98) == pytest.approx(0.01)
    assert drop_of({"name": "mean_squared_error"}, 0.5, 0.6) == pytest.approx(0.2)
    assert drop_of({"name": "output_error"}, 0.0, 0.3) == 0.3


# --- candidates ---

SPACES = [
    Space(ALL, ("float32", "int8"), 0.1, True, True),
    Space(("prune_channels",), ("float32",), 0.02, False, False),
    Space(("prune_channels", "quantize"), ("float32", "int8"), 2.2, True, True),
    Space(("prune_channels", "factorize"), ("float32",), 1e-4, True, True),
    Space(("quantize",), ("float32", "float16", "int8"), None, False, True),
    Space(("factorize", "substitute_conv"), ("float32",), None, True, True),
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: "-".join(space.methods))
def test_every_drawn_candidate_is_within_the_space(space):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(60):
        candidate = space.draw(study.ask())
        seen.add(candidate.methods)
        assert set(candidate.methods) <= set(space.methods)
        assert candidate.format in space.formats
        assert not candidate.methods or space.keeps[0] <= candidate.keep <= space.keeps[1]
        assert Candidate(**json.loads(json.dumps(candidate.to_dict()))) == candidate
    assert seen == set(space.orders.values())


@pytest.mark.parametrize("space", SPACES, ids=lambda space: "-".join(space.methods))
def test_the_first_candidates_are_drawn_as_they_are(space):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for parameters in space.first():
        study.enqueue_trial(parameters)
        trial = study.ask()
        space.draw(trial)
        assert trial.params == parameters


def test_formats_need_their_method():
    assert allowed(("prune_channels",), sized=True) == ["float32"]
    assert allowed(ALL, sized=False) == ["float32", "int8"]
    assert set(allowed(ALL, sized=True)) == set(FORMATS)


# --- a small network ---


def _images(n, seed):
    """Bright quarters: which of the four is brightest."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    x = rng.normal(0, 1, (n, 16, 16, 1)).astype("float32")
    for row, label in enumerate(y):
        x[row, 8 * (label // 2) : 8 * (label // 2) + 8, 8 * (label % 2) : 8 * (label % 2) + 8] += 0.7
    return x, y


@pytest.fixture(scope="module")
def data():
    return Data(_images(800, 0), _images(400, 1), name="quarters")


@pytest.fixture(scope="module")
def model(data):
    keras.utils.set_random_seed(0)
    x = i = keras.Input((16, 16, 1))
    for filters in (16, 24):
        x = layers.Conv2D(filters, 3, padding="same", strides=2, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(4, activation="softmax")(layers.Flatten()(x))
    model = keras.Model(i, x)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*(column[:] for column in (data.train.x, data.train.y)), epochs=6, verbose=0)
    return model


@pytest.fixture(scope="module")
def judge(model, data):
    return Judge(model, data, parse_limits(max_macs="0.4x"))


ASKED = {"max_macs": "0.4x", "max_drop": 0.05, "hours": 0.2, "trials": 3, "epochs": 2, "scan": True}
ASKED |= {"methods": ("prune_channels", "quantize")}


@pytest.fixture(scope="module")
def found(model, data, tmp_path_factory):
    """A whole search, the last of whose candidates fails unforeseen, and the network's weights before it."""
    before = [w.copy() for w in model.get_weights()]
    out = tmp_path_factory.mktemp("search") / "out"
    settle, calls = Judge.settle, []

    def failing(self, candidate):
        calls.append(candidate)
        if len(calls) == ASKED["trials"]:
            raise ZeroDivisionError("by what?")
        return settle(self, candidate)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Judge, "settle", failing)
        return search(model, data, out, **ASKED), out, before


def test_a_search_keeps_its_limits_and_says_so(found, model):
    run, out, before = found
    told = run.record["search"]
    assert profile(run.model).macs <= 0.4 * profile(model).macs
    assert told["met"], told["verdict"]
    assert told["verdict"].startswith("The limits are kept")
    assert told["drop"] == pytest.approx(run.record["original"]["score"] - run.record["compressed"]["score"])
    assert [limit["asked"] for limit in told["limits"]] == ["0.4x"]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert json.loads((out / "run.json").read_text())["search"] == json.loads(json.dumps(told))
    for name in ("model.keras", "model.tflite", "recipe.yaml", "report.html"):
        assert (out / name).stat().st_size


def test_trials_go_through_the_stages(found):
    told = found[0].record["search"]
    stages = [trial["stage"] for trial in told["trials"] if trial["state"] == "complete"]
    assert {"cheap", "short", "long"} <= set(stages)
    chosen = next(trial for trial in told["trials"] if trial["number"] == told["chosen"])
    assert chosen["stage"] == "long"
    assert chosen["recipe"] == found[0].recipe.to_yaml()
    assert sum(finalist["chosen"] for finalist in told["finalists"]) == 1
    assert any(trial["front"] for trial in told["trials"])


def test_the_report_shows_where_the_network_has_fat(found):
    scan = found[0].record["search"]["scan"]
    assert {row["method"] for row in scan["rows"]} == {"prune_channels"}
    assert 'id="chart-heat-map"' in (found[1] / "report.html").read_text()


def test_the_recipe_alone_gives_the_same_network(found, model, data):
    run, out, _ = found
    again = compress(model, Recipe.load(out / "recipe.yaml"), data, seed=0)
    for a, b in zip(run.model.get_weights(), again.model.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert again.tflite == run.tflite


def test_the_same_search_again_judges_nothing_anew(found, model, data, monkeypatch):
    _, out, _ = found

    def never(*args, **kwargs):
        raise AssertionError("judged again")

    monkeypatch.setattr(Judge, "cheap", never)
    monkeypatch.setattr(Judge, "tuned", never)
    run = search(model, data, out, **ASKED)
    assert run.record["search"]["trials"] == found[0].record["search"]["trials"]


def test_optuna_opens_the_study(found):
    url = f"sqlite:///{found[1] / '.paredown-search' / 'study.db'}"
    (summary,) = optuna.study.get_all_study_summaries(url)
    study = optuna.load_study(study_name=summary.study_name, storage=url)
    complete = sum(trial["state"] == "complete" for trial in found[0].record["search"]["trials"])
    assert sum(trial.state.name == "COMPLETE" for trial in study.trials) == complete


def test_a_limit_that_cannot_be_met(model, tmp_path, capsys):
    model.save(tmp_path / "model.keras")
    x, y = _images(200, 3)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    arguments = ["--methods", "quantize", "--max-size", "0.001x", "--hours", "0.01", "--trials", "1", "--epochs", "1"]
    source = ["search", str(tmp_path / "model.keras"), "--data", str(tmp_path / "data.npz")]
    assert command([*source, "--out", str(tmp_path / "out"), *arguments]) == 3
    assert "Not met: the limits. The nearest that was found: size" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.tflite").exists()


def test_a_candidate_that_fails_unforeseen_is_named_and_costs_no_other(found):
    trials = found[0].record["search"]["trials"]
    (failed,) = [trial for trial in trials if (trial["reason"] or "").startswith("unexpected")]
    assert failed["state"] == "pruned"
    assert failed["reason"] == "unexpected ZeroDivisionError: by what?"
    assert any(trial["stage"] == "long" for trial in trials if trial["number"] > failed["number"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "A search needs a limit. Received: none of max_latency"),
        ({"max_latency": "2x"}, "max_latency must be a share of the original's, up to 1x"),
        ({"max_drop": 1.5}, r"max_drop must be in \[0, 1\). Received: max_drop=1.5"),
        ({"max_macs": "0.5x", "hours": 0}, "hours must be above 0. Received: hours=0"),
        ({"max_macs": "0.5x", "strategy": "luck"}, "strategy must be one of optuna, .* Received: strategy='luck'"),
        ({"max_macs": "0.5x", "methods": ("paint",)}, r"methods must be of .* Received: methods=\['paint'\]"),
        ({"max_macs": "0.5x", "methods": ("quantize",)}, "max_macs needs a method that takes multiply-adds away"),
        ({"max_latency": "0.5x", "device": "arm64"}, "device must be one that measures time"),
        ({"max_latency": "0.5x", "storage": "nonsense"}, "storage must be a database that can be reached"),
    ],
)
def test_settings_out_of_their_domains(arguments, message, model, data, tmp_path):
    with pytest.raises(SettingError, match=message):
        search(model, data, tmp_path / "out", **arguments)


def test_a_search_needs_something_to_learn_from(model, tmp_path):
    x, y = _images(40, 4)
    with pytest.raises(DataError, match=r"learns from data.train, .* Received: 0 rows"):
        search(model, Data(validation=(x, y)), tmp_path / "out", max_macs="0.5x")


def test_validation_is_not_judged_by(judge, data):
    mine = {row.tobytes() for row in np.asarray(judge.judged.x[:])}
    assert mine <= {row.tobytes() for row in data.train.x[:]}
    assert not mine & {row.tobytes() for row in np.asarray(judge.data.train.x[:])}
    assert not mine & {row.tobytes() for row in np.asarray(judge.data.calibration.x[:])}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_to_its_share_and_settles_its_numbers(method, judge, model):
    recipe, made = judge.settle(Candidate((method,), 0.4))
    if METHODS[method][1]:
        assert profile(made).macs <= 0.4 * profile(model).macs
    assert recipe.transforms
    for transform in recipe.transforms:
        assert getattr(transform, "latency_table", None) is None
    again = judge.network(Recipe.from_yaml(recipe.to_yaml()).transforms)
    for a, b in zip(made.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_while_another_measures_times_are_estimated(model, tmp_path):
    from paredown.export import float_content

    smaller = keras.Sequential([keras.Input((16, 16, 1)), layers.Conv2D(11, 3), layers.Flatten(), layers.Dense(3)])
    latencies = Latencies(OperationTable(tmp_path / "t.sqlite"), float_content(model))
    with alone_on("host"):
        guessed, how = latencies.of(float_content(smaller))
    assert how == ESTIMATED
    measured, how = latencies.of(float_content(smaller))
    assert how == MEASURED
    assert guessed > 0
    assert measured > 0
    with alone_on("host"):
        assert latencies.of(float_content(smaller)) == (measured, MEASURED)


@pytest.mark.parametrize(("strategy", "limit"), [*((name, "0.1x") for name in STRATEGIES), ("greedy", "0.9x")])
def test_every_strategy_comes_down_to_the_limit(strategy, limit, model, data, tmp_path):
    url = sqlite_url(tmp_path / "study.db")
    judge = Judge(model, data, parse_limits(max_macs=limit))
    trials = None if strategy == "greedy" else 2
    bench = Bench(open_study(url, "study", 0), url, judge, ("prune_channels",), Budget(600), trials)
    STRATEGIES[strategy](bench)
    bench.drain()
    assert min(bench.use(entry.judgement) for entry in bench.best("cheap")) <= 1


def test_a_short_training_takes_small_steps(judge):
    candidate = Candidate(("prune_channels",), 0.4, learning_rate=2e-3)
    rates = [judge.tuning(candidate, epochs).learning_rate for epochs in (1, 10, 1000, 2000)]
    assert rates == sorted(rates)
    assert rates[0] < rates[1] < rates[2] == rates[3] == 2e-3
    assert judge.tuning(candidate, 1, 3).steps_per_epoch == 3

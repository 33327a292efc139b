"""Experiments: every row of the table runs in its quick form, and what was finished is never run again."""

import itertools
import json
import random
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import paredown.experiments as experiments
from paredown.cli.main import run
from paredown.errors import DataError, SettingError
from paredown.experiments import EXPERIMENTS, Experiment, markdown, material, plots
from paredown.experiments.experiment import run_experiment
from paredown.experiments.rows import Spread, grouped, spread, summarized

RUNS: list[dict] = []


def toy_cases(quick):
    return [{"size": size, "seed": seed} for size in (1, 10) for seed in range(1 if quick else 2)]


def toy_run(case):
    RUNS.append(case)
    return {"error": np.float32(case["size"] + case["seed"]), "kept": np.arange(2)}


def toy_page(rows, folder):
    figure, axes = plots.axes("size (channels)", "error (of the range)")
    plots.lines(axes, rows, x="size", y="error")
    cells = [(row["size"], f"{row['error']:.1f}") for row in summarized(rows, ["size"], ["error"])]
    return markdown.table(["size", "error"], cells) + "\n\n" + plots.save(figure, folder, "toy-error", "Error by size")


TOY = Experiment("toy", "A toy", toy_cases, toy_run, toy_page)


@pytest.fixture
def toy(monkeypatch):
    """The toy as the table's only row."""
    RUNS.clear()
    monkeypatch.setattr(experiments, "MODULES", {"toy": "toy"})
    monkeypatch.setitem(sys.modules, "paredown.experiments.toy", sys.modules[__name__])
    monkeypatch.setattr(sys.modules[__name__], "EXPERIMENT", TOY, raising=False)
    return TOY


def figures_of(text):
    return re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)


# The contract of every row.


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_quick_form_gives_a_page_with_a_table_and_its_figures(name, tmp_path):
    experiment = EXPERIMENTS[name]
    missing = [need for need in experiment.needs if not material.at_hand(need)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not at hand: set {material.VARIABLE}")
    text = run_experiment(experiment, tmp_path, quick=True).read_text(encoding="utf-8")
    assert text.startswith(f"# {experiment.title}\n")
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert re.search(r"^\| --", text, re.MULTILINE)
    assert f"paredown experiment {name} --out DIR --quick" in text
    written = sorted(path.name for path in tmp_path.glob("*.png"))
    assert written
    assert sorted(set(figures_of(text))) == written
    assert all(picture.startswith(f"{name}-") for picture in written)
    assert " nan" not in text


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_cases_are_plain_and_differ(name):
    experiment = EXPERIMENTS[name]
    assert experiment.name == name
    for quick in (False, True):
        cases = [json.dumps(case, sort_keys=True) for case in experiment.cases(quick)]
        assert len(set(cases)) == len(cases) > 0
    seeds = {case.get("seed") for case in experiment.cases(False)}
    assert seeds == {None} or len(seeds) >= 3


# What is kept.


def test_a_page_states_where_its_figures_come_from(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = run_experiment(toy, Path("out"), quick=True).read_text(encoding="utf-8")
    assert text.startswith("# A toy\n\nMade by `paredown experiment toy --out out --quick` on 20")
    assert re.search(r"in \S+ s of computing\. .+, \d+ threads?; paredown \S+, keras \S+, .*backend \w+\.\n", text)
    assert "| 10 | 10.0 |" in text
    assert figures_of(text) == ["toy-error.png"]
    assert (tmp_path / "out" / "toy-error.png").read_bytes()[:4] == b"\x89PNG"


def test_finished_cases_are_not_run_again(toy, tmp_path):
    run_experiment(toy, tmp_path, quick=True)
    first = (tmp_path / "toy.md").read_text(encoding="utf-8")
    assert len(RUNS) == 2
    run_experiment(toy, tmp_path, quick=True)
    assert len(RUNS) == 2
    assert (tmp_path / "toy.md").read_text(encoding="utf-8") == first
    # The whole form has two cases more.
    run_experiment(toy, tmp_path)
    assert [case["seed"] for case in RUNS] == [0, 0, 1, 1]


def test_a_failure_loses_nothing_that_was_finished(toy, tmp_path, monkeypatch):
    def stops(case):
        if len(RUNS) == 3:
            raise KeyboardInterrupt
        return toy_run(case)

    with pytest.raises(KeyboardInterrupt):
        run_experiment(Experiment("toy", "A toy", toy_cases, stops, toy_page), tmp_path)
    assert not (tmp_path / "toy.md").exists()
    assert len(list((tmp_path / "toy").iterdir())) == 3
    run_experiment(toy, tmp_path)
    assert len(RUNS) == 4


def test_a_broken_file_counts_as_not_finished(toy, tmp_path):
    run_experiment(toy, tmp_path, quick=True)
    next((tmp_path / "toy").iterdir()).write_text('{"case"')
    run_experiment(toy, tmp_path, quick=True)
    assert len(RUNS) == 3


@pytest.mark.parametrize("what", ["inspect.getsource", "paredown.experiments.experiment.environment"])
def test_other_code_or_versions_run_everything_again(what, toy, tmp_path, monkeypatch):
    run_experiment(toy, tmp_path, quick=True)
    changed = dict(experiments.experiment.environment(), keras="0") if "environment" in what else "other source"
    monkeypatch.setattr(what, lambda *_: changed)
    run_experiment(toy, tmp_path, quick=True)
    assert len(RUNS) == 4


def test_a_case_comes_out_alike_whatever_ran_before(tmp_path):
    import keras

    def draws(case):
        return {"value": random.random(), "name": keras.layers.Dense(2).name}

    def rows_of(cases, folder):
        rows = []
        drawing = Experiment("draws", "Draws", lambda quick: cases, draws, lambda found, _: rows.extend(found) or "")
        run_experiment(drawing, tmp_path / folder)
        return rows

    cases = [{"seed": seed} for seed in range(3)]
    assert rows_of(cases, "all")[1:] == rows_of(cases[1:], "some")


def test_figures_must_be_plain(tmp_path):
    odd = Experiment("odd", "Odd", lambda quick: [{}], lambda case: {"value": {1, 2}}, lambda rows, folder: "")
    with pytest.raises(TypeError, match=r"Received: \{1, 2\}, a set"):
        run_experiment(odd, tmp_path)
    assert list((tmp_path / "odd").iterdir()) == []


def test_a_killed_run_continues_at_the_next_case(tmp_path):
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from paredown.experiments.experiment import Experiment, run_experiment

        def case(settings):
            print("case", settings["seed"], flush=True)
            time.sleep(60 if settings["seed"] == 1 and "slow" in sys.argv else 0)
            return {{"value": settings["seed"]}}

        cases = lambda quick: [{{"seed": seed}} for seed in range(3)]
        page = lambda rows, folder: " ".join(str(row["value"]) for row in rows)
        print(run_experiment(Experiment("slow", "Slow", cases, case, page), Path({str(tmp_path)!r})).read_text())
    """)
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py")]
    child = subprocess.Popen([*command, "slow"], stdout=subprocess.PIPE, text=True)
    assert [child.stdout.readline() for _ in range(2)] == ["case 0\n", "case 1\n"]
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert len(list((tmp_path / "slow").glob("[!.]*"))) == 1
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("case 1\ncase 2\n# Slow\n")
    assert done.stdout.rstrip().endswith("0 1 2")


# The command.


def test_the_command_runs_and_names_the_page(toy, tmp_path, capsys):
    assert run(["experiment", "toy", "--quick", "--out", str(tmp_path / "o")]) == 0
    out, err = capsys.readouterr()
    assert out == f"Page: {tmp_path / 'o' / 'toy.md'}\n"
    assert "size 10, seed 0: " in err
    assert "toy: 2 cases: " in err


def test_all_runs_all(toy, tmp_path, capsys):
    assert run(["experiment", "--all", "--quick", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"Page: {tmp_path / 'toy.md'}\n"


def test_without_a_name_it_lists_them(toy, monkeypatch, capsys):
    monkeypatch.setattr(material, "at_hand", lambda name: name == "digits")
    needy = Experiment("toy", "A toy", toy_cases, toy_run, toy_page, needs=("digits", "cifar10"))
    monkeypatch.setattr(sys.modules[__name__], "EXPERIMENT", needy)
    assert run(["experiment"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(" toy")]
    assert "A toy" in line
    assert "4" in line.split()
    assert "digits, cifar10 (not at hand)" in line


def test_an_unknown_name_is_refused_with_the_known_ones(toy, tmp_path, capsys):
    assert run(["experiment", "toy", "tooy", "--out", str(tmp_path / "o")]) == 2
    assert capsys.readouterr().err == "Error: An experiment must be one of: toy. Received: 'tooy'.\n"
    assert not (tmp_path / "o").exists()


def test_missing_material_is_refused_before_anything_runs(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(material.VARIABLE, "elsewhere")
    needy = Experiment("toy", "A toy", toy_cases, toy_run, toy_page, needs=("digits", "resnet20_cifar10"))
    monkeypatch.setattr(sys.modules[__name__], "EXPERIMENT", needy)
    assert run(["experiment", "toy", "--material", str(tmp_path / "m"), "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "Received: 'resnet20_cifar10'" in err
    assert str(tmp_path / "m" / "data" / "models" / "resnet20_cifar10.keras") in err
    assert not RUNS


# Material.


def test_material_comes_from_the_folder_first(tmp_path, monkeypatch):
    monkeypatch.setenv(material.VARIABLE, str(tmp_path))
    (tmp_path / "data" / "models").mkdir(parents=True)
    (tmp_path / "data" / "load.py").write_text(
        "from numpy import ones\n\ndef mnist():\n    return (ones((4, 2)), ones(4)), (ones((2, 2)), ones(2))\n"
    )
    (tmp_path / "data" / "models" / "net.keras").touch()
    material.check(["digits", "mnist", "net"])
    assert len(material.data("mnist").train) == 4
    assert material.network("net") == tmp_path / "data" / "models" / "net.keras"


@pytest.mark.parametrize(("get", "name"), itertools.product((material.data, material.network), ["fer2013"]))
def test_missing_material_says_where_it_is_looked_for(get, name, tmp_path, monkeypatch):
    monkeypatch.setenv(material.VARIABLE, str(tmp_path))
    assert not material.at_hand(name)
    with pytest.raises(DataError, match=f"Received: '{name}'.*{tmp_path}/data/load.py.*--material DIR"):
        get(name)


def test_keras_data_without_a_network_name_every_place(tmp_path, monkeypatch):
    def offline():
        raise OSError("URL fetch failure")

    monkeypatch.setenv(material.VARIABLE, str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("keras.datasets.mnist.load_data", offline)
    with pytest.raises(DataError, match=rf"URL fetch failure.*mnist\.npz.*mnist\(\) in {tmp_path}.*--material DIR"):
        material.check(["mnist"])


# Rows, tables, figures.


@pytest.mark.parametrize(
    ("values", "form", "text"),
    [
        ((1.0, 3.0), ".2f", "2.00 ± 1.41"),
        ((5.0, 5.0), ".1f", "5.0"),
        ((0.25,), ".2f", "0.25"),
        ((-1.0, -3.0), "+.1f", "−2.0 ± 1.4"),
        ((1000.0, 3000.0), ",.0f", "2,000 ± 1,414"),
        ((), ".1f", "unknown"),
    ],
)
def test_a_spread_is_mean_and_sample_deviation(values, form, text):
    assert f"{Spread(values):{form}}" == text


def test_rows_are_grouped_and_summarized():
    rows = [{"a": a, "seed": seed, "loss": a + seed} for seed in range(3) for a in (4, 2)]
    assert [(key, len(group)) for key, group in grouped(rows, "a").items()] == [((4,), 3), ((2,), 3)]
    first, second = summarized([*rows, {"a": 2, "loss": None}], ["a"], ["loss"])
    assert (first["a"], first["count"], first["loss"].mean, first["loss"].deviation) == (4, 3, 4 + 1, 1)
    assert (second["count"], second["loss"]) == (4, spread(rows[1::2], "loss"))


def test_a_table_keeps_its_columns():
    made = markdown.table(["name", "loss (%)"], [("a|b", "1 ± 2"), ("two\nlines", 3)])
    assert made == "| name | loss (%) |\n| --- | ---: |\n| a\\|b | 1 ± 2 |\n| two lines | 3 |"
    with pytest.raises(ValueError, match=r"2 cells, one a column. Received: \['x'\]"):
        markdown.table(["a", "b"], [["x"]])


def test_figures_have_labels_panels_and_lines(tmp_path):
    rows = [{"way": way, "x": x, "loss": x * x + seed} for way in "ab" for x in (2, 1) for seed in range(3)]
    figure, (left, right) = plots.axes(["x (steps)", "way"], "loss (1)", ["over x", "at the end"])
    plots.lines(left, [*rows, {"way": "a", "x": 5, "loss": None}], x="x", y="loss", by="way")
    plots.bars(right, rows, x="way", y="loss")
    assert [panel.get_xlabel() for panel in figure.axes] == ["x (steps)", "way"]
    assert [panel.get_ylabel() for panel in figure.axes] == ["loss (1)"] * 2
    assert [list(line.get_xdata()) for line in left.lines] == [[1, 2]] * 2
    assert list(left.lines[0].get_ydata()) == [1 + 1, 4 + 1]
    assert len({(line.get_color(), line.get_marker()) for line in left.lines}) == 2
    assert [bar.get_height() for bar in right.patches] == [(1 + 4) / 2 + 1] * 2
    assert plots.save(figure, tmp_path, "toy-two", "Two") == "![Two](toy-two.png)"
    first = (tmp_path / "toy-two.png").read_bytes()
    plots.save(figure, tmp_path, "toy-two", "Two")
    assert (tmp_path / "toy-two.png").read_bytes() == first


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SettingError, match=r"pip install 'paredown\[experiments\]'"):
        plots.axes("x", "y")

"""What the pages say runs."""

import importlib
import re
from functools import partial
from pathlib import Path

import keras
import pytest
import yaml

from paredown import Recipe, demo
from paredown.blocks import BLOCKS
from paredown.criteria import CRITERIA
from paredown.experiments import EXPERIMENTS
from paredown.experiments.experiment import run_experiment
from paredown.sharing import METHODS as SHARING_METHODS
from paredown.sparse import METHODS

ROOT = Path(__file__).parent.parent
RESULTS = sorted((ROOT / "docs" / "results").glob("*.md"))
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_quickstart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # One pass over the digits, not twenty: what follows asks nothing of the network's accuracy.
    monkeypatch.setattr(demo, "train_classifier", partial(demo.train_classifier, epochs=1))
    names = {}
    for block in blocks(ROOT / "docs" / "quickstart.md", "python"):
        exec(compile(block, "quickstart.md", "exec"), names)
    assert (tmp_path / "quickstart-run" / "model.tflite").stat().st_size == names["after"]["size_bytes"]
    assert "454,922 parameters" in capsys.readouterr().out
    assert names["after"]["macs"] <= 0.25 * names["before"]["macs"]


def test_layers_of_your_own(capsys):
    names = {"__name__": "docs_layers"}
    for block in blocks(ROOT / "docs" / "custom-layers.md", "python"):
        exec(compile(block, "custom-layers.md", "exec"), names)
    # Half of 32, then half of 16 channels are left: 8 * 16 + 16 * 8, and 8 * 4 of the last layer.
    assert capsys.readouterr().out == f"16 (8, 16) {8 * 16 + 16 * 8 + 8 * 4}\n"
    swish = names["Swish"](name="swish")
    inputs = names["keras"].Input((4,))
    x = names["keras"].layers.Dense(2)(swish(names["keras"].layers.Dense(6)(inputs)))
    result = names["paredown"].PruneChannels(criterion="random", sparsity=0.5)(names["keras"].Model(inputs, x))
    assert type(result.model.get_layer("swish")) is names["Swish"]


def test_the_quickstarts_yaml_is_its_recipe():
    (text,) = blocks(ROOT / "docs" / "quickstart.md", "yaml")
    assert [next(iter(entry)) for entry in yaml.safe_load(text)["transforms"]] == ["prune_channels", "fine_tune"]
    assert Recipe.from_yaml(text).quantization == "int8"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_in_the_repository_load(path):
    loaded = Recipe.load(path)
    assert Recipe.from_yaml(loaded.to_yaml()) == loaded


def test_the_demonstrations_recipe_is_the_one_in_the_repository():
    assert Recipe.load(ROOT / "recipes" / "mnist.yaml") == demo.recipe()


def test_relative_links_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def test_the_experiment_of_the_page_runs(tmp_path, monkeypatch):
    (text,) = blocks(ROOT / "docs" / "experiments.md", "python")
    (tmp_path / "my_question.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("my_question")
    page = run_experiment(module.EXPERIMENT, tmp_path).read_text(encoding="utf-8")
    assert "| 8 | 13.50 ± 1.00 |" in page
    assert (tmp_path / "my-question-error.png").exists()


def test_the_page_of_criteria_has_every_row():
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs" / "criteria.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    words = {"kernel": "weights", "scale": "weights"}
    assert dict(rows) == {name: words.get(row.reads, row.reads) for name, row in CRITERIA.items()}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_pages_of_results_name_commands_that_exist(path):
    text = path.read_text(encoding="utf-8")
    scripts = re.findall(r"python (benchmarks/\w+\.py)", text)
    commands = re.findall(r"paredown experiment ([\w-]+)", text)
    assert scripts or commands, "the page does not say what made it"
    assert [script for script in scripts if not (ROOT / script).exists()] == []
    assert [name for name in commands if name not in EXPERIMENTS] == []


def test_the_page_of_blocks(capsys):
    page = ROOT / "docs" / "blocks.md"
    names = {}
    for block in blocks(page, "python"):
        exec(compile(block, "blocks.md", "exec"), names)
    assert capsys.readouterr().out == "7 99 298\n"
    assert re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE) == list(BLOCKS)


def test_the_page_of_single_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "weights.md"
    image = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(4, 5, strides=3, activation="relu")(image)
    scores = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
    names = {"model": keras.Model(image, scores)}
    for block in blocks(page, "python"):
        exec(compile(block, "weights.md", "exec"), names)
    assert (tmp_path / "small.tflite").is_file()
    assert len(names["recipe"].transforms) == 10
    text = page.read_text(encoding="utf-8")
    assert all(f"| `{method}` |" in text for method in METHODS)


def test_the_page_of_the_ef_operator(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page, names = ROOT / "docs" / "additive.md", {}
    for block in blocks(page, "python"):
        exec(compile(block, "additive.md", "exec"), names)
    pairs = 12 * 12 * 8 * 25 + 12 * 12 * 8 * 10
    assert capsys.readouterr().out == f"{12 * 12 * 8 + 10} {2 * pairs} {pairs}\n"
    plain, sums = ((tmp_path / name).stat().st_size for name in ("plain.tflite", "additive.tflite"))
    assert 1.8 < sums / plain < 2.2
    (text,) = blocks(page, "yaml")
    assert [next(iter(entry)) for entry in yaml.safe_load(text)["transforms"]] == ["substitute_additive", "fine_tune"]
    assert Recipe.from_yaml(text).transforms[0].exclude == ("scores",)


def test_the_page_of_shared_weights(capsys):
    page = ROOT / "docs" / "sharing.md"
    image = keras.Input((28, 28, 1))
    scores = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(image))
    names = {"model": keras.Model(image, scores)}
    for block in blocks(page, "python"):
        exec(compile(block, "sharing.md", "exec"), names)
    assert capsys.readouterr().out.startswith(f"{7840 * 4 + 16 * 32} ")
    assert len(set(keras.ops.convert_to_numpy(names["tuned"].layers[-1].kernel).ravel().tolist())) == 16
    assert all(f"| `{method}` |" in page.read_text(encoding="utf-8") for method in SHARING_METHODS)

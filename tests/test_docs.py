"""What the pages say runs."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

from paredown import Recipe
from paredown.demo import recipe
from paredown.experiments.experiment import run_experiment

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_quickstart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(ROOT / "docs" / "quickstart.md", "python"):
        exec(compile(block, "quickstart.md", "exec"), names)
    assert (tmp_path / "quickstart-run" / "model.tflite").stat().st_size == names["after"]["size_bytes"]
    assert "454,922 parameters" in capsys.readouterr().out
    assert names["after"]["macs"] <= 0.25 * names["before"]["macs"]


def test_the_quickstarts_yaml_is_its_recipe():
    (text,) = blocks(ROOT / "docs" / "quickstart.md", "yaml")
    assert [next(iter(entry)) for entry in yaml.safe_load(text)["transforms"]] == ["prune_channels", "fine_tune"]
    assert Recipe.from_yaml(text).quantization == "int8"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_in_the_repository_load(path):
    loaded = Recipe.load(path)
    assert Recipe.from_yaml(loaded.to_yaml()) == loaded


def test_the_demonstrations_recipe_is_the_one_in_the_repository():
    assert Recipe.load(ROOT / "recipes" / "mnist.yaml") == recipe()


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

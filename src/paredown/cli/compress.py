"""`paredown compress`: a trained network in; a smaller, checked .tflite and its report out."""

from pathlib import Path
from typing import Annotated

import typer

from paredown.cli import options, start
from paredown.errors import ModelError
from paredown.files import writable_folder


def compress(
    model: options.Model,
    data: options.DataSource,
    recipe: Annotated[Path, typer.Option(metavar="R.yaml", help="What to do, in order.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where model.tflite, report.html and the rest go.")],
    seed: options.Seed = 0,
    trust: options.Trust = False,
    no_slower: Annotated[
        bool, typer.Option("--no-slower", help="Undo every step that makes the network slower in LiteRT here.")
    ] = False,
) -> None:
    """Compresses a network by a recipe, checks it, measures it and writes a report."""
    start.check_file(model, "A model", ModelError)
    start.check_data(data)
    start.check_recipe(recipe)
    writable_folder(out)
    start.prepare()
    from paredown import pipeline
    from paredown.cli import display
    from paredown.data import Data
    from paredown.recipe import Recipe

    with display.working():
        steps = Recipe.load(recipe)
        run = pipeline.compress(model, steps, Data.load(data), out=out, seed=seed, trust=trust, no_slower=no_slower)
    show(run.record, out)


def show(record: dict, out: Path) -> None:
    """Ends a run: the table of what came of it, and where the report is."""
    from paredown.cli import display

    display.run_summary(record)
    typer.echo(f"Report: {out / 'report.html'}")

"""`paredown experiment`: the experiments behind the pages of results, run again."""

import os
from pathlib import Path
from typing import Annotated

import typer

from paredown.cli import start
from paredown.errors import SettingError
from paredown.files import writable_folder


def experiment(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME ...]", help="Without one: lists them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A small form: to see it work, not for its figures.")] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where pages and figures go.")] = Path("experiments"),
    material: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that holds data/load.py and data/models.")
    ] = None,
) -> None:
    """Runs experiments and writes a page for each; an interrupted one continues."""
    from paredown.experiments import EXPERIMENTS
    from paredown.experiments.material import VARIABLE

    wanted = list(EXPERIMENTS) if every else list(names or ())
    for name in wanted:
        if name not in EXPERIMENTS:
            raise SettingError(f"An experiment must be one of: {', '.join(EXPERIMENTS)}. Received: {name!r}.")
    if material is not None:
        os.environ[VARIABLE] = str(material)
    if wanted:
        writable_folder(out)
    start.prepare()
    if wanted:
        _run(wanted, out, quick)
    else:
        _list()


def _run(names: list[str], out: Path, quick: bool) -> None:
    from paredown.cli import display
    from paredown.experiments import EXPERIMENTS, material
    from paredown.experiments.experiment import run_experiment

    for name in names:
        material.check(EXPERIMENTS[name].needs)
    for name in names:
        with display.working():
            page = run_experiment(EXPERIMENTS[name], out, quick)
        typer.echo(f"Page: {page}")


def _list() -> None:
    from paredown.cli import display
    from paredown.experiments import EXPERIMENTS, material

    made = display.table("experiment", "what it shows", "cases", "needs", left=2)
    made.columns[-1].justify = "left"
    for name, one in EXPERIMENTS.items():
        needs = [need if material.at_hand(need) else f"{need} (not at hand)" for need in one.needs]
        made.add_row(name, one.title, str(len(one.cases(False))), ", ".join(needs) or "nothing")
    out = display.console()
    out.print(made)
    out.print("Run one with: paredown experiment NAME --out DIR")

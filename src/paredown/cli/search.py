"""`paredown search`: from limits to the recipe that loses least within them."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from paredown.cli import options, start
from paredown.errors import ModelError, SettingError
from paredown.files import writable_folder

#: The exit status where the search went through and its limits could not be met.
NOT_MET = 3


def search(
    model: options.Model,
    data: options.DataSource,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results and the study go.")],
    max_latency: Annotated[
        str | None, typer.Option(metavar="LIMIT", help="0.5x of the original's, or milliseconds: 3ms.")
    ] = None,
    max_size: Annotated[str | None, typer.Option(metavar="LIMIT", help="0.25x, or bytes: 200kB.")] = None,
    max_macs: Annotated[str | None, typer.Option(metavar="LIMIT", help="0.1x, or multiply-adds: 1.5M.")] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Most that may be lost: 0.01 is one point of accuracy (or 1 % of the error).")
    ] = None,
    hours: Annotated[
        float, typer.Option(help="That the search may take; the chosen recipe's own run comes on top.")
    ] = 1,
    trials: Annotated[int | None, typer.Option(min=1, help="Most candidates to judge.")] = None,
    strategy: Annotated[str, typer.Option(help="optuna, knapsack or greedy.")] = "optuna",
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Of prune_channels, factorize, substitute_conv, share_weights, quantize. All of them."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where finalists are measured: host, browser or android.")] = "host",
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="A database that many machines share: postgresql://user@host/db.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs (of at most 300 steps) of a long training.")] = 60,
    seed: options.Seed = 0,
    scan: Annotated[
        bool | None, typer.Option("--scan/--no-scan", help="Show what each method does to each layer alone.")
    ] = None,
    trust: options.Trust = False,
) -> None:
    """Finds the recipe that loses least within limits, and runs it; an interrupted search goes on."""
    from paredown.search.limits import parse_limits

    start.check_file(model, "A model", ModelError)
    start.check_data(data)
    parse_limits(max_latency=max_latency, max_size=max_size, max_macs=max_macs)
    if not find_spec("optuna"):
        raise SettingError('A search needs Optuna. Received: it is not installed. pip install "paredown[search]"')
    writable_folder(out)
    start.prepare()
    from paredown.cli import display
    from paredown.data import Data
    from paredown.search import search as find
    from paredown.search.methods import ALL

    chosen = tuple(name.strip() for name in methods.split(",")) if methods else ALL
    with _resumable(), display.working():
        run = find(
            model,
            Data.load(data),
            out,
            max_latency=max_latency,
            max_size=max_size,
            max_macs=max_macs,
            max_drop=max_drop,
            hours=hours,
            trials=trials,
            strategy=strategy,
            methods=chosen,
            device=device,
            storage=storage,
            epochs=epochs,
            seed=seed,
            trust=trust,
            scan=scan,
        )
    display.run_summary(run.record)
    found = run.record["search"]
    typer.echo(found["verdict"])
    typer.echo(f"Recipe: {out / 'recipe.yaml'}. Report: {out / 'report.html'}")
    if not found["met"]:
        raise typer.Exit(NOT_MET)


@contextmanager
def _resumable() -> Iterator[None]:
    """Says what Ctrl-C leaves, after the progress has been taken off the screen."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("What was finished is kept: the same command goes on.", err=True)
        raise

"""`paredown demo`: the whole way on a classifier of handwritten digits that it trains itself."""

from pathlib import Path
from typing import Annotated

import typer

from paredown.cli import compress, start
from paredown.files import writable_folder

#: `--quick` trains on about this many examples, each epoch being one pass over the data.
_QUICK_EXAMPLES = 10_000


def demo(
    data: Annotated[
        str | None, typer.Option(metavar="SRC", help="The digits: mnist where it can be had, else digits.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Less training: to see it work, not to see how well.")] = False,
) -> None:
    """Trains a classifier of handwritten digits, compresses it and shows what came of it."""
    if data is not None:
        start.check_data(data)
    writable_folder(out)
    start.prepare()
    from paredown import demo as example
    from paredown import pipeline
    from paredown.cli import display

    digits = example.demo_data(data)
    typer.echo(digits.note)
    epochs = max(1, _QUICK_EXAMPLES // len(digits.train)) if quick and digits.train else None
    with display.working():
        network = example.train_classifier(digits, epochs)
        run = pipeline.compress(network, example.recipe(len(digits.train or ()), quick), digits, out=out)
    compress.show(run.record, out)

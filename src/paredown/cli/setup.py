"""`paredown setup`: makes a device ready that needs more than is installed with paredown."""

from typing import Annotated

import typer

from paredown.devices import MODULES
from paredown.devices import device as find_device


def setup(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help=f"One of {', '.join(MODULES)}.")],
) -> None:
    """Makes a device ready to measure on; needed once, for those that need it."""
    chosen = find_device(device)
    if chosen.setup is None:
        typer.echo(f"{chosen.name} needs no setup.")
        return
    from paredown.cli import display

    with display.working():
        where = chosen.setup()
    typer.echo(f"Ready: {where}")

"""Arguments and options that several commands share, said once."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="The trained network, a .keras file.")]
DataSource = Annotated[
    str, typer.Option(metavar="SRC", help="mnist, cifar10, digits, data.npz, module:function or file.py:function.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random.")]
Trust = Annotated[bool, typer.Option("--trust", help="Load a file that holds code (Lambda layers).")]

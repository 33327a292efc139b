"""A finished run: the network, its .tflite file, and the record of how it came to be."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paredown import report
from paredown.errors import OutputError
from paredown.files import replacing, writable_folder, write_text
from paredown.model_file import save_model
from paredown.recipe import Recipe
from paredown.transform import Change, Skip

#: What a run writes under its final names.
RESULTS = ("model.keras", "model.tflite", "recipe.yaml", "run.json", "report.html")


@dataclass(frozen=True, eq=False)
class Run:
    """What `compress` gives.

    Args:
        model: The compressed network.
        changes: What happened to each layer, over all steps.
        skips: What was left alone and why, over all steps and the export.
        record: Every figure, as in `run.json`.
        recipe: What was done.
        tflite: The exported file's content.
    """

    model: Any
    changes: Sequence[Change]
    skips: Sequence[Skip]
    record: dict[str, Any]
    recipe: Recipe
    tflite: bytes

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes `model.keras`, `model.tflite`, `recipe.yaml`, `run.json` and `report.html`, each whole or not at all.

        Raises:
            OutputError: If the folder cannot be written, or holds a file of such a name that no run wrote.
        """
        folder = output_folder(folder)
        save_model(self.model, folder / "model.keras")
        with replacing(folder / "model.tflite") as aside:
            aside.write_bytes(self.tflite)
        self.recipe.save(folder / "recipe.yaml")
        write_text(folder / "run.json", json.dumps(self.record, indent=1))
        report.write(self.record, folder / "report.html")
        return folder


def output_folder(folder: str | os.PathLike, source: str | os.PathLike | None = None) -> Path:
    """The folder for a run's results, made where it is missing.

    Args:
        source: The file that the network was loaded from.
    Raises:
        OutputError: If it cannot be written, or a result would overwrite a file of the user's.
    """
    folder = writable_folder(folder)
    for name in RESULTS:
        path = folder / name
        if source is not None and path.exists() and path.samefile(source):
            raise OutputError(
                f"A result must not overwrite the network it is made from. Received: {str(source)!r} with "
                f"--out {str(folder)!r}. Give another folder."
            )
    mine = (folder / WORK).exists() or _is_record(folder / "run.json")
    theirs = [name for name in RESULTS if (folder / name).exists()]
    if theirs and not mine:
        raise OutputError(
            f"The output folder must not hold files of the results' names from elsewhere. Received: "
            f"{str(folder / theirs[0])!r}, which no run wrote. Give another folder."
        )
    return folder


def _is_record(path: Path) -> bool:
    """Whether a file is the record of a run, not some other tool's run.json."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"schema", "paredown"} <= set(record)


#: The folder of unfinished work below the output folder.
WORK = ".paredown"


def clear_work(folder: Path) -> None:
    """Removes what an interrupted run would have needed."""
    shutil.rmtree(folder / WORK, ignore_errors=True)

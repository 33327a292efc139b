"""Finished cases, one line of JSON each, kept as they are finished, so that a scan that was killed goes on.

A line's key is made of all that its figures depend on (`checkpoints`): another network, other data or settings find
nothing. A damaged line, such as a killed process leaves, is a case that was not finished.
"""

import json
from pathlib import Path
from typing import Any

from paredown.files import cannot_write

NAME = "scan.jsonl"


class Kept:
    """Figures by key, in a folder; without a folder they are forgotten with the process."""

    def __init__(self, folder: Path | None):
        self._path = None if folder is None else folder / NAME
        self._known = {} if self._path is None else dict(_read(self._path))

    def get(self, key: str) -> Any:
        """What is kept under a key; None where nothing is."""
        return self._known.get(key)

    def keep(self, key: str, figures: Any) -> None:
        self._known[key] = figures
        if self._path is None:
            return
        try:
            with self._path.open("ab") as file:
                # Behind a line that was cut off a new one begins; empty lines are none.
                file.write(f"\n{json.dumps([key, figures])}\n".encode())
        except OSError as error:
            raise cannot_write(self._path, error) from error


def _read(path: Path) -> list[tuple[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot_write(path, error) from error
    found = []
    for line in lines:
        try:
            key, figures = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(key, str):
            found.append((key, figures))
    return found

"""How long a search may go on, over all times that it was started with the same folder."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from paredown.files import write_text

#: Share of the time after which nothing new is proposed, and that training the few may take up to.
EXPLORE, TRAIN = 0.55, 0.85


class Budget:
    """Seconds that may be used, and how many were.

    Args:
        seconds: In all.
        path: Where the seconds that earlier processes used are kept; None: nowhere.
        clock: Gives seconds; only differences are looked at.
    """

    def __init__(self, seconds: float, path: Path | None = None, clock: Callable[[], float] = time.monotonic):
        self.seconds, self._path, self._clock = seconds, path, clock
        self._before, self._start = self._read(), clock()

    @property
    def used(self) -> float:
        return self._before + self._clock() - self._start

    def keep(self) -> None:
        """Writes down how many seconds were used."""
        if self._path is not None:
            write_text(self._path, json.dumps({"seconds": self.used}))

    @property
    def exploring(self) -> bool:
        """Whether there is time to propose more."""
        return self.used < EXPLORE * self.seconds

    def left_to_train(self) -> float:
        """Seconds until training has to end."""
        return TRAIN * self.seconds - self.used

    def _read(self) -> float:
        try:
            assert self._path is not None
            return float(json.loads(self._path.read_text(encoding="utf-8"))["seconds"])
        except (AssertionError, OSError, ValueError, KeyError, TypeError):
            return 0.0

"""Progress of long work: silent in a library, a bar where a person watches.

Whoever does long work writes `with task("Fine-tune", total=10) as advance: advance(1)`; the command line
installs a display with `showing(...)`. Nothing here knows how it is drawn.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

Display = Callable[[str, float | None], AbstractContextManager[Callable[[float], None]]]

_display: ContextVar[Display | None] = ContextVar("display", default=None)


@contextmanager
def showing(display: Display) -> Iterator[None]:
    """Shows all tasks of the block on `display(label, total) -> context manager of advance(amount)`."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)


@contextmanager
def task(label: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
    """One piece of long work; `advance(amount)` moves it on, `total` None means that its end is unknown."""
    display = _display.get()
    if display is None:
        yield lambda amount=1.0: None
        return
    with display(label, total) as advance:
        yield advance

"""Silence for native libraries that talk on standard error whatever one tells them."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

_LOGGERS = ("absl", "tensorflow")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what TensorFlow, LiteRT and the quantizer log, in Python and from C++, on standard error.

    Standard output is left alone: results and progress bars go there. Errors still arrive as exceptions.
    """
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        sink = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(contextlib.redirect_stderr(sink))
        stack.enter_context(_descriptor_to(2, sink.fileno()))
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _descriptor_to(descriptor: int, target: int) -> Iterator[None]:
    """C++ writes to the descriptor itself, past `sys.stderr`."""
    if sys.__stderr__ is not None:
        sys.__stderr__.flush()
    try:
        kept = os.dup(descriptor)
    except OSError:  # A process without standard error has nothing to silence.
        yield
        return
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def one_line(error: BaseException) -> str:
    """A library's error on one short line without a full stop, to be told in a message of our own."""
    return " ".join(str(error).split())[:300].rstrip(".")

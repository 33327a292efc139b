"""What is computed of one network over and over, kept while a block lasts.

A search makes hundreds of networks of one original, and most of what transforms ask of that (scores, second moments,
outputs) is the same each time.
"""

import contextlib
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

Result = TypeVar("Result")


class Memory:
    """What is known of a network.

    Args:
        model: The network. It is known again as the same object, and must not change.
        data: A `Data`, likewise.
    """

    def __init__(self, model: Any, data: Any):
        self.model, self.data = model, data
        self.results: dict[Hashable, Any] = {}

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """While the block lasts, `remembered` looks here."""
        token = _MEMORY.set(self)
        try:
            yield
        finally:
            _MEMORY.reset(token)


_MEMORY: ContextVar[Memory | None] = ContextVar("memory", default=None)


def remembered(model: Any, data: Any, key: Hashable, compute: Callable[[], Result]) -> Result:
    """What `compute` gives; from the memory in use where that is of this network and these data and knows it.

    Args:
        key: Names the result, with every setting that it depends on.
    """
    memory = _MEMORY.get()
    if memory is None or memory.model is not model or memory.data is not data:
        return compute()
    if key not in memory.results:
        memory.results[key] = compute()
    return memory.results[key]

"""What phones have sent so far: written by the server's thread, read by the one that waits."""

import secrets
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from paredown.devices.browser.messages import Failed, Hello, Message, Output, Turns
from paredown.devices.browser.offer import Offer, stride
from paredown.errors import DeviceError

# Pages that may take part beside those that are waited for: closed ones, opened again elsewhere.
_SPARE_PHONES = 32


@dataclass
class Phone:
    """One page: what it said of itself, its outputs, and its turns.

    Args:
        hello: What it said last.
        outputs: (file, output) -> values.
        turns: One row per turn, milliseconds per file.
        failure: Why it cannot go on.
    """

    hello: Hello
    outputs: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    turns: list[list[float]] = field(default_factory=list)
    failure: str | None = None


class Session:
    """One measurement: what is offered, and what came back.

    Args:
        offers: The files.
        runs: Turns that each phone is to measure.
        threads: Of the runtime, where the browser gives them.
        phones: How many must come to an end.
    """

    def __init__(self, offers: tuple[Offer, ...], runs: int, threads: int, phones: int):
        self.offers, self.runs, self.threads, self.wanted = offers, runs, threads, phones
        self.token = secrets.token_urlsafe(12)
        self.phones: dict[str, Phone] = {}
        self._changed = threading.Condition()
        self._last_sign = time.monotonic()

    def job(self) -> dict:
        """What the page is told to do."""
        return {"runs": self.runs, "threads": self.threads, "files": [offer.to_dict() for offer in self.offers]}

    def sign(self) -> None:
        """Something came from, or went to, a phone."""
        with self._changed:
            self._last_sign = time.monotonic()

    def receive(self, name: str, message: Message) -> dict:
        """Takes up what a page sent.

        Args:
            name: Of the page, its own choice.
            message: One of `messages`.
        Returns:
            How many turns are kept, and after `Hello` the turns themselves, so that a page that was loaded again
            goes on from there.
        Raises:
            DeviceError: If it does not fit what was offered.
        """
        with self._changed:
            phone = self._greet(name, message) if isinstance(message, Hello) else self._take(name, message)
            self._changed.notify_all()
            so_far = {"times_ms": list(phone.turns)} if isinstance(message, Hello) else {}
            return {"turns": len(phone.turns), **so_far}

    def _greet(self, name: str, hello: Hello) -> Phone:
        known = self.phones.get(name)
        if known is None and len(self.phones) >= self.wanted + _SPARE_PHONES:
            raise DeviceError(f"There must be at most {self.wanted + _SPARE_PHONES} pages. Received: another.")
        if known is None or known.hello.runtime != hello.runtime:
            # Turns of another build or number of threads cannot be compared with those to come.
            known = self.phones[name] = Phone(hello)
        known.hello, known.failure = hello, None
        return known

    def _take(self, name: str, message: Output | Turns | Failed) -> Phone:
        phone = self.phones.get(name)
        if phone is None:
            raise DeviceError(f"A page must say hello first. Received: {message.kind!r}.")
        if isinstance(message, Output):
            phone.outputs[message.file, message.output] = self._values(message)
        elif isinstance(message, Turns):
            self._append(phone, message)
        else:
            phone.failure = message.message
        return phone

    def _values(self, message: Output) -> np.ndarray:
        """What a message holds, of the type and size that the file's output has."""
        places = len(self.offers[message.file].outputs) if message.file < len(self.offers) else 0
        if message.output >= places:
            raise DeviceError(f"There is no such output. Received: file={message.file}, output={message.output}.")
        wanted = list(self.offers[message.file].outputs.values())[message.output]
        sample = wanted.ravel()[:: stride(wanted.size)]
        if len(message.values) != sample.nbytes:
            raise DeviceError(f"This output must have {sample.nbytes} bytes. Received: {len(message.values)}.")
        return np.frombuffer(message.values, wanted.dtype.newbyteorder("<"))

    def _append(self, phone: Phone, message: Turns) -> None:
        """Keeps the turns that are new: a message whose answer was lost is sent again."""
        if any(len(row) != len(self.offers) for row in message.times_ms):
            raise DeviceError(f"A turn must hold {len(self.offers)} times. Received: {message.times_ms[0]}.")
        if message.first > len(phone.turns):
            raise DeviceError(f"The next turn must be {len(phone.turns)}. Received: first={message.first}.")
        new = message.times_ms[len(phone.turns) - message.first :]
        phone.turns.extend(new[: self.runs - len(phone.turns)])

    def whole(self, phone: Phone) -> bool:
        """Whether every turn and every output has come."""
        return len(phone.turns) >= self.runs and len(phone.outputs) == sum(len(o.outputs) for o in self.offers)

    def turns(self) -> int:
        """Turns that have come, from all phones together."""
        with self._changed:
            return sum(len(phone.turns) for phone in self.phones.values())

    def wait(self, timeout_s: float, at_most_s: float) -> bool:
        """Waits for news, at most `at_most_s`; False once nobody is to be waited for any longer.

        That is when enough phones have come to an end, or none has given a sign for `timeout_s`.
        """
        with self._changed:
            left_s = self._last_sign + timeout_s - time.monotonic()
            if self._ended() or left_s <= 0:
                return False
            self._changed.wait(min(left_s, at_most_s))
            return not self._ended()

    def _ended(self) -> bool:
        return sum(self.whole(p) or p.failure is not None for p in self.phones.values()) >= self.wanted

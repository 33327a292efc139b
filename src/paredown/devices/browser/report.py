"""What one phone's browser measured."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from paredown.checks import largest_difference
from paredown.devices.browser import browsers
from paredown.devices.browser.assets import VERSION
from paredown.devices.browser.messages import Hello
from paredown.devices.browser.offer import Offer, stride
from paredown.devices.browser.session import Phone, Session
from paredown.devices.device import TOLERANCE
from paredown.measure import Latency, latency


@dataclass(frozen=True)
class BrowserReport:
    """Figures of several files that one phone's browser measured together.

    Args:
        threads: That the runtime used.
        runs: Turns that arrived; each gives every file one timing.
        runtime: Name and version of the runtime, its build, and the browser.
        rows: One `Latency` per file, in order.
        build: "threaded", "plain" (one thread), or "compat" (one thread, no relaxed SIMD: 2 to 4 times slower).
        user_agent: As the browser calls itself.
        secure: Whether the page was a secure context; without, browsers give no threads.
        clock_step_ms: Smallest step of the browser's clock; each timing spans many of it.
        output_differences: One per file: largest difference from LiteRT's outputs on this computer, as a share of
            the output's range, on random inputs; None where outputs did not arrive.
        notes: What a reader must know, in sentences.
    """

    threads: int
    runs: int
    runtime: str
    rows: tuple[Latency, ...]
    build: str
    user_agent: str
    secure: bool
    clock_step_ms: float
    output_differences: tuple[float | None, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict:
        """Plain data."""
        return dataclasses.asdict(self)


def report(session: Session, phone: Phone) -> BrowserReport | None:
    """A phone's report; None where no turn arrived."""
    hello = phone.hello
    if not phone.turns:
        return None
    times_ms = np.asarray(phone.turns)
    columns = zip(session.offers, times_ms.T, strict=True)
    differences = tuple(_difference(offer, file, phone) for file, offer in enumerate(session.offers))
    return BrowserReport(
        threads=hello.threads,
        runs=len(times_ms),
        runtime=f"LiteRT.js {VERSION} ({hello.build} build) in {browsers.name(hello.user_agent)}",
        rows=tuple(latency.row(offer.path, column, times_ms[:, 0]) for offer, column in columns),
        build=hello.build,
        user_agent=hello.user_agent,
        secure=hello.secure,
        clock_step_ms=hello.clock_step_ms,
        output_differences=differences,
        notes=(*_of_browser(session, hello), *_of_progress(session, phone), *_of_outputs(session, differences)),
    )


def _difference(offer: Offer, file: int, phone: Phone) -> float | None:
    """Largest difference over the outputs that arrived; None unless all did."""
    given = [phone.outputs.get((file, place)) for place in range(len(offer.outputs))]
    if any(values is None for values in given):
        return None
    return largest_difference([a.ravel()[:: stride(a.size)] for a in offer.outputs.values()], given)


def _of_browser(session: Session, hello: Hello) -> list[str]:
    notes = []
    if hello.threads < session.threads:
        why = "the browser has no more to give"
        if not hello.secure:
            why = "over plain http a browser gives a page no more (use --https, or adb reverse and http://localhost)"
        elif hello.build == "compat":
            why = "the runtime has threads only with relaxed SIMD, which this browser lacks"
        notes.append(f"{hello.threads} of {session.threads} threads: {why}.")
    if hello.build == "compat":
        notes.append("This browser has no relaxed SIMD: the runtime's compat build is 2 to 4 times slower.")
    return notes


def _of_progress(session: Session, phone: Phone) -> list[str]:
    notes = [f"The page failed: {phone.failure}"] if phone.failure else []
    if len(phone.turns) < session.runs:
        notes.append(f"{len(phone.turns)} of {session.runs} turns arrived before the page gave no further sign.")
    return notes


def _of_outputs(session: Session, differences: tuple[float | None, ...]) -> list[str]:
    notes = []
    for offer, value in zip(session.offers, differences, strict=True):
        if value is None:
            notes.append(f"{offer.path}: its outputs did not arrive, and are not checked.")
        elif not value <= TOLERANCE:
            notes.append(
                f"{offer.path}: outputs differ from LiteRT's on this computer by {value:.3g} of their range; do not "
                "trust this file in this browser."
            )
    if not notes:
        worst = max(value for value in differences if value is not None)
        within = f"within {worst:.2g} of their range" if worst else "to the last bit"
        notes.append(f"Outputs equal LiteRT's on this computer {within}.")
    return notes

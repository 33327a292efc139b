"""One measurement from end to end: serve, wait for phones, gather what came."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from paredown import progress
from paredown.devices.browser import address, assets, browsers, offer
from paredown.devices.browser.report import BrowserReport, report
from paredown.devices.browser.server import make_app
from paredown.devices.browser.serving import listening, serving
from paredown.devices.browser.session import Session
from paredown.devices.device import Options
from paredown.errors import DeviceError

# How often the bar moves.
_LOOK_S = 0.5


def measure(files: Sequence[Path], options: Options) -> tuple[BrowserReport, ...]:
    """Measures files in phones' browsers.

    Args:
        files: .tflite files; the first is what the others are compared with.
        options: How; `tell` says where to go with a phone.
    Returns:
        A report for each phone that sent at least one turn.
    Raises:
        DeviceError: If nothing arrived.
        ModelError: If a file is nothing that LiteRT.js can run.
    """
    session = Session(offer.prepare(files), options.runs, options.threads, options.phones)
    app, host = make_app(session, assets.fetch()), address.lan_address()
    with listening(options.port) as listener, serving(app, listener, host if options.https else None):
        port = listener.getsockname()[1]
        _invite(options.tell, address.url(host, port, session.token, options.https), port, options)
        try:
            with _stopped_as_by_ctrl_c():
                _wait(session, options)
        except KeyboardInterrupt:
            if not session.turns():
                raise
            options.tell("Interrupted: what arrived is shown.")
    return _gather(session, options)


@contextmanager
def _stopped_as_by_ctrl_c() -> Iterator[None]:
    """Makes a request to end (`kill`) what Ctrl-C is, so that figures that arrived are not lost with the process."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _invite(tell: Callable[[str], None], url: str, port: int, options: Options) -> None:
    tell(address.qr_text(url, colour=sys.stderr.isatty()))
    tell(f"On the phone, open {url}")
    if options.https:
        tell("The browser will warn of the certificate, which this run made for itself: go on to the page.")
    elif options.threads > 1:
        path = url.split("/", 3)[3]
        tell(
            "Over plain http the browser gives one thread. For more: --https, or, with the phone on a cable, "
            f"adb reverse tcp:{port} tcp:{port} and http://localhost:{port}/{path}"
        )
    tell(
        "The phone must be in this computer's network (the same Wi-Fi). Ctrl-C ends it; without a sign of life it ends "
        f"after {options.timeout_s:g} s."
    )


def _wait(session: Session, options: Options) -> None:
    seen, greeted = 0, 0
    with progress.task("Measure in a browser", total=options.runs * options.phones) as advance:
        waiting = True
        while waiting:
            waiting = session.wait(options.timeout_s, _LOOK_S)
            # In the order in which they came.
            for phone in list(session.phones.values())[greeted:]:
                options.tell(f"Connected: {browsers.name(phone.hello.user_agent)}, {phone.hello.build} build.")
                greeted += 1
            turns = session.turns()
            advance(turns - seen)
            seen = turns


def _gather(session: Session, options: Options) -> tuple[BrowserReport, ...]:
    pages = list(session.phones.values())
    made = [(page, report(session, page)) for page in pages]
    reports = tuple(found for _, found in made if found)
    silent = [page for page, found in made if found is None]
    reasons = [f"a page failed: {page.failure}" if page.failure else "a page sent no figures" for page in silent]
    if not reports:
        raise DeviceError(
            f"A phone must open the page and measure. Received within {options.timeout_s:g} s without a sign: "
            f"{'; '.join(reasons) or 'nobody opened it'}. Is the phone in the same network? Does a firewall keep it "
            "out? --port fixes the port, --timeout the wait."
        )
    for reason in reasons:
        options.tell(f"Left out: {reason}.")
    missing = options.phones - sum(session.whole(page) for page in pages)
    if missing > 0:
        options.tell(f"{missing} of {options.phones} phones did not come to an end; what arrived is shown.")
    return reports

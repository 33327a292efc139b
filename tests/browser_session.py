"""What tests of the browser device share: offers without LiteRT, a phone made of plain HTTP, and a measurement in a
thread."""

import base64
import http.client
import json
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import zxingcpp

from paredown.devices import Options, measure_on
from paredown.devices.browser.offer import Offer

OUTPUT = np.array([[0.25, 0.5, 1.0]], "float32")
HELLO = {
    "kind": "hello",
    "user_agent": "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Mobile",
    "threads": 1,
    "build": "plain",
    "secure": False,
    "cores": 8,
    "clock_step_ms": 0.1,
}


def offers(folder: Path, count: int = 2) -> tuple[Offer, ...]:
    """Files that only a fake phone looks at, each with one input and the output `OUTPUT`."""
    made = []
    for place in range(count):
        path = folder / f"{place}.tflite"
        path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes([place]) * 64)
        made.append(Offer(path, {"x": np.full((1, 2), place, "float32")}, {"y": OUTPUT}))
    return tuple(made)


def request(url: str, path: str, method: str = "GET", body: bytes | None = None, headers=None, context=None):
    """(status, headers, body) of a request whose path is sent as it stands."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    more = {"context": context} if parts.scheme == "https" else {}
    connection = kind(parts.hostname, parts.port, timeout=30, **more)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def post(url: str, message: dict | bytes, phone: str = "a") -> tuple[int, str]:
    """What the server says to a message: status and text."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    status, _, text = request(url, f"{urlsplit(url).path}phone/{phone}", "POST", body)
    return status, text.decode()


def output(file: int, values: np.ndarray = OUTPUT) -> dict:
    """An output as a page sends it."""
    return {"kind": "output", "file": file, "output": 0, "values": base64.b64encode(values.tobytes()).decode()}


def turns(first: int, *times_ms: list[float]) -> dict:
    """Turns as a page sends them."""
    return {"kind": "turns", "first": first, "times_ms": list(times_ms)}


def read_qr(text: str) -> str:
    """What a QR code made of half blocks says: each character is two modules, one above the other."""
    halves = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}
    rows = [[halves[c][part] for c in line] for line in text.splitlines() for part in (0, 1)]
    image = np.kron(1 - np.array(rows, "uint8"), np.ones((8, 8), "uint8")) * 255
    (found,) = zxingcpp.read_barcodes(image)
    return found.text


class Measurement:
    """A measurement under way in a thread.

    Args:
        files: What is measured.
        options: Of `Options`.
    """

    def __init__(self, files, **options):
        self.lines: list[str] = []
        self.future: Future = Future()
        settings = Options(tell=self.lines.append, **{"timeout_s": 60.0, **options})
        self._thread = threading.Thread(target=self._measure, args=(files, settings), daemon=True)

    def _measure(self, files, settings):
        try:
            self.future.set_result(measure_on("browser", files, settings))
        except Exception as error:
            self.future.set_exception(error)

    def url(self, host: str | None = None) -> str:
        """The address that a person is told, or the same page at another name of this computer."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.future.done():
                self.future.result()
            told = [line.rsplit(" ", 1)[1] for line in list(self.lines) if line.startswith("On the phone, open")]
            if told:
                parts = urlsplit(told[0])
                return parts._replace(netloc=f"{host}:{parts.port}").geturl() if host else told[0]
            time.sleep(0.02)
        raise AssertionError(f"no address was told: {self.lines}")

    def reports(self, timeout_s: float = 120):
        """What it gives in the end."""
        return self.future.result(timeout_s)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self._thread.join(60)
            assert not self._thread.is_alive()

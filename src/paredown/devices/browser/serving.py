"""Runs the server in a thread of its own, for as long as a block lasts."""

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paredown.devices.browser import certificate
from paredown.errors import DeviceError

# Answers under way when the block ends may still go out; a page that is loading a model is cut off then.
_GRACE_S = 2
_START_S = 30


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket in every network of this computer, so that phones reach it; `port` 0: any free one.

    Raises:
        DeviceError: If the port cannot be had.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(("0.0.0.0", port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DeviceError(f"port must be free. Received: port={port}: {reason}. Use 0 for any free one.") from error
        yield made


@contextmanager
def serving(app: Any, listener: socket.socket, https_host: str | None = None) -> Iterator[None]:
    """Serves an ASGI application while the block runs.

    Args:
        app: The application.
        listener: A bound socket.
        https_host: Serve over HTTPS with a certificate for this address.
    Raises:
        DeviceError: If the server does not start.
    """
    import uvicorn

    with tempfile.TemporaryDirectory(prefix="paredown-") as folder:
        secure = {}
        if https_host is not None:
            files = certificate.write(Path(folder), https_host)
            secure = dict(zip(("ssl_certfile", "ssl_keyfile"), map(str, files), strict=True))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            log_level="critical",
            lifespan="off",
            ws="none",
            limit_concurrency=200,
            timeout_graceful_shutdown=_GRACE_S,
            **secure,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True, name="paredown-server")
        thread.start()
        try:
            _wait_for_start(server, thread)
            yield
        finally:
            server.should_exit = True
            thread.join(_GRACE_S + 3)


def _wait_for_start(server: Any, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise DeviceError(f"The server must start within {_START_S} s. Received: it did not. Try another --port.")
        time.sleep(0.01)

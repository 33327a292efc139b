"""The browser device with this computer's own Chromium in the place of a phone: LiteRT.js without anybody at hand."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from paredown.devices import Options, device, measure_on
from paredown.devices.browser.report import BrowserReport

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--no-first-run",
)


def in_browser(files: Sequence[Path], runs: int, timeout_s: float = 300.0) -> BrowserReport | str:
    """Measures files in a headless Chromium, on one thread.

    Args:
        files: .tflite files; the first is what the others are compared with.
        runs: Timings per file.
        timeout_s: Seconds without a sign of life after which it is given up.
    Returns:
        The report, or why there can be none here.
    Raises:
        DeviceError: If the browser is there and fails.
    """
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    reason = device("browser").why_not(Options())
    if program is None or reason is not None:
        return reason or "no Chromium is installed"
    started: list[subprocess.Popen] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:

        def open_page(line: str) -> None:
            address = re.search(r"https?://\S+", line)
            if address and not started:
                command = [program, *_FLAGS, f"--user-data-dir={profile}", address[0]]
                started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

        try:
            (report,) = measure_on("browser", files, Options(runs=runs, timeout_s=timeout_s, tell=open_page))
        finally:
            for process in started:
                process.terminate()
                process.wait(30)
    assert isinstance(report, BrowserReport)
    return report

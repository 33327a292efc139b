"""A phone's browser: a page that runs .tflite files in LiteRT.js and sends the figures back.

The phone opens an address in the same network; nothing is installed on it, and nothing comes from outside.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from paredown.devices.browser import assets
from paredown.devices.device import Device, Options, Report
from paredown.errors import SettingError

_PACKAGES = ("starlette", "uvicorn", "segno", "cryptography")


def _why_not(options: Options) -> str | None:
    missing = [name for name in _PACKAGES if not find_spec(name)]
    if missing:
        return (
            f"The browser device needs packages of its own. Received: no {', '.join(missing)}. "
            'Install them with: pip install "paredown[browser]"'
        )
    return assets.why_not()


def _measure(files: Sequence[Path], options: Options) -> tuple[Report, ...]:
    for name in ("runs", "threads", "phones"):
        if getattr(options, name) < 1:
            raise SettingError(f"{name} must be at least 1. Received: {name}={getattr(options, name)}.")
    from paredown.devices.browser.measuring import measure

    return measure(files, options)


DEVICE = Device("browser", "a phone's browser in the same network, in LiteRT.js", _why_not, _measure)

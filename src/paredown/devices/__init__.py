"""Where .tflite files are run and measured: `measure_on("host", files)`.

One module and one row here for each device; the module ends in `DEVICE = Device(...)` and is imported when the device
is first asked for, since some need packages that not everybody has.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from paredown.devices.device import Device, Options, Report
from paredown.errors import DeviceError, SettingError

#: Name -> module of this package that ends in DEVICE.
MODULES: dict[str, str] = {
    "host": "host",
    "browser": "browser",
    "arm64": "arm64",
    "android": "android",
}


def device(name: str) -> Device:
    """The device of a name.

    Raises:
        SettingError: If there is none.
    """
    if name not in MODULES:
        raise SettingError(f"device must be one of {', '.join(MODULES)}. Received: device={name!r}.")
    return import_module(f"{__name__}.{MODULES[name]}").DEVICE


def measure_on(name: str, files: Sequence[str | os.PathLike], options: Options | None = None) -> tuple[Report, ...]:
    """Measures .tflite files on a device.

    Args:
        name: Of the device, a key of `MODULES`.
        files: The first is what the others are compared with.
        options: How.
    Returns:
        A report for each machine that took part, most often one.
    Raises:
        SettingError: If there is no such device.
        DeviceError: If it is not there, or fails; says what to do.
        ModelError: If a file is missing, damaged, or no .tflite file of batch 1.
    """
    chosen, options = device(name), options or Options()
    reason = chosen.why_not(options)
    if reason:
        raise DeviceError(reason)
    return chosen.measure([Path(file) for file in files], options)


__all__ = ["MODULES", "Device", "Options", "Report", "device", "measure_on"]

"""An Android phone over adb: LiteRT's benchmark program there, started for each file in turn."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paredown import progress
from paredown.devices.android import tool
from paredown.devices.android.adb import Phone, phone, why_no_phone
from paredown.devices.device import Device, Options
from paredown.errors import DeviceError, SettingError
from paredown.measure import Latency, LiteRTRunner, latency


@dataclass(frozen=True)
class AndroidReport:
    """Figures of several files that took turns on a phone.

    Args:
        threads: Of the runtime.
        runs: Turns that came to their end; each gives every file one timing, of at least `tool.INFERENCES` inferences.
        runtime: The program, and the phone it ran on.
        serial: The phone's, as adb names it.
        rows: One `Latency` per file, in order.
        notes: What a reader must know, in sentences.
    """

    threads: int
    runs: int
    runtime: str
    serial: str
    rows: tuple[Latency, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict:
        """Plain data."""
        return dataclasses.asdict(self)


def _why_not(options: Options) -> str | None:
    return tool.why_no_tool() or why_no_phone()


def _measure(files: Sequence[Path], options: Options) -> tuple[AndroidReport, ...]:
    for name, value in (("files", len(files)), ("runs", options.runs), ("threads", options.threads)):
        if value < 1:
            raise SettingError(f"{name} must be at least 1. Received: {name}={value}.")
    for file in files:
        LiteRTRunner(file)  # A file that is damaged is refused before anything goes to the phone.
    found, program = phone(), tool.tool()
    _check_processor(found, program)
    runtime, turns = f"benchmark_model on {_description(found)}", tool.turns(options.runs)
    with found.folder() as folder:
        _push(found, program, files, folder, options.timeout_s)
        times_ms, failure = _take_turns(found, folder, len(files), turns, options)
    if failure and not times_ms:
        raise failure
    notes = ["Random inputs of the program's own; its outputs are not looked at."]
    if failure:
        notes.append(f"{len(times_ms)} of {turns} turns came to their end. {failure}")
    columns = np.asarray(times_ms).T
    rows = tuple(latency.row(file, column, columns[0]) for file, column in zip(files, columns, strict=True))
    return (AndroidReport(options.threads, len(times_ms), runtime, found.serial, rows, tuple(notes)),)


def _check_processor(found: Phone, program: tool.Tool) -> None:
    takes = found.fact("ro.product.cpu.abilist")
    if takes and program.abi not in takes.split(","):
        raise DeviceError(
            f"{tool.TOOL} must name a program for the phone's processor. Received: {program.path} for {program.abi}; "
            f"the phone takes {takes}."
        )


def _push(found: Phone, program: tool.Tool, files: Sequence[Path], folder: str, timeout_s: float) -> None:
    with progress.task("Copy to the phone", total=len(files) + 1) as advance:
        for source, name in (
            (program.path, "benchmark_model"),
            *((file, f"{i}.tflite") for i, file in enumerate(files)),
        ):
            found.push(source, f"{folder}/{name}", timeout_s)
            advance(1)
    found.shell(["chmod", "755", f"{folder}/benchmark_model"])


def _take_turns(
    found: Phone, folder: str, files: int, turns: int, options: Options
) -> tuple[list[list[float]], DeviceError | None]:
    """Milliseconds of each file in each turn that came to its end, and what ended the others."""
    times_ms: list[list[float]] = []
    with progress.task("Measure on the phone", total=turns) as advance:
        for _ in range(turns):
            try:
                times_ms.append([_time_ms(found, folder, file, options) for file in range(files)])
            except DeviceError as error:
                return times_ms, error
            advance(1)
    return times_ms, None


def _time_ms(found: Phone, folder: str, file: int, options: Options) -> float:
    words = [
        f"{folder}/benchmark_model",
        *tool.arguments(f"{folder}/{file}.tflite", options.threads, options.timeout_s),
    ]
    done = found.shell(words, options.timeout_s)
    printed = f"{done.stdout}\n{done.stderr}"
    measured = None if done.returncode else tool.inference_ms(printed)
    if measured is not None:
        return measured
    if not found.attached():
        raise DeviceError(
            f"The phone must stay connected. Received: {found.serial} went away. Connect it again and start anew."
        )
    raise DeviceError(
        f"benchmark_model must run file {file + 1} on the phone to its end. Received: exit status {done.returncode}, "
        f"{tool.complaint(printed)}. A newer program may know what this file holds."
    )


def _description(found: Phone) -> str:
    """Model and system."""
    names = ("ro.product.manufacturer", "ro.product.model", "ro.build.version.release")
    maker, model, system = map(found.fact, names)
    return f"{maker} {model}".strip() + (f", Android {system}" if system else "")


DEVICE = Device("android", "an Android phone attached with adb, in LiteRT's benchmark_model", _why_not, _measure)

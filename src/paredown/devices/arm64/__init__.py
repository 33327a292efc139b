"""The Arm kernels of LiteRT under QEMU, with exact counts of executed instructions; no phone is needed.

An emulator's time says nothing about a phone's. What it executes is the phone's own code, though, and the number of
instructions is the same at every run, whatever else the machine does.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from paredown import progress
from paredown.checks import largest_difference
from paredown.devices.arm64.counting import count
from paredown.devices.arm64.place import COMMAND, CORE, current_place, emulator_version, why_not_ready
from paredown.devices.arm64.report import InstructionReport, Instructions
from paredown.devices.device import Device, Options
from paredown.errors import SettingError
from paredown.measure import LiteRTRunner


def _why_not(options: Options) -> str | None:
    return why_not_ready()


def _measure(files: Sequence[Path], options: Options) -> tuple[InstructionReport, ...]:
    if not files:
        raise SettingError("files must be at least 1. Received: files=0.")
    if options.threads != 1:
        raise SettingError(
            f"threads must be 1 on arm64. Received: threads={options.threads}. A thread that waits executes "
            "instructions too, as many as its luck has it."
        )
    found, rows = current_place(), []
    with progress.task("Count Arm instructions", total=len(files)) as advance:
        for file in files:
            runner = LiteRTRunner(file)
            inputs = runner.random_inputs()
            counted = count(found, file, runner, inputs, options.timeout_s)
            first = rows[0].instructions if rows else counted.instructions
            difference = largest_difference(runner.run(inputs), counted.outputs)
            rows.append(Instructions(str(file), counted.instructions, first / counted.instructions, difference))
            advance(1)
    runtime = f"ai-edge-litert {version('ai-edge-litert')}"
    return (InstructionReport(CORE, runtime, f"QEMU {emulator_version()}", tuple(rows)),)


def _setup() -> Path:
    from paredown.devices.arm64.setup import setup

    return setup()


DEVICE = Device("arm64", f"an emulated Arm core, counting instructions (once: {COMMAND})", _why_not, _measure, _setup)

"""Counting on an emulated Arm core: counts repeat, outputs are this computer's, and what is missing is said."""

import json
import os
import stat
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import export_nets
import shared_weights
from paredown import devices, export_litert
from paredown.cli.main import run
from paredown.devices import Options, measure_on
from paredown.devices.arm64 import counting, place, setup
from paredown.devices.arm64.place import Place
from paredown.devices.arm64.report import InstructionReport, Instructions
from paredown.errors import DeviceError, SettingError

# The setup is the user's, unlike all else that tests keep.
SETUP = place.current_place().folder.parent if place.emulator_version() else None
ready = pytest.mark.skipif(bool(place.why_not_ready()), reason=place.why_not_ready() or "ready")
TFLITE = b"\x1c\x00\x00\x00TFL3" + bytes(64)


def count(files: list[Path]) -> InstructionReport:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(place, "cache_folder", lambda: SETUP)
        return measure_on("arm64", files)[0]


def convolution(folder: Path, channels: int) -> Path:
    """A 3×3 convolution of 16 channels at 14 × 14, exported."""
    layer = keras.layers.Conv2D(channels, 3, padding="same", kernel_initializer=keras.initializers.RandomNormal(seed=0))
    path = folder / f"{channels}.tflite"
    export_litert(keras.Sequential([keras.Input((14, 14, 16)), layer]), path)
    return path


@pytest.fixture(scope="module")
def counted(tmp_path_factory) -> tuple[InstructionReport, list[Path]]:
    """Three convolutions, and the first again."""
    folder = tmp_path_factory.mktemp("convolutions")
    files = [convolution(folder, channels) for channels in (8, 20, 24)]
    return count([*files, files[0]]), files


@ready
def test_counts_repeat_to_the_digit_wherever_the_file_is(counted, tmp_path):
    report, files = counted
    elsewhere = tmp_path / "with, comma" / "ä b.tflite"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(files[0].read_bytes())
    again = count([elsewhere]).rows[0]
    assert report.rows[0].instructions == report.rows[3].instructions == again.instructions
    assert report.rows[3].fewer == 1.0


@ready
def test_outputs_are_this_computers(counted):
    assert all(row.difference < 1e-5 for row in counted[0].rows)
    assert len(counted[0].notes) == 1


@ready
def test_outputs_keep_their_order(tmp_path):
    export_litert(export_nets.two_outputs(), tmp_path / "two.tflite")
    assert count([tmp_path / "two.tflite"]).rows[0].difference < 1e-5


@ready
def test_packed_files_give_what_they_give_here(tmp_path):
    files = shared_weights.packed_files(tmp_path)
    report = count([files["ship"], files["run"]])
    assert all(row.difference < 1e-5 for row in report.rows)


@ready
def test_the_kernel_takes_eight_channels_at_a_time(counted):
    eight, twenty, twenty_four = (row.instructions for row in counted[0].rows[:3])
    step = (twenty_four - eight) / 2
    assert twenty == pytest.approx(eight + 2 * step, rel=0.002)
    # One instruction multiplies and adds 4 numbers; what the loop has besides costs less than half as much again.
    macs_of_a_step = 14 * 14 * 9 * 16 * 8
    assert macs_of_a_step / 4 < step < 1.5 * macs_of_a_step / 4


def test_one_thread_only(monkeypatch):
    monkeypatch.setattr("paredown.devices.arm64.why_not_ready", lambda: None)
    device = devices.device("arm64")
    with pytest.raises(SettingError, match=r"threads must be 1 on arm64\. Received: threads=2"):
        device.measure([Path("a.tflite")], Options(threads=2))
    with pytest.raises(SettingError, match="Received: files=0"):
        device.measure([], Options())


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """An empty cache, and a folder of stand-ins that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


VERSION = 'echo "qemu-aarch64 version 7.2.22 (Debian)"'


def test_what_is_missing_is_said_with_the_command(programs, tmp_path, capsys):
    file = tmp_path / "a.tflite"
    file.write_bytes(TFLITE)
    with pytest.raises(DeviceError, match=r"Received: no command qemu-aarch64\. Install it with: apt-get install qemu"):
        measure_on("arm64", [file])
    program(programs, "qemu-aarch64", VERSION)
    assert run(["bench", str(file), "--device", "arm64"]) == 2
    where = tmp_path / "cache" / "paredown" / "arm64-litert-"
    err = capsys.readouterr().err
    assert f"Received: no {where}" in err
    assert err.endswith("Run: paredown setup arm64\n")
    with pytest.raises(
        DeviceError, match=r"Received: no cc, apt-get, dpkg-deb\. .* apt-get install gcc libc6-dev apt dpkg"
    ):
        setup.setup()


def test_only_on_linux(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(DeviceError, match=r"arm64 needs Linux.* Received: darwin"):
        setup.setup()


def test_another_version_of_the_emulator_is_another_setup(programs):
    program(programs, "qemu-aarch64", VERSION)
    before = place.current_place().folder
    assert place.current_place().folder == before
    program(programs, "qemu-aarch64", VERSION.replace("7.2.22", "10.0.2"))
    assert place.current_place().folder != before


@pytest.mark.parametrize(
    ("apt", "message"),
    [
        ("echo 'E: Unable to locate package python3'; exit 100", "apt-get: E: Unable to locate package python3"),
        ("exit 7", "apt-get: no reason given"),
    ],
)
def test_a_setup_that_fails_leaves_nothing(apt, message, programs, tmp_path, capsys):
    for name, script in (("qemu-aarch64", VERSION), ("apt-get", apt), ("dpkg-deb", "exit 1"), ("cc", "exit 1")):
        program(programs, name, script)
    assert run(["setup", "arm64"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "run paredown setup arm64 again" in err
    assert list((tmp_path / "cache" / "paredown").iterdir()) == []
    assert place.why_not_ready()


def test_a_cache_that_cannot_be_written_is_said(programs, tmp_path):
    for name in ("qemu-aarch64", "apt-get", "dpkg-deb", "cc"):
        program(programs, name, VERSION)
    (tmp_path / "cache").write_text("a file of the user's")
    with pytest.raises(DeviceError, match=r"cache/paredown/arm64-litert-.*: Not a directory.* XDG_CACHE_HOME"):
        setup.setup()


def test_a_device_without_setup_says_so(capsys):
    assert run(["setup", "host"]) == 0
    assert capsys.readouterr().out == "host needs no setup.\n"
    assert run(["setup", "toaster"]) == 2


def test_an_emulator_that_hangs_is_ended(programs, tmp_path):
    program(programs, "qemu-aarch64", "echo $$ > pid; exec /bin/sleep 600")
    with pytest.raises(DeviceError, match=r"must end within 0\.5 s\. Received: a\.tflite was still running"):
        counting.emulate(Place(tmp_path), ["guest.py"], tmp_path, 0.5, "a.tflite")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -SEGV $$", "run a.tflite to its end. Received: SIGSEGV, nothing on standard error"),
        ("echo 'ValueError: no such op.' >&2; echo 'INFO: bye' >&2; exit 1", "exit status 1, ValueError: no such op. "),
    ],
)
def test_an_emulator_that_fails_is_said(script, message, programs, tmp_path):
    program(programs, "qemu-aarch64", script)
    with pytest.raises(DeviceError) as raised:
        counting.emulate(Place(tmp_path), ["guest.py"], tmp_path, 60, "a.tflite")
    assert message in str(raised.value)


@pytest.fixture
def reported(tmp_path, monkeypatch) -> Path:
    """A file whose counting is replaced."""
    path = tmp_path / "a.tflite"
    path.write_bytes(TFLITE)
    rows = (Instructions(str(path), 1_204_000, 1.0, 0.0), Instructions(str(path), 301_000, 4.0, np.inf))
    report = InstructionReport("cortex-a76", "ai-edge-litert 2.3.0", "QEMU 7.2.22", rows)
    monkeypatch.setattr("paredown.cli.bench.measure_on", lambda name, files, options: (report,))
    return path


def test_bench_prints_instructions_and_that_they_are_not_time(reported, capsys):
    assert run(["bench", str(reported), "--device", "arm64"]) == 0
    out = capsys.readouterr().out
    assert "1,204,000" in out
    assert "4.00 ×" in out
    assert "Instructions are not time" in out
    assert f"{reported}: outputs differ from LiteRT's on this computer by inf of their range" in out
    assert "ms" not in out.replace(str(reported), "").split("instructions")[1].split("One inference")[0]


def test_bench_json_names_the_unit(reported, capsys):
    assert run(["bench", str(reported), "--device", "arm64", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["unit"] == "instructions"
    assert plain["notes"][0].startswith("Instructions are not time")
    assert [row["instructions"] for row in plain["rows"]] == [1_204_000, 301_000]

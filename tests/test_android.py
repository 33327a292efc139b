"""The android device, against a stand-in for adb: no phone takes part."""

import json
import shlex
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest

from paredown import export_litert
from paredown.cli.main import run
from paredown.devices import Options, measure_on
from paredown.devices.android import tool
from paredown.errors import DeviceError, ModelError, SettingError

ARM64, X86 = (b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + bytes(44) for machine in (183, 62))
PHONE = {
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a",
    "ro.product.manufacturer": "Fairphone",
    "ro.product.model": "FP5",
    "ro.build.version.release": "14",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    first = tmp_path_factory.mktemp("files") / "a.tflite"
    export_litert(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), first)
    second = first.with_name("b c.tflite")
    second.write_bytes(first.read_bytes())
    return [first, second]


@pytest.fixture
def phone(tmp_path, monkeypatch) -> SimpleNamespace:
    """An attached phone, and a program for it; `set(...)` says what is to go wrong."""
    home = tmp_path / "bin"
    (home / "phone").mkdir(parents=True)
    script = (Path(__file__).parent / "fake_adb.py").read_text(encoding="utf-8")
    (home / "adb").write_text(f"#!{sys.executable} -I\n{script}", encoding="utf-8")
    (home / "adb").chmod(0o755)
    program = tmp_path / "benchmark_model"
    program.write_bytes(ARM64)
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.setenv("PAREDOWN_ANDROID_BENCHMARK", str(program))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    config = {"devices": {"SERIAL1": "device"}, "properties": PHONE}

    def change(**values):
        config.update(values)
        (home / "config.json").write_text(json.dumps(config))

    change()
    return SimpleNamespace(home=home, program=program, set=change)


def started(phone) -> list[dict]:
    """Options of each start of the program, in order."""
    calls = [json.loads(line) for line in (phone.home / "log").read_text().splitlines()]
    words = [shlex.split(call[-1]) for call in calls if "benchmark_model --graph" in call[-1]]
    return [dict(word.removeprefix("--").split("=") for word in line[1:]) for line in words]


def left_over(phone) -> list[Path]:
    return list((phone.home / "phone").iterdir())


def test_files_take_turns_and_nothing_stays(phone, files):
    (report,) = measure_on("android", files, Options(threads=2, runs=3 * tool.INFERENCES))
    assert [Path(options["graph"]).name for options in started(phone)] == 3 * ["0.tflite", "1.tflite"]
    assert {options["num_threads"] for options in started(phone)} == {"2"}
    assert report.runs == 3
    assert [row.times_ms for row in report.rows] == [3 * [2.0], 3 * [1.0]]
    assert [row.speedup_median for row in report.rows] == [1.0, 2.0]
    assert [row.path for row in report.rows] == [str(file) for file in files]
    assert report.runtime == "benchmark_model on Fairphone FP5, Android 14"
    assert left_over(phone) == []


def test_bench_prints_times_and_where_they_are_from(phone, files, capsys):
    assert run(["bench", *map(str, files), "--device", "android", "--runs", "5"]) == 0
    out = capsys.readouterr().out
    assert "2.00 ×" in out
    assert "1 paired runs, 1 thread, benchmark_model on Fairphone FP5, Android 14." in out
    assert run(["bench", *map(str, files), "--device", "android", "--runs", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["serial"] == "SERIAL1"


def test_unplugged_in_the_middle_keeps_the_turns_that_arrived(phone, files):
    phone.set(unplugged_in=3)
    (report,) = measure_on("android", files)
    assert report.runs == 1
    assert "1 of 10 turns came to their end. The phone must stay connected. Received: SERIAL1" in report.notes[-1]


def test_unplugged_before_the_first_turn_is_an_error(phone, files):
    phone.set(unplugged_in=1)
    with pytest.raises(DeviceError, match="SERIAL1 went away"):
        measure_on("android", files)


def test_a_phone_that_hangs_is_given_up(phone, files):
    phone.set(hangs_in=2)
    start = time.monotonic()
    (report,) = measure_on("android", files, Options(timeout_s=3))
    assert time.monotonic() - start < 60
    assert "The phone must answer within 3 s. Received: no end of adb -s SERIAL1 shell" in report.notes[-1]
    assert left_over(phone) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fails": True}, r"run file 1 .* exit status 1, ERROR: Didn't find op for builtin opcode 'CONV_2D'"),
        ({"full": True}, r"copy .*benchmark_model to the phone\. Received: adb: error: .*No space left on device"),
        ({"properties": {"ro.product.cpu.abilist": "x86_64"}}, r"for arm64-v8a; the phone takes x86_64"),
    ],
)
def test_what_fails_on_the_phone_is_said_and_nothing_stays(phone, files, wrong, message):
    phone.set(**wrong)
    with pytest.raises(DeviceError, match=message):
        measure_on("android", files)
    assert left_over(phone) == []


@pytest.mark.parametrize(
    ("devices", "serial", "message"),
    [
        ({}, None, r"Received: none is attached\. Turn on USB debugging"),
        ({"A": "unauthorized"}, None, r"Received: A is unauthorized\. Unlock the phone and allow"),
        ({"A": "offline"}, None, r"Received: A is offline\. Unplug the phone"),
        ({"A": "no permissions (user; rules wrong?); see [x]"}, None, r"A is no permissions\. .* udev rules"),
        ({"A": "recovery"}, None, r"A is recovery\. Start Android on it"),
        ({"A": "device", "B": "offline"}, None, r"Received: A \(device\), B \(offline\)\. .*export ANDROID_SERIAL=A"),
        ({"A": "device"}, "C", r"ANDROID_SERIAL must name .* Received: 'C'; attached: A \(device\)"),
    ],
)
def test_which_phone_must_be_clear(phone, files, devices, serial, message, monkeypatch):
    phone.set(devices=devices)
    if serial:
        monkeypatch.setenv("ANDROID_SERIAL", serial)
    with pytest.raises(DeviceError, match=message):
        measure_on("android", files)
    assert left_over(phone) == []


def test_one_of_several_can_be_named(phone, files, monkeypatch):
    phone.set(devices={"A": "device", "B": "device"})
    monkeypatch.setenv("ANDROID_SERIAL", "B")
    assert measure_on("android", files, Options(runs=1))[0].serial == "B"


def test_without_adb_it_says_what_to_install(phone, files, capsys):
    (phone.home / "adb").unlink()
    assert run(["bench", str(files[0]), "--device", "android"]) == 2
    err = capsys.readouterr().err
    assert "Received: no command adb. Install Android's platform tools (apt-get install adb)." in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"benchmark_model, built for Android\. Received: .*benchmark_model \(No such file or directory\)"),
        (b"#!/bin/sh", r"Received: .*benchmark_model, no program for a processor"),
        (X86, r"Received: .*benchmark_model for x86_64; the phone takes arm64-v8a,armeabi-v7a"),
    ],
)
def test_the_program_must_be_androids(phone, files, content, message):
    phone.program.write_bytes(content) if content else phone.program.unlink()
    with pytest.raises(DeviceError, match=message):
        measure_on("android", files)


def test_the_program_must_be_named(phone, files, monkeypatch):
    monkeypatch.delenv("PAREDOWN_ANDROID_BENCHMARK")
    with pytest.raises(DeviceError, match=r"Received: it is not set\. .* export PAREDOWN_ANDROID_BENCHMARK=/path/to/"):
        measure_on("android", files)


def test_a_damaged_file_never_reaches_the_phone(phone, tmp_path):
    damaged = tmp_path / "d.tflite"
    damaged.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(64))
    with pytest.raises(ModelError, match=r"d\.tflite"):
        measure_on("android", [damaged])
    assert not (phone.home / "log").exists()
    with pytest.raises(SettingError, match="Received: runs=0"):
        measure_on("android", [damaged], Options(runs=0))


COUNT = "INFO: count=9 first=1 curr=2 min=1 max=9 avg=3 std=4"
END = "INFO: Inference timings in us: Init: 9, First inference: 8, Warmup (avg): 7.5, Inference (avg):"


@pytest.mark.parametrize(
    ("printed", "ms"),
    [
        (f"{COUNT} median=9000\n{COUNT} p5=1 median=1500 p95=9\n{END} 2000.5", 1.5),
        (f"{COUNT}\n{COUNT}\n{END} 2000.5", 2.0005),
        (f"{COUNT}\n{COUNT}\n{END} 1.25e+06\nINFO: Note: count=1 median=5", 1250.0),
        (f"{COUNT} median=9000\n", None),
        ("", None),
    ],
)
def test_what_the_program_prints_is_read(printed, ms):
    assert tool.inference_ms(printed) == ms

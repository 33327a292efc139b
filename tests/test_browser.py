"""The browser device without a browser: addresses, what is served, what is taken, and how a measurement ends."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest

import browser_session as fake
from paredown.cli.main import run
from paredown.devices import Options, device, measure_on
from paredown.devices.browser import address, assets, browsers, certificate, measuring, offer
from paredown.devices.browser import server as server_module
from paredown.devices.browser import session as session_module
from paredown.devices.browser.messages import MESSAGE
from paredown.devices.browser.report import report
from paredown.devices.browser.server import PAGE_FILES, make_app
from paredown.devices.browser.serving import listening, serving
from paredown.devices.browser.session import Phone, Session
from paredown.errors import DeviceError, ModelError, SettingError

RUNS = 4
FAST, SLOW = [2.0, 1.0], [8.0, 2.0]


@pytest.fixture
def session(tmp_path) -> Session:
    return Session(fake.offers(tmp_path), RUNS, threads=2, phones=1)


@pytest.fixture
def url(session, tmp_path):
    """The address of a server whose runtime is one small file."""
    runtime = tmp_path / "core.js"
    runtime.write_text("the runtime")
    with listening(0) as listener, serving(make_app(session, {"core.js": runtime}), listener):
        yield address.url("127.0.0.1", listener.getsockname()[1], session.token, https=False)


@pytest.fixture
def no_runtime(tmp_path, monkeypatch) -> Path:
    """A cache in which empty files stand for LiteRT.js, which a phone made of plain HTTP does not run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for place in assets.FILES.values():
        path = assets.folder() / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "cache"


@pytest.fixture
def measure(tmp_path, monkeypatch, no_runtime):
    """measure(**options) -> a measurement of two files that LiteRT need not load."""
    made = fake.offers(tmp_path)
    monkeypatch.setattr(offer, "prepare", lambda files: made)
    monkeypatch.setattr(measuring, "_LOOK_S", 0.05)
    return lambda **options: fake.Measurement([o.path for o in made], **{"runs": RUNS, **options})


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The session's clock, which stands still."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(session_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


# Addresses.


@pytest.mark.parametrize("colour", [False, True])
def test_the_qr_code_says_the_address(colour):
    content = address.url("192.168.178.123", 65535, "A-_z" * 4, https=True)
    text = address.qr_text(content, colour).replace("\x1b[30;107m", "").replace("\x1b[0m", "")
    assert fake.read_qr(text) == "https://192.168.178.123:65535/A-_zA-_zA-_zA-_z/"


def test_the_address_is_this_computers(monkeypatch):
    with socket.socket() as probe:
        probe.bind((address.lan_address(), 0))

    class Offline(socket.socket):
        def connect(self, _):
            raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", Offline)
    assert address.lan_address() == "127.0.0.1"


def test_every_measurement_has_a_token_of_its_own(tmp_path):
    tokens = {Session(fake.offers(tmp_path), 1, 1, 1).token for _ in range(50)}
    assert len(tokens) == 50
    assert min(map(len, tokens)) == 16  # 12 random bytes in base64


# What is served.


def test_the_page_and_what_it_needs_are_served(url, session):
    base = urlsplit(url).path
    assert b"<main>" in fake.request(url, base)[2]
    for name in PAGE_FILES:
        assert fake.request(url, base + name)[2] == (Path(server_module.__file__).parent / "page" / name).read_bytes()
    assert fake.request(url, f"{base}litert/core.js")[2] == b"the runtime"
    assert fake.request(url, f"{base}model/1")[2] == session.offers[1].path.read_bytes()
    assert fake.request(url, f"{base}input/1-0")[2] == np.ones(2, "<f4").tobytes()
    assert json.loads(fake.request(url, f"{base}job")[2]) == {
        "runs": RUNS,
        "threads": 2,
        "files": [
            {
                "name": f"{place}.tflite",
                "size_bytes": 72,
                "inputs": [{"name": "x", "shape": [1, 2], "dtype": "float32"}],
                "outputs": [{"name": "y", "stride": 1}],
            }
            for place in (0, 1)
        ],
    }


def test_a_page_gets_what_threads_need_and_nothing_from_outside(url):
    headers = fake.request(url, urlsplit(url).path)[1]
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "http" not in headers["Content-Security-Policy"]


def test_all_of_the_page_is_offered():
    assert {path.name for path in (Path(server_module.__file__).parent / "page").iterdir()} == set(PAGE_FILES)


@pytest.mark.parametrize("token", ["", "wrong", "../", "{token}x", "{half}", "%00", "%C3%BC"])
@pytest.mark.parametrize("path", ["", "job", "model/0", "litert/core.js"])
def test_a_wrong_token_is_refused(url, session, token, path):
    wrong = token.format(token=session.token, half=session.token[:8])
    assert fake.request(url, f"/{wrong}/{path}")[0] == 404
    assert fake.request(url, f"/{wrong}/phone/a", "POST", json.dumps(fake.HELLO).encode())[0] == 404
    assert not session.phones


@pytest.mark.parametrize(
    "path",
    [
        "../server.py",
        "..%2fserver.py",
        "%2e%2e/server.py",
        "page/index.html",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "model/2",
        "model/-1",
        "model/0.tflite",
        "model/..%2f..%2f0.tflite",
        "litert/../npm/package.json",
        "litert/package.json",
        "litert/..%2fcore.js",
        "litert/",
        "input/0-1",
        "phone/a",
        "INDEX.HTML",
        "index.html/",
        "%00",
    ],
)
def test_nothing_else_is_served(url, path):
    assert fake.request(url, urlsplit(url).path + path)[0] in (404, 405)


# What is taken.


def test_a_message_that_is_too_large_is_refused(url, session):
    hello = json.dumps(fake.HELLO).encode()
    assert fake.post(url, hello.ljust(2**20 + 1))[0] == 413
    assert not session.phones
    # The largest that is taken.
    assert fake.post(url, hello.ljust(2**20))[0] == 200


def test_a_message_of_untold_length_is_cut_off(url, session):
    sent = []

    def chunks():
        yield json.dumps(fake.HELLO).encode()
        for place in range(10_000):
            sent.append(place)
            yield b" " * 2**16

    path = f"{urlsplit(url).path}phone/a"
    try:
        status = fake.request(url, path, "POST", chunks(), {"Transfer-Encoding": "chunked"})[0]
    except ConnectionError:
        # It hung up while more was coming.
        status = 413
    assert status == 413
    assert len(sent) < 10_000
    assert not session.phones


@pytest.mark.parametrize(
    ("message", "status", "text"),
    [
        (b"", 400, ""),
        (b"[1", 400, ""),
        ({"kind": "shout"}, 400, ""),
        ({**fake.HELLO, "threads": 0}, 400, ""),
        ({**fake.HELLO, "user_agent": "x" * 501}, 400, ""),
        ({**fake.HELLO, "more": 1}, 400, ""),
        (b'{"kind": "turns", "first": 0, "times_ms": [[NaN, 1]]}', 400, ""),
        (fake.turns(0, [0.0, 1.0]), 400, ""),
        (fake.turns(-1, FAST), 400, ""),
        (fake.turns(0, [1.0]), 409, "A turn must hold 2 times. Received: [1.0]"),
        (fake.turns(1, FAST), 409, "The next turn must be 0. Received: first=1"),
        (fake.output(2), 409, "Received: file=2, output=0"),
        (fake.output(0, fake.OUTPUT[:, :2]), 409, "This output must have 12 bytes. Received: 8"),
    ],
)
def test_a_message_that_does_not_fit_is_refused_and_changes_nothing(url, session, message, status, text):
    fake.post(url, fake.HELLO)
    before = Phone(session.phones["a"].hello)
    got = fake.post(url, message)
    assert got[0] == status
    assert text in got[1]
    assert session.phones == {"a": before}


def test_a_page_says_hello_first(url, session):
    status, text = fake.post(url, fake.turns(0, FAST))
    assert (status, session.phones) == (409, {})
    assert "must say hello first. Received: 'turns'" in text


def test_turns_that_are_sent_again_count_once(url, session):
    fake.post(url, fake.HELLO)
    assert fake.post(url, fake.turns(0, FAST, SLOW)) == (200, '{"turns":2}')
    assert fake.post(url, fake.turns(0, FAST, SLOW)) == (200, '{"turns":2}')
    assert fake.post(url, fake.turns(1, SLOW, FAST)) == (200, '{"turns":3}')
    assert fake.post(url, fake.turns(3, *[SLOW] * 9)) == (200, f'{{"turns":{RUNS}}}')
    assert session.phones["a"].turns == [FAST, SLOW, FAST, SLOW]


def test_a_page_that_is_loaded_again_goes_on(url, session):
    assert json.loads(fake.post(url, fake.HELLO)[1]) == {"turns": 0, "times_ms": []}
    fake.post(url, fake.turns(0, FAST))
    again = {**fake.HELLO, "clock_step_ms": 0.2}
    assert json.loads(fake.post(url, again)[1]) == {"turns": 1, "times_ms": [FAST]}
    # With another number of threads what it measured before cannot be compared.
    assert json.loads(fake.post(url, {**fake.HELLO, "threads": 2})[1]) == {"turns": 0, "times_ms": []}
    assert session.phones["a"].turns == []


def test_pages_are_bounded(url, session):
    statuses = [fake.post(url, fake.HELLO, phone=f"phone{n}")[0] for n in range(40)]
    assert statuses == [200] * 33 + [409] * 7
    assert len(session.phones) == 33


# How a measurement ends.


def whole_phone(url: str, name: str = "a", times=(FAST, SLOW, FAST, SLOW)) -> None:
    for message in (fake.HELLO, fake.output(0), fake.output(1), fake.turns(0, *times)):
        assert fake.post(url, message, name)[0] == 200


def test_a_report_holds_what_a_phone_sent(measure):
    with measure() as running:
        whole_phone(running.url())
        (found,) = running.reports()
    assert [row.median_ms for row in found.rows] == [(2 + 8) / 2, (1 + 2) / 2]
    assert [row.speedup_median for row in found.rows] == [1.0, (2 / 1 + 8 / 2) / 2]
    assert (found.runs, found.threads, found.build, found.secure) == (RUNS, 1, "plain", False)
    assert found.runtime == f"LiteRT.js {assets.VERSION} (plain build) in Chrome 150 on Android"
    assert found.output_differences == (0.0, 0.0)
    assert found.notes == ("Outputs equal LiteRT's on this computer to the last bit.",)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["rows"][1]["times_ms"] == [1.0, 2.0, 1.0, 2.0]
    assert plain["user_agent"] == fake.HELLO["user_agent"]
    assert "Connected: Chrome 150 on Android, plain build." in running.lines


def test_two_phones_at_once(measure):
    with measure(phones=2) as running:
        url = running.url()
        whole_phone(url, "a")
        whole_phone(url, "b", [SLOW] * RUNS)
        first, second = running.reports()
    assert (first.rows[0].median_ms, second.rows[0].median_ms) == (5.0, 8.0)


def test_nobody_comes(measure):
    start = time.monotonic()
    with (
        measure(timeout_s=1) as running,
        pytest.raises(DeviceError, match="within 1 s without a sign: nobody opened it"),
    ):
        running.reports()
    assert time.monotonic() - start < 20


def test_figures_that_arrived_are_not_lost_with_the_page(measure, clock):
    with measure(timeout_s=600) as running:
        fake.post(running.url(), fake.HELLO)
        fake.post(running.url(), fake.turns(0, FAST, SLOW))
        clock.now += 600
        (found,) = running.reports()
    assert found.runs == 2
    assert found.notes[0] == f"2 of {RUNS} turns arrived before the page gave no further sign."
    assert "its outputs did not arrive, and are not checked" in found.notes[1]
    assert running.lines[-1] == "1 of 1 phones did not come to an end; what arrived is shown."


def test_of_two_phones_one_stays_away(measure, clock):
    with measure(phones=2, timeout_s=600) as running:
        whole_phone(running.url())
        fake.post(running.url(), fake.HELLO, "b")
        clock.now += 600
        (found,) = running.reports()
    assert found.runs == RUNS
    assert running.lines[-2:] == [
        "Left out: a page sent no figures.",
        "1 of 2 phones did not come to an end; what arrived is shown.",
    ]


def test_a_page_that_fails_ends_it(measure):
    with measure() as running:
        fake.post(running.url(), fake.HELLO)
        fake.post(running.url(), {"kind": "failed", "message": "out of memory"})
        with pytest.raises(DeviceError, match="a page failed: out of memory"):
            running.reports(30)


def test_signs_of_life_put_the_end_off(url, session, clock):
    session.sign()
    for _ in range(3):
        clock.now += 9
        assert session.wait(timeout_s=10, at_most_s=0)
        assert fake.request(url, f"{urlsplit(url).path}job")[0] == 200
    clock.now += 9
    assert fake.request(url, "/wrong/job")[0] == 404
    clock.now += 1
    assert not session.wait(timeout_s=10, at_most_s=0)


def test_threads_that_the_browser_does_not_give_are_named(measure):
    with measure(threads=4) as running:
        whole_phone(running.url())
        (found,) = running.reports()
    assert found.notes[0].startswith("1 of 4 threads: over plain http a browser gives a page no more (use --https")
    assert any("--https, or, with the phone on a cable, adb reverse" in line for line in running.lines)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (fake.OUTPUT + np.float32(0.75 * 0.5), "outputs differ from LiteRT's on this computer by 0.5 of their range"),
        (fake.OUTPUT * np.float32("nan"), "by inf of their range"),
    ],
)
def test_wrong_outputs_are_called_wrong(session, values, note):
    session.receive("a", MESSAGE.validate_python(fake.HELLO))
    for file, sent in ((0, fake.OUTPUT), (1, values)):
        session.receive("a", MESSAGE.validate_python(fake.output(file, sent)))
    session.receive("a", MESSAGE.validate_python(fake.turns(0, FAST)))
    found = report(session, session.phones["a"])
    assert found is not None
    (told,) = [text for text in found.notes if "outputs" in text]
    assert told.startswith(str(session.offers[1].path))
    assert note in told


@pytest.mark.parametrize(("number", "arrived"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_ends_it_and_what_arrived_is_printed(number, arrived, tmp_path, no_runtime):
    code = (
        "import sys, browser_session as fake; from pathlib import Path; from paredown.devices.browser import offer;"
        "made = fake.offers(Path(sys.argv[1])); offer.prepare = lambda files: made;"
        "from paredown.cli.main import run;"
        "sys.exit(run(['bench', *(str(o.path) for o in made), '--device', 'browser', '--json']))"
    )
    told = tmp_path / "told"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with told.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            # A shell has its background jobs, and all that they start, ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        url = told_address(told, process)
        if arrived:
            fake.post(url, fake.HELLO)
            fake.post(url, fake.turns(0, FAST))
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    if arrived:
        assert process.returncode == 0
        assert json.loads(out)["rows"][1]["times_ms"] == [1.0]
    else:
        assert (process.returncode, out) == (130, "")
        assert told.read_text().endswith("Interrupted.\n")


def told_address(told: Path, process: subprocess.Popen) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        text = told.read_text()
        if "Ctrl-C ends it" in text:
            (line,) = [line for line in text.splitlines() if line.startswith("On the phone, open")]
            return line.rsplit(" ", 1)[1]
        time.sleep(0.05)
    raise AssertionError(told.read_text())


def test_bench_hands_its_options_on_and_prints_notes(session, tmp_path, monkeypatch, capsys):
    session.receive("a", MESSAGE.validate_python(fake.HELLO))
    session.receive("a", MESSAGE.validate_python(fake.turns(0, FAST)))
    found, got = report(session, session.phones["a"]), []
    monkeypatch.setattr("paredown.cli.bench.measure_on", lambda *arguments: got.append(arguments) or (found, found))
    words = ["--device", "browser", "--https", "--port", "8000", "--phones", "2", "--timeout", "9", "--threads", "3"]
    files = [str(offered.path) for offered in session.offers]
    assert run(["bench", *files, *words]) == 0
    ((name, _, options),) = got
    assert (name, options) == ("browser", Options(3, 50, 9, 8000, True, 2))
    out = capsys.readouterr().out
    assert out.count("1 paired runs, 1 thread, LiteRT.js") == 2
    assert out.count("1 of 4 turns arrived") == 2
    assert run(["bench", *files, *words, "--json"]) == 0
    assert [found["runs"] for found in json.loads(capsys.readouterr().out)] == [1, 1]


# HTTPS.


def test_https_with_a_certificate_for_this_address(session, tmp_path):
    trusted = []
    write = certificate.write

    def kept(folder, host):
        files = write(folder, host)
        trusted.append(ssl.create_default_context(cafile=str(files[0])))
        assert files[1].stat().st_mode & 0o077 == 0
        return files

    certificate.write = kept
    try:
        with listening(0) as listener, serving(make_app(session, {}), listener, https_host="127.0.0.1"):
            port = listener.getsockname()[1]
            for host in ("127.0.0.1", "localhost"):
                url = address.url(host, port, session.token, https=True)
                assert fake.request(url, urlsplit(url).path, context=trusted[0])[0] == 200
    finally:
        certificate.write = write


# What goes wrong before a phone comes.


def test_a_port_that_is_taken(measure):
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        with measure(port=port) as running, pytest.raises(DeviceError, match=f"Received: port={port}: Address already"):
            running.reports()


@pytest.mark.parametrize("name", ["runs", "threads", "phones"])
def test_settings_below_one_are_refused(name, no_runtime):
    with pytest.raises(SettingError, match=f"{name} must be at least 1. Received: {name}=0"):
        measure_on("browser", ["a.tflite"], Options(**{name: 0}))


def test_packages_that_are_missing_are_named(monkeypatch, no_runtime):
    monkeypatch.setattr("paredown.devices.browser.find_spec", lambda name: name != "segno" or None)
    with pytest.raises(DeviceError, match=r'Received: no segno. Install them with: pip install "paredown\[browser\]"'):
        measure_on("browser", ["a.tflite"])


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        ({"dtype": np.int8, "shape_signature": (1, 3)}, "must be float32, int32, uint8. Received: a.tflite with int8"),
        ({"dtype": np.float32, "shape_signature": (-1, 3)}, r"Received: a.tflite with the shape \(-1, 3\)"),
    ],
)
def test_files_that_no_browser_takes_are_refused(detail, message):
    with pytest.raises(ModelError, match=message):
        offer._check(Path("a.tflite"), detail)


# LiteRT.js.


def fake_npm(folder: Path, script: str, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    npm = folder / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")


def test_without_npm_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"Received: no command npm, and no .*litert-js.*Install Node.js"):
        measure_on("browser", ["a.tflite"])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            'echo "npm error network is unreachable" >&2; echo "npm error A complete log is in x" >&2; exit 1',
            "network is",
        ),
        ("exit 0", "it brought no node_modules/@litertjs/core/dist/index.js"),
        ("exit 3", "no reason given"),
    ],
)
def test_npm_that_fails_leaves_nothing(script, message, tmp_path, monkeypatch):
    fake_npm(tmp_path, script, monkeypatch)
    with pytest.raises(DeviceError, match=f"Received from npm ci: {message}"):
        assets.fetch()
    assert not list((tmp_path / "cache" / "paredown").iterdir())


def test_npm_brings_the_files_once(tmp_path, monkeypatch):
    places = " ".join(assets.FILES.values())
    script = f'echo "$@" >> {tmp_path}/calls; for f in {places}; do mkdir -p $(dirname $f); echo $f > $f; done'
    fake_npm(tmp_path, script, monkeypatch)
    for _ in range(2):
        files = assets.fetch()
        assert {name: path.read_text().strip() for name, path in files.items()} == assets.FILES
    assert (tmp_path / "calls").read_text() == "ci --ignore-scripts --no-audit --no-fund\n"
    assert assets.folder().parent == tmp_path / "cache" / "paredown"


def test_the_lock_file_pins_the_runtime_and_names_no_registry():
    lock = json.loads((Path(assets.__file__).parent / "npm" / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages.keys() == {"node_modules/@litertjs/core", "node_modules/@litertjs/wasm-utils"}
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert packages["node_modules/@litertjs/core"]["version"] == assets.VERSION
    assert "resolved" not in json.dumps(lock)


def test_the_device_answers_without_its_packages():
    code = (
        "import sys; from paredown.devices import device; device('browser');"
        "sys.exit([name for name in ('starlette', 'uvicorn', 'segno', 'cryptography') if name in sys.modules] or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
    assert device("browser").name == "browser"


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        (fake.HELLO["user_agent"], "Chrome 150 on Android"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1",
            "Safari 18 on iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 14) SamsungBrowser/25.0 Chrome/121.0 Mobile Safari/537.36",
            "Samsung Internet 25 on Android",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/150.0 Safari/537.36 Edg/150.0", "Edge 150 on Windows"),
        ("Mozilla/5.0 (Android 14; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0", "Firefox 140 on Android"),
        ("curl/8", "curl/8"),
        ("", "an unknown browser"),
    ],
)
def test_browsers_have_short_names(user_agent, expected):
    assert browsers.name(user_agent) == expected

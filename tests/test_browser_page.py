"""The browser device for real: its page in headless Chromium, the size of a phone, with LiteRT.js."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import browser_session as fake
import shared_weights
from paredown.devices.browser import assets, offer
from paredown.errors import DeviceError
from paredown.export import export_litert
from paredown.measure import LiteRTRunner

PATIENCE_MS = 90_000
#: A name that Chromium is told to look for here: as on a phone, its pages are no secure context over plain http.
PHONE_HOST = "phone.test"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --disable-background-networking "
    f"--host-resolver-rules=MAP\x00{PHONE_HOST}\x00127.0.0.1"
)


@pytest.fixture(scope="module")
def chromium():
    """A browser; skips where there is none, or no LiteRT.js."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    try:
        assets.fetch()
    except DeviceError as error:
        pytest.skip(str(error))
    sync_api = pytest.importorskip("playwright.sync_api")
    flags = [flag.replace("\x00", " ") for flag in FLAGS.split()]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium):
    """new_page() -> a page of a phone of its own."""
    contexts = []

    def make():
        contexts.append(
            chromium.new_context(
                viewport={"width": 390, "height": 844},
                device_scale_factor=2,
                is_mobile=True,
                has_touch=True,
                ignore_https_errors=True,
            )
        )
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        return page

    yield make
    for context in contexts:
        context.close()


def conv_net(channels: int, size: int = 64) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            layers.Conv2D(channels, 3, strides=2, activation="relu"),
            layers.DepthwiseConv2D(3, activation="relu6"),
            layers.Conv2D(channels, 3, activation="swish"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def many_ports() -> keras.Model:
    """Inputs and outputs whose names tell nothing: one of integers, two of one shape, one too large to send whole."""
    left, right = keras.Input((300, 300, 1), name="zulu"), keras.Input((6,), name="alpha")
    ids = keras.Input((5,), dtype="int32", name="mike")
    seen = layers.Concatenate()([right, layers.Flatten()(layers.Embedding(2, 3)(ids))])
    return keras.Model(
        [left, ids, right],
        [layers.Dense(4, name="n")(seen), layers.Conv2D(1, 3, padding="same")(left), layers.Dense(4, name="m")(seen)],
    )


def without_signature(path: Path) -> Path:
    """The same network as files from elsewhere hold it: inputs and outputs have no names but their tensors'."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    model.signatureDefs = []
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    bare = path.with_stem(f"{path.stem}-bare")
    bare.write_bytes(builder.Output())
    return bare


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> SimpleNamespace:
    """Paths of a wide network, a narrow one, and one of many inputs and outputs."""
    folder = tmp_path_factory.mktemp("browser")
    keras.utils.set_random_seed(0)
    made = {"wide": conv_net(64), "narrow": conv_net(4), "ports": many_ports()}
    paths = {name: export_litert(model, folder / f"{name}.tflite").path for name, model in made.items()}
    return SimpleNamespace(**paths, bare=without_signature(paths["ports"]))


def finished(page) -> str:
    """What the page says in the end."""
    page.wait_for_selector("body.done, body.failed")
    return page.inner_text("header")


def test_outputs_equal_pythons_and_figures_arrive(new_page, nets):
    files = [nets.wide, nets.narrow, nets.ports, nets.bare]
    with fake.Measurement(files, runs=8, threads=2) as running:
        page = new_page()
        page.goto(running.url(PHONE_HOST))
        assert "the figures are on your computer" in finished(page)
        (found,) = running.reports()
    assert [row.path for row in found.rows] == [str(path) for path in files]
    assert [len(row.times_ms) for row in found.rows] == [8, 8, 8, 8]
    assert found.output_differences == pytest.approx((0, 0, 0, 0), abs=1e-5)
    assert found.rows[1].speedup_median > 1.5
    # No secure context: no threads, and both sides say so.
    assert (found.secure, found.threads, found.build) == (False, 1, "plain")
    assert "1 of 2 threads: over plain http" in found.notes[0]
    assert "Over plain http a browser gives a page one thread only" in page.inner_text("#note")
    assert "Chrome" in found.user_agent
    bars = page.locator("#bars li")
    assert bars.count() == 4
    assert "narrow.tflite" in bars.nth(1).inner_text()
    assert "× faster" in bars.nth(1).inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for row, bar in zip(found.rows, page.locator("#bars .time").all_inner_texts(), strict=True):
        assert float(bar.removesuffix(" ms").replace(",", "")) == pytest.approx(row.median_ms, rel=0.01)


def test_packed_files_give_what_python_gives(new_page, tmp_path):
    """No code of ours on the phone: what decodes shared weights is in the file."""
    files = list(shared_weights.packed_files(tmp_path).values())
    with fake.Measurement(files, runs=3) as running:
        page = new_page()
        page.goto(running.url(PHONE_HOST))
        assert "the figures are on your computer" in finished(page)
        (found,) = running.reports()
    assert [row.path for row in found.rows] == [str(path) for path in files]
    assert found.output_differences == pytest.approx((0, 0, 0), abs=1e-5)


def test_outputs_are_the_ones_of_their_names(nets):
    """What the page is held against is what LiteRT here gives for the inputs that it is sent."""
    (made,) = offer.prepare([nets.ports])
    expected = LiteRTRunner(nets.ports).run(list(made.inputs.values()))
    assert len(made.outputs) == 3
    for given, wanted in zip(made.outputs.values(), expected, strict=True):
        np.testing.assert_array_equal(given, wanted)
    assert offer.stride(300 * 300) == 2


@pytest.mark.parametrize("https", [True, False], ids=["https", "localhost"])
def test_a_secure_page_has_threads(new_page, nets, https):
    if (os.cpu_count() or 1) < 2:
        pytest.skip("this machine has one core, and the browser gives as many threads as there are")
    with fake.Measurement([nets.wide, nets.narrow], runs=3, threads=2, https=https) as running:
        page = new_page()
        page.goto(running.url("localhost"))
        finished(page)
        (found,) = running.reports()
    assert (found.secure, found.threads, found.build) == (True, 2, "threaded")
    assert found.output_differences == pytest.approx((0, 0), abs=1e-5)
    assert page.locator("#note").is_hidden()


def test_a_browser_without_relaxed_simd_runs_the_compat_build(new_page, nets):
    with fake.Measurement([nets.wide, nets.ports], runs=3) as running:
        page = new_page()
        # What asks for the feature is a module of a few bytes; the runtime itself comes as a stream.
        page.add_init_script("WebAssembly.instantiate = () => Promise.reject(new Error('no relaxed SIMD'))")
        page.goto(running.url(PHONE_HOST))
        finished(page)
        (found,) = running.reports()
    assert (found.build, found.threads) == ("compat", 1)
    assert found.output_differences == pytest.approx((0, 0), abs=1e-5)
    assert "2 to 4 times slower" in found.notes[0]
    assert "2 to 4 times slower" in page.inner_text("#facts")


def test_two_phones_at_once(new_page, nets):
    with fake.Measurement([nets.wide, nets.narrow], runs=20, phones=2) as running:
        first, second = new_page(), new_page()
        for page in (first, second):
            page.goto(running.url(PHONE_HOST), wait_until="commit")
        assert all("figures are on your computer" in finished(page) for page in (first, second))
        reports = running.reports()
    assert [report.runs for report in reports] == [20, 20]
    assert reports[0].rows[0].times_ms != reports[1].rows[0].times_ms


def test_a_reload_in_the_middle_does_no_harm(new_page, nets):
    with fake.Measurement([nets.wide, nets.narrow], runs=60) as running:
        page = new_page()
        page.goto(running.url(PHONE_HOST))
        before = turns_arrived(page)
        page.reload()
        assert "figures are on your computer" in finished(page)
        (found,) = running.reports()
    assert 0 < before < 60
    assert found.runs == 60
    assert sum(line.startswith("Connected") for line in running.lines) == 1
    assert "Median of 60 turns" in page.inner_text("#results")


def turns_arrived(page) -> int:
    """Waits until the computer has turns of this page; how many."""
    with page.expect_response(lambda r: "/phone/" in r.url and '"turns"' in (r.request.post_data or "")) as answer:
        pass
    return answer.value.json()["turns"]


def test_a_page_closed_in_the_middle_ends_it_in_time(new_page, nets):
    with fake.Measurement([nets.wide, nets.narrow], runs=5000, timeout_s=3) as running:
        page = new_page()
        page.goto(running.url(PHONE_HOST))
        before = turns_arrived(page)
        page.close()
        closed = time.monotonic()
        (found,) = running.reports()
    assert time.monotonic() - closed < 60
    assert before <= found.runs < 5000
    assert any(f"{found.runs} of 5000 turns arrived" in note for note in found.notes)


def test_a_network_that_the_browser_cannot_load_ends_it(new_page, nets, tmp_path):
    path = shutil.copy(nets.narrow, tmp_path / "broken.tflite")
    with fake.Measurement([path], runs=3) as running:
        url = running.url(PHONE_HOST)
        Path(path).write_bytes(b"no network at all")
        page = new_page()
        page.goto(url)
        assert "It did not work" in finished(page)
        with pytest.raises(DeviceError, match="a page failed: "):
            running.reports()


def test_a_killed_server_leaves_the_page_with_its_figures(new_page, nets):
    """The command itself, its page opened at the address that its QR code says."""
    code = "import sys; from paredown.cli.main import run; sys.exit(run(sys.argv[1:]))"
    arguments = ["bench", str(nets.wide), str(nets.narrow), "--device", "browser", "--runs", "60"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stderr is not None
        told = list(itertools.takewhile(lambda line: not line.startswith("On the phone, open"), process.stderr))
        page = new_page()
        page.goto(fake.read_qr("".join(told)))
        turns_arrived(page)
        process.send_signal(signal.SIGKILL)
        assert "the computer no longer answers" in finished(page)
    finally:
        process.kill()
        process.communicate()
    assert "Median of 60 turns" in page.inner_text("#results")

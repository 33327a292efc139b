"""The command line: one clear line for every mistake, quick answers, and what each command prints."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

import record_example
from paredown import progress
from paredown.cli import display, start
from paredown.cli.main import run
from paredown.errors import ModelError, SettingError
from paredown.factors import Saving

HEAVY = ("keras", "tensorflow", "plotly", "scipy", "sklearn", "ai_edge_litert")
TFLITE = b"\x1c\x00\x00\x00TFL3" + bytes(64)
RECIPE = "transforms:\n- prune_channels: {sparsity: 0.5}\n"


@pytest.fixture
def inputs(tmp_path: Path) -> SimpleNamespace:
    """Files that pass the cheap checks, and an output folder."""
    files = SimpleNamespace(model=tmp_path / "m.keras", recipe=tmp_path / "r.yaml", out=tmp_path / "out")
    files.model.write_bytes(b"not looked into here")
    files.recipe.write_text(RECIPE)
    return files


def compress_arguments(files: SimpleNamespace, **other: str) -> list[str]:
    options = {"data": "digits", "recipe": str(files.recipe), "out": str(files.out)} | other
    return ["compress", str(files.model), *(word for key, value in options.items() for word in (f"--{key}", value))]


def only_line(text: str) -> str:
    """The one line that a failed command prints."""
    assert text.count("\n") == 1, text
    return text.rstrip("\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["demo", "--help"],
        ["profile", "--help"],
        ["compress", "--help"],
        ["scan", "--help"],
        ["bench", "--help"],
        ["setup", "--help"],
        ["export", "--help"],
        ["report", "--help"],
        ["pack", "--help"],
        ["unpack", "--help"],
        ["pack", "missing.tflite"],
        ["unpack", "missing.pdz"],
        ["experiment", "--help"],
        ["experiment", "no-such-one"],
        ["nonsense"],
        ["profile", "missing.keras"],
        ["scan", "missing.keras", "--data", "mnist", "--out", "o"],
        ["scan", "pyproject.toml", "--data", "mnst", "--out", "o"],
        ["bench", "missing.tflite"],
        ["bench", "missing.tflite", "--device", "arm64"],
        ["bench", "missing.tflite", "--device", "android"],
        ["setup", "toaster"],
        ["export", "missing.keras", "--out", "a.tflite", "--pack", "ship"],
        ["export", "missing.tflite", "--out", "a.tflite", "--pack", "tight"],
        ["compress", "pyproject.toml", "--data", "mnst", "--recipe", "r", "--out", "o"],
    ],
)
def test_answers_without_heavy_imports(arguments):
    code = (
        "import sys; from paredown.cli.main import run; status = run(sys.argv[1:]);"
        f"loaded = [name for name in {HEAVY} if name in sys.modules];"
        "sys.exit(f'loaded {loaded}') if loaded else sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert "loaded" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if arguments[-1].startswith("--") else 2)


def test_recipes_are_read_without_heavy_imports():
    code = f"import sys, paredown.recipe; sys.exit([name for name in {HEAVY} if name in sys.modules] or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["compress"], "Missing argument 'MODEL'. See paredown compress --help."),
        (["profile", "a", "--nonsense"], "No such option: --nonsense"),
        (["bench", "a", "--threads", "0"], "--threads"),
        (["profile", "gone.keras"], "Received: gone.keras (No such file or directory)"),
        (["profile", "a", "--input-shape", "3,x"], "Received: '3,x'"),
        (["profile", "a", "--input-shape", "0,3"], "Received: '0,3'"),
        (["report", "gone"], "gone/run.json (No such file or directory)"),
    ],
)
def test_a_bad_argument_is_one_line_and_exit_2(arguments, message, capsys):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert message in only_line(err)
    assert out == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "gone.npz"}, "Received: gone.npz"),
        ({"data": "gone.py:load"}, "Received: gone.py"),
        ({"data": "mnst"}, "Received: 'mnst'"),
        ({"recipe": "gone.yaml"}, "Received: gone.yaml"),
        ({"seed": "-1"}, "--seed"),
    ],
)
def test_compress_refuses_before_it_loads_anything(inputs, change, message, capsys, monkeypatch):
    monkeypatch.setattr(start, "prepare", lambda: pytest.fail("the backend was prepared"))
    assert run(compress_arguments(inputs, **change)) == 2
    assert message in only_line(capsys.readouterr().err)
    assert not inputs.out.exists()


def test_compress_refuses_a_recipe_that_is_no_yaml(inputs, capsys):
    inputs.recipe.write_text("transforms: [")
    assert run(compress_arguments(inputs)) == 2
    assert f"{inputs.recipe}: A recipe must be YAML" in only_line(capsys.readouterr().err)


def test_compress_refuses_a_folder_that_cannot_be_made(inputs, capsys):
    inputs.out.write_text("a file of the user's")
    assert run(compress_arguments(inputs)) == 2
    assert str(inputs.out) in only_line(capsys.readouterr().err)
    assert inputs.out.read_text() == "a file of the user's"


def test_a_file_that_is_no_tflite_is_refused(tmp_path, capsys):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"PK\x03\x04")
    assert run(["bench", str(path)]) == 2
    assert f"Received: {path} without it" in only_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ModelError("a\nb. Received: c."), 2, "Error: a b. Received: c."),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 2, "Error: No space left on device: x"),
        (KeyError("lost"), 1, "unexpected KeyError: 'lost'; run with PAREDOWN_DEBUG=1 for the traceback"),
        (OSError(errno.EIO, "Input/output error"), 1, "unexpected OSError"),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_every_failure_is_one_line(error, status, message, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.delenv("PAREDOWN_DEBUG", raising=False)
    monkeypatch.setattr("paredown.report.read_record", fail)
    assert run(["report", "anywhere"]) == status
    assert message in only_line(capsys.readouterr().err)


def test_debug_shows_the_traceback(monkeypatch, capsys):
    monkeypatch.setenv("PAREDOWN_DEBUG", "1")
    monkeypatch.setattr("paredown.report.read_record", lambda _: {}["lost"])
    assert run(["report", "anywhere"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("Error: unexpected KeyError: 'lost'\n")


def test_no_backend_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r'pip install "paredown\[cpu\]"'):
        start.choose_backend()


@pytest.mark.parametrize(("given", "expected"), [(None, "tensorflow"), ("jax", "jax")])
def test_the_backend_is_the_users_where_they_chose_one(given, expected, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", given) if given else monkeypatch.delenv("KERAS_BACKEND", raising=False)
    start.choose_backend()
    assert os.environ["KERAS_BACKEND"] == expected


def test_report_is_drawn_again(tmp_path, capsys):
    (tmp_path / "run.json").write_text(json.dumps(record_example.classifier()))
    assert run(["report", str(tmp_path)]) == 0
    assert "<title>classifier: compression report</title>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert capsys.readouterr().out == f"Report: {tmp_path / 'report.html'}\n"


def test_compress_hands_everything_on_and_ends_with_the_table(inputs, monkeypatch, capsys):
    got = {}

    def fake(model, recipe, data, **options):
        got.update(options, model=model, quantization=recipe.quantization, data=data.name)
        with progress.task("Fine-tune", total=2) as advance:
            advance(2)
        return SimpleNamespace(record=record_example.classifier())

    monkeypatch.setattr("paredown.pipeline.compress", fake)
    assert run([*compress_arguments(inputs, seed="7"), "--trust", "--no-slower"]) == 0
    assert got == {
        "model": inputs.model,
        "quantization": None,
        "data": "digits",
        "out": inputs.out,
        "seed": 7,
        "trust": True,
        "no_slower": True,
    }
    out, err = capsys.readouterr()
    for figure in ("99.14 %", "−0.15 points", "10.7 ×", "33.7 ×", "8.10 ×", "faster (p10 to p90: 7.53 to 8.59)"):
        assert figure in out, figure
    assert "Checks: 3 of 3 passed; 3 layers left alone, reasons in the report." in out
    assert out.endswith(f"Report: {inputs.out / 'report.html'}\n")
    assert err.startswith("Fine-tune: ")


def fake_demo(monkeypatch, examples: int) -> dict:
    """Replaces the demonstration's training and compression; gives what they were called with."""
    got = {}
    data = SimpleNamespace(train=range(examples), note="Data: a fake; few rows.")
    monkeypatch.setattr("paredown.demo.demo_data", lambda source: got.update(source=source) or data)
    monkeypatch.setattr("paredown.demo.train_classifier", lambda data, epochs: got.update(epochs=epochs) or "network")
    monkeypatch.setattr("paredown.demo.recipe", lambda rows, quick: f"recipe, {rows} rows, quick={quick}")
    finished = SimpleNamespace(record=record_example.classifier())
    monkeypatch.setattr(
        "paredown.pipeline.compress", lambda model, recipe, data, out: got.update(recipe=recipe, out=out) or finished
    )
    return got


def test_demo_says_first_which_data_it_uses(tmp_path, monkeypatch, capsys):
    got = fake_demo(monkeypatch, examples=60_000)
    assert run(["demo", "--out", str(tmp_path / "o")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Data: a fake; few rows.\n")
    assert "99.14 %" in out
    assert got == {"source": None, "epochs": None, "recipe": "recipe, 60000 rows, quick=False", "out": tmp_path / "o"}


@pytest.mark.parametrize(("examples", "epochs"), [(60_000, 1), (1437, 10_000 // 1437)])
def test_quick_demo_trains_less(examples, epochs, tmp_path, monkeypatch, capsys):
    got = fake_demo(monkeypatch, examples)
    assert run(["demo", "--quick", "--data", "digits", "--out", str(tmp_path)]) == 0
    assert (got["source"], got["epochs"], got["recipe"]) == ("digits", epochs, f"recipe, {examples} rows, quick=True")


def test_the_table_says_what_went_wrong(capsys):
    display.run_summary(record_example.large())
    out = capsys.readouterr().out
    assert f"dynamic export made the network {1.85 / 0.862:.2f} × slower." in out
    assert "Checks: 2 of 3 passed" in out
    assert "unknown" in out


@dataclass
class FakeLatency:
    rows: list
    threads: int = 2
    runs: int = 9
    runtime: str = "LiteRT"

    def to_dict(self) -> dict:
        return {"threads": self.threads, "rows": [vars(row) for row in self.rows]}


@pytest.fixture
def measured(tmp_path: Path, monkeypatch) -> Path:
    """A file whose measuring is replaced: it takes no time, and prints something that is no JSON."""
    path = tmp_path / "a.tflite"
    path.write_bytes(TFLITE)

    def fake(paths, threads, runs):
        print("a library's chatter")
        return FakeLatency([SimpleNamespace(**record_example.latency_row("a", 2.0, 1.0), path=str(paths[0]))])

    monkeypatch.setattr("paredown.measure.latency.measure_latency", fake)
    return path


def test_bench_prints_a_table(measured, capsys):
    assert run(["bench", str(measured), "--threads", "2", "--runs", "9"]) == 0
    out = capsys.readouterr().out
    assert "2.00 ms" in out
    assert "72 bytes" in out
    assert "9 paired runs, 2 threads, LiteRT." in out


def test_bench_runs_on_the_host_alone(measured, capsys):
    assert run(["bench", str(measured), "--device", "host", "--runs", "1"]) == 0
    assert run(["bench", str(measured), "--device", "toaster"]) == 2
    assert "Received: device='toaster'" in capsys.readouterr().err


def test_bench_json_is_one_document_and_nothing_else(measured, capsys):
    assert run(["bench", str(measured), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"][0]["median_ms"] == 2.0
    assert "a library's chatter" in err


@dataclass
class FakeProfile:
    layers: list
    params: int = 320
    weight_bytes: int = 1280
    activation_bytes: int = 100_352
    peak_activation_bytes: int = 103_488
    unknown: list = field(default_factory=lambda: ["odd"])
    additions: int = 0
    sign_changes: int = 0

    def to_dict(self) -> dict:
        return {"layers": [vars(layer) for layer in self.layers]}


@pytest.fixture
def profiled(inputs, monkeypatch) -> SimpleNamespace:
    """A model whose profile is given: one known layer, one unknown with markup in its name."""
    common = {"output_shape": (28, 28, 32), "weight_bytes": 1280, "activation_bytes": 100_352, "params": 320}
    rows = [
        SimpleNamespace(
            name="conv",
            kind="Conv2D",
            macs=28 * 28 * 9 * 32,
            intensity_macs_per_byte=2.2,
            note="",
            channels=32,
            removable=32,
            why="",
            **common,
        ),
        SimpleNamespace(
            name="[red]odd",
            kind="Odd",
            macs=None,
            intensity_macs_per_byte=None,
            note="no rule for Odd",
            channels=32,
            removable=0,
            why="no rule",
            **common,
        ),
    ]
    inputs.seen, inputs.more = {}, {}
    monkeypatch.setattr("paredown.model_file.load_model", lambda path, trust: inputs.seen.update(trust=trust) or path)
    monkeypatch.setattr(
        "paredown.profiling.profile",
        lambda model, input_shape: inputs.seen.update(shape=input_shape) or FakeProfile(rows, **inputs.more),
    )
    return inputs


def test_profile_prints_a_table_with_unknown_as_unknown(profiled, capsys):
    assert run(["profile", str(profiled.model), "--input-shape", "28,28,1"]) == 0
    out = capsys.readouterr().out
    assert profiled.seen == {"trust": False, "shape": (28, 28, 1)}
    assert "225.8 k" in out
    assert "100.0 %" in out
    assert "28 × 28 × 32" in out
    (odd,) = [line for line in out.splitlines() if "[red]odd" in line and "note" not in line and "×" in line]
    assert odd.count("unknown") == 2
    assert "[red]odd: no rule for Odd" in out
    assert "225.8 k MACs without 1 of unknown cost" in out
    assert "additions" not in out


def test_profile_tells_additions_apart_from_macs(profiled, capsys):
    profiled.more |= {"additions": 2 * 6 * 6 * 5 * 27, "sign_changes": 6 * 6 * 5 * 27}
    assert run(["profile", str(profiled.model)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "In place of MACs: 9,720 additions and 4,860 sign changes of additive layers" in out


def test_profile_says_why(profiled, capsys):
    assert run(["profile", str(profiled.model)]) == 0
    assert "removable" not in capsys.readouterr().out
    assert run(["profile", str(profiled.model), "--why"]) == 0
    table = capsys.readouterr().out.split("removable")[1].splitlines()
    assert any(line.split() == ["conv", "Conv2D", "32", "32"] for line in table)
    assert any(line.split() == ["[red]odd", "Odd", "32", "0", "no", "rule"] for line in table)


def test_profile_says_what_factorizing_could_save(profiled, capsys, monkeypatch):
    rows = [
        Saving("conv", 1000, "svd", 4, 8, 250),
        Saving("[red]odd", 0, None, None, 0, 0, "it is a grouped convolution"),
    ]
    monkeypatch.setattr("paredown.factors.possible_savings", lambda model, input_shape: rows)
    assert run(["profile", str(profiled.model), "--factors"]) == 0
    table = capsys.readouterr().out.split("cheaper up to")[1].splitlines()
    assert any(line.split() == ["conv", "1,000", "svd", "4", "8", "██", "25.0", "%"] for line in table)
    assert any("[red]odd" in line and "it is a grouped convolution" in line for line in table)
    assert run(["profile", str(profiled.model), "--factors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["factors"][0]["saved"] == 250


def test_profile_json(profiled, capsys):
    assert run(["profile", str(profiled.model), "--json", "--trust"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][1]["macs"] is None
    assert profiled.seen == {"trust": True, "shape": None}


def test_progress_is_drawn_on_a_terminal_and_survives_a_failure():
    class Terminal:
        written = ""

        def isatty(self):
            return True

        def write(self, text):
            self.written += text

        def flush(self):
            pass

    terminal = Terminal()

    def work():
        with progress.task("Whole [b]", total=2) as advance, progress.task("part"):
            advance(1)
            raise ModelError("stop")

    original, sys.stderr = sys.stderr, terminal
    try:
        with pytest.raises(ModelError, match="stop"), display.working():
            work()
    finally:
        sys.stderr = original
    assert "Whole [b]" in terminal.written
    assert "50%" in terminal.written

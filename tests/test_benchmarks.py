"""The benchmarks run, in their quick form, and print what they say they print."""

import re
import runpy
import sys
from pathlib import Path

import shared_weights

FOLDER = Path(__file__).parent.parent / "benchmarks"


def test_main_job(capsys):
    script = runpy.run_path(str(FOLDER / "main_job.py"))
    script["main"](["--quick"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[:8]] == [
        "", "---", "Accuracy (%)", "MACs", "Parameters", "File (bytes)", "File, zipped (bytes)", "Latency (ms)",
    ]  # fmt: skip
    assert "11,065,088" in lines[3]


def test_spread_is_the_sample_deviation():
    spread = runpy.run_path(str(FOLDER / "main_job.py"))["spread"]
    assert spread([1.0, 3.0], ".2f") == "2.00 ± 1.41"
    assert spread([5.0, 5.0], ".1f") == "5.0"


def test_analysis(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["analysis.py", "MobileNet", "--repeats", "1"])
    runpy.run_path(str(FOLDER / "analysis.py"), run_name="__main__")
    header, row = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["network", "channel_groups"]
    name, groups_ms, _, prune_s, _, build_s, _, ratio = row.split()
    assert name == "MobileNet"
    assert float(groups_ms) > 0
    assert abs(float(ratio) - float(prune_s) / float(build_s)) < 0.1


def test_factorize():
    from paredown.factors import FACTORIZATIONS

    rows = dict(FACTORIZATIONS)
    told = runpy.run_path(str(FOLDER / "factorize.py"))["measured"]("MobileNet", "rank=4", 64)
    found = re.fullmatch(
        r"MobileNet, rank=4: [\d.]+ s by the clock, [\d.]+ s of computing \((\w+ \w+ [\d.]+(, )?)+\); "
        r"peak memory \+[\d.]+ x the weights of 16 MiB, of which the copy 1.00, the result (0.\d+); (\d+) layers "
        "factorized",
        told,
    )
    assert found, told
    assert float(found[3]) < 0.9
    assert int(found[4]) > 10
    assert rows == FACTORIZATIONS


def test_kmeans(capsys):
    runpy.run_path(str(FOLDER / "kmeans.py"))["main"](["--k", "2", "12", "--values", "5000", "--restarts", "2"])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["k", "---:", "2", "12"]
    for _, loss, best, mean, exact_s, restarts_s, faster in rows[2:]:
        assert float(loss) > 0
        assert -1e-6 < float(best) <= float(mean)
        assert faster.endswith(" ×")
        assert float(exact_s) >= 0
        assert float(restarts_s) > 0


def test_packed(tmp_path):
    shared_weights.normalized(64).save(tmp_path / "net.keras")
    told = runpy.run_path(str(FOLDER / "packed.py"))["measured"](
        str(tmp_path / "net.keras"), 4, None, None, "host", 3, tmp_path
    )
    header, *rows = [line.split(", ") for line in told]
    assert header[0] == "net-k4 on host: form"
    assert [row[0].strip() for row in rows] == ["plain", "ship", "run"]
    bytes_of = [int(row[1].replace(",", "")) for row in rows]
    assert bytes_of == [(tmp_path / f"net-k4-{form}.tflite").stat().st_size for form in ("plain", "ship", "run")]
    assert bytes_of[1] < bytes_of[2] < bytes_of[0]
    assert float(rows[0][5]) == 1


def test_quantize_aware(capsys):
    script = runpy.run_path(str(FOLDER / "quantize_aware.py"))
    quick = "--data digits --seeds 2 --epochs 1 --steps 3 --test 20 --before 1"
    script["main"](["dense", *quick.split()])
    lines = capsys.readouterr().out.splitlines()
    labels = ["float32", "int4", "int4 after FineTune", "int4 after QuantizeAware"]
    assert [line.split("|")[1].strip() for line in lines[2:]] == labels
    # The float32 file is what is compared with.
    assert lines[2].split("|")[3:5] == [" 100.00 ", " 0 "]

"""A stand-in for adb with one phone: it keeps what is pushed, and prints what LiteRT's benchmark_model prints.

Run as a program named adb. Its folder holds config.json (the phone's state, and what is to go wrong), the phone's
files, and `log`, one JSON list for each call that reached the phone.
"""

import json
import shlex
import shutil
import sys
import time
from pathlib import Path

HOME = Path(__file__).parent
#: Microseconds of one inference, by the file's place.
TIMES_US = (2000, 1000)
PRINTED = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [1]
INFO: Graph: [{graph}]
INFO: Loaded model {graph}
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 0.5
INFO: Initialized session in 11.2ms.
INFO: Running benchmark for at least 1 iterations and at least 0.15 seconds but terminate if exceeding 150 seconds.
INFO: count=9 first=87112 curr=51629 min=51629 max=87112 avg=58147.4 std=11478 p5=51629 median=51962 p95=87112

INFO: Running benchmark for at least 5 iterations and at least 0.3 seconds but terminate if exceeding 150 seconds.
INFO: count=150 first={us} curr={us} min={us} max=9000 avg=5000.5 std=716 p5={us} median={us} p95=8000

INFO: Inference timings in us: Init: 11200, First inference: 87112, Warmup (avg): 58147.4, Inference (avg): 5000.5
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE.
INFO: Memory footprint delta from the start of the tool (MB): init=5.5 overall=6.5
"""


def main() -> int:
    config = json.loads((HOME / "config.json").read_text())
    arguments = sys.argv[1:]
    if arguments == ["devices"]:
        rows = "".join(f"{serial}\t{state}\n" for serial, state in config["devices"].items())
        print(f"List of devices attached\n{rows}")
        return 0
    flag, serial, *call = arguments
    assert flag == "-s"
    calls = [json.loads(line) for line in (HOME / "log").read_text().splitlines()] if (HOME / "log").exists() else []
    started = sum("benchmark_model --graph" in words[-1] for words in calls)
    if serial not in config["devices"] or started > config.get("unplugged_in", started):
        print(f"error: device '{serial}' not found", file=sys.stderr)
        return 1
    with (HOME / "log").open("a") as log:
        log.write(json.dumps(call) + "\n")
    if call == ["get-state"]:
        print("device")
        return 0
    if call[0] == "push":
        return push(*call[1:], config)
    assert call[0] == "shell"
    return shell(shlex.split(call[1]), config, started)


def place(path: str) -> Path:
    assert path.startswith("/data/local/tmp/paredown-"), path
    return HOME / "phone" / path.removeprefix("/data/local/tmp/")


def push(source: str, to: str, config: dict) -> int:
    if config.get("full"):
        print(f"adb: error: failed to copy '{source}' to '{to}': remote No space left on device")
        return 1
    shutil.copyfile(source, place(to))
    return 0


def shell(words: list[str], config: dict, started: int) -> int:
    program, *rest = words
    if program == "getprop":
        print(config["properties"].get(rest[0], ""))
    elif program == "mkdir":
        place(rest[0]).mkdir()
    elif program == "chmod":
        place(rest[1]).chmod(int(rest[0], 8))
    elif program == "rm":
        shutil.rmtree(place(rest[1]))
    else:
        assert place(program).stat().st_mode & 0o100
        return benchmark(dict(word.removeprefix("--").split("=") for word in rest), config, started)
    return 0


def benchmark(options: dict, config: dict, started: int) -> int:
    graph = place(options["graph"])
    printed = PRINTED.format(graph=options["graph"], us=TIMES_US[int(graph.stem)])
    if started == config.get("hangs_in"):
        time.sleep(600)
    if started + 1 > config.get("unplugged_in", started + 1):
        print(printed[: len(printed) // 2])
        return 255
    if not graph.read_bytes() or config.get("fails"):
        print("INFO: STARTING!\nERROR: Didn't find op for builtin opcode 'CONV_2D' version '9'.\nBenchmarking failed.")
        return 1
    print(printed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

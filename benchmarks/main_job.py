"""The main job over several seeds: train the demonstration's classifier, compress it, measure; a Markdown table.

    python benchmarks/main_job.py [--data mnist] [--seeds 3] [--quick]

Each seed trains its own network and compresses it by `recipes/mnist.yaml`. Figures are of the exported files: the
original in float32, the result in int8; accuracy on the validation images; latency on one thread, both files in turn,
as the median of the ratios. Mean ± standard deviation over the seeds.
"""

import argparse
import os
import statistics
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
RECIPE = Path(__file__).parent.parent / "recipes" / "mnist.yaml"


def run(source: str | None, seed: int, quick: bool) -> dict:
    from paredown import Recipe, compress, demo

    data = demo.demo_data("digits" if quick else source)
    model = demo.train_classifier(data, epochs=2 if quick else None, seed=seed)
    recipe = demo.recipe(quick=True) if quick else Recipe.load(RECIPE)
    print(f"seed {seed}: {data.note}", file=sys.stderr, flush=True)
    return compress(model, recipe, data, seed=seed).record


def spread(values: list[float], form: str) -> str:
    """Mean ± standard deviation; the mean alone where all are one."""
    mean, deviation = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean:{form}}" + (f" ± {deviation:{form}}" if deviation else "")


def table(records: list[dict]) -> str:
    """One row per figure: before, after, factor."""
    before, after = ([record[side] for record in records] for side in ("original", "compressed"))
    rows = [("", "before", "after", "factor"), ("---", "---", "---", "---")]
    a, b = ([100 * figures["score"] for figures in side] for side in (before, after))
    change = [y - x for x, y in zip(a, b, strict=True)]
    rows.append(
        ("Accuracy (%)", spread(a, ".2f"), spread(b, ".2f"), spread(change, "+.2f").replace("± +", "± ") + " points")
    )
    for name, key, form in (
        ("MACs", "macs", ",.0f"),
        ("Parameters", "params", ",.0f"),
        ("File (bytes)", "size_bytes", ",.0f"),
        ("File, zipped (bytes)", "zipped_bytes", ",.0f"),
        ("Latency (ms)", "latency_ms", ".4f"),
    ):
        a, b = ([figures[key] for figures in side] for side in (before, after))
        factors = [x / y for x, y in zip(a, b, strict=True)]
        if key == "latency_ms":
            factors = [record["latency"]["rows"][-1]["speedup_median"] for record in records]
        rows.append((name, spread(a, form), spread(b, form), spread(factors, ".1f") + " ×"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="As for paredown demo.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="One seed, the bundled digits, little training.")
    given = parser.parse_args(arguments)
    records = [run(given.data, seed, given.quick) for seed in range(1 if given.quick else given.seeds)]
    environment = records[0]["environment"]
    print(table(records))
    print(
        f"\n{len(records)} seeds; {environment['cpu']}, {environment['cores']} cores; keras {environment['keras']}, "
        f"ai-edge-litert {environment['ai-edge-litert']}."
    )


if __name__ == "__main__":
    main()

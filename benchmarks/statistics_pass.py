"""How long the statistics pass takes, against `model.predict` over the same data.

    python benchmarks/statistics_pass.py MODEL.keras [--examples N] [--pairs N]

Prints the ratio of each interleaved pair and their median, for the reductions of every criterion that reads
activations. Random inputs in 0..255 of the model's shape.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--examples", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()

    import numpy as np

    from paredown import Split
    from paredown.channels import Channels
    from paredown.criteria import CRITERIA
    from paredown.model_file import load_model
    from paredown.statistics import activation_statistics

    model = load_model(arguments.model)
    shape = tuple(size or 64 for size in model.input_shape[1:])
    x = np.random.default_rng(0).uniform(0, 255, (arguments.examples, *shape)).astype("float32")
    channels = Channels(model)
    for name, criterion in CRITERIA.items():
        if criterion.reads != "activations":
            continue
        ratios = []
        for pair in range(arguments.pairs + 1):
            start = time.perf_counter()
            model.predict(x, batch_size=128, verbose=0)
            middle = time.perf_counter()
            activation_statistics(channels, Split(x), criterion.reductions)
            ratio = (time.perf_counter() - middle) / (middle - start)
            # The first pair pays for predict's compilation, which it keeps and the statistics pass does not.
            if pair:
                ratios.append(ratio)
        print(f"{name}: {', '.join(f'{r:.2f}' for r in ratios)}; median {statistics.median(ratios):.2f} x predict")


if __name__ == "__main__":
    main()

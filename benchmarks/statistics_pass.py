"""How long the passes over data take, against `model.predict` over the same data, and whether their memory grows.

    python benchmarks/statistics_pass.py MODEL.keras [--examples N] [--pairs N]

Prints, for the activations and the gradients that criteria read, the ratio of each interleaved pair and their median;
the share of the pass that tracing the network takes, which does not grow with the data; and the growth of the
process's peak memory from half the examples to all of them, inputs taken out. Random inputs in 0..255 of the model's
shape, labels none. Targets: 1.3 x predict for activations, 4 x for gradients, no growth.
"""

import argparse
import os
import resource
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
    from paredown.gradients import gradient_statistics, own_output_loss
    from paredown.model_file import load_model
    from paredown.statistics import activation_statistics

    model = load_model(arguments.model)
    shape = tuple(size or 64 for size in model.input_shape[1:])
    x = np.random.default_rng(0).uniform(0, 255, (arguments.examples, *shape)).astype("float32")
    channels, loss = Channels(model), own_output_loss(model)
    passes = {
        "activations": lambda split: activation_statistics(channels, split, ("positive",)),
        "gradients": lambda split: gradient_statistics(channels, split, loss),
    }
    for name, run in passes.items():
        run(Split(x[: len(x) // 2]))
        before = peak_bytes()
        run(Split(x))
        grown = (peak_bytes() - before) / 2**20
        ratios, tracing = [], []
        for pair in range(arguments.pairs + 1):
            predict_s = seconds(lambda: model.predict(x, batch_size=128, verbose=0))
            pass_s = seconds(lambda run=run: run(Split(x)))
            # The first pair pays for predict's compilation, which it keeps and the passes do not.
            if pair:
                ratios.append(pass_s / predict_s)
                tracing.append(seconds(lambda run=run: run(Split(x[:1]))) / pass_s)
        print(
            f"{name}: {', '.join(f'{r:.2f}' for r in ratios)}; median {statistics.median(ratios):.2f} x predict, "
            f"{statistics.median(tracing):.0%} of it for one example; peak memory +{grown:.0f} MiB"
        )


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()

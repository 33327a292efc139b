"""How long channel analysis and pruning take, against Keras's own time to build the same network.

    python benchmarks/analysis.py [NETWORK ...] [--repeats N]

Prints, per network of keras.applications: the time of `channel_groups`, the time of analysis + pruning + rebuilding
(`PruneChannels(criterion="l1_norm", sparsity=0.5)`), and its ratio to Keras's time to build the network from scratch,
all measured in turn in one process; medians over the repeats.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NETWORKS = ("ResNet50", "DenseNet121", "MobileNetV2", "InceptionV3", "EfficientNetB0", "VGG16")


def timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    import keras

    from paredown import PruneChannels, channel_groups

    prune = PruneChannels(criterion="l1_norm", sparsity=0.5)
    print(f"{'network':16}{'channel_groups':>16}{'prune':>9}{'keras build':>13}{'ratio':>8}")
    for name in arguments.networks:
        build = getattr(keras.applications, name)
        rows = []
        # The first turn pays for imports and caches of both sides and is not counted.
        for _ in range(arguments.repeats + 1):
            model, build_s = timed(lambda build=build: build(weights=None))
            _, groups_s = timed(lambda model=model: channel_groups(model))
            _, prune_s = timed(lambda model=model: prune(model))
            rows.append((groups_s, prune_s, build_s, prune_s / build_s))
        groups_s, prune_s, build_s, ratio = (statistics.median(column) for column in zip(*rows[1:], strict=True))
        print(f"{name:16}{groups_s * 1e3:13.0f} ms{prune_s:7.2f} s{build_s:11.2f} s{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()

"""How near the sum of single operations comes to the network measured as a whole, in LiteRT on one thread.

    python benchmarks/predicted_latency.py [NETWORK ...]

Networks of keras.applications with random weights. Prints the prediction, the network's own fastest time, their ratio,
and the seconds that measuring the operations took (nothing for those that are known). Target: within 10 %.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NETWORKS = (
    "MobileNetV2",
    "ResNet50",
    "InceptionV3",
    "VGG16",
    "DenseNet121",
    "EfficientNetB0",
    "NASNetMobile",
    "Xception",
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    from keras import applications

    from paredown import OperationTable, predict_latency

    table = OperationTable(threads=given.threads)
    for name in given.networks:
        model = getattr(applications, name)(weights=None)
        start = time.perf_counter()
        found = predict_latency(model, table, measure_whole=True)
        assert found.measured_ms is not None
        print(
            f"{name}: predicted {found.ms:.2f} ms, measured {found.measured_ms:.2f} ms, "
            f"ratio {found.ms / found.measured_ms:.3f}; {time.perf_counter() - start:.0f} s with export",
            flush=True,
        )
    error, count = table.error()
    print(f"root mean square error over {count} networks: {100 * error:.1f} %")


if __name__ == "__main__":
    main()

"""Example records of runs (`run.json`, schema 1): a small classifier and a network of ResNet50's size."""

import copy
import math


def times_ms(median: float, runs: int = 50) -> list[float]:
    """Latencies with a busy machine's long tail, ms; the same on every call."""
    return [median * (1 + 0.05 * math.sin(7.1 * i) + (0.4 if i % 17 == 0 else 0.0)) for i in range(runs)]


def latency_row(label: str, median: float, speedup: float) -> dict:
    return {
        "label": label,
        "median_ms": median,
        "p10_ms": 0.96 * median,
        "p90_ms": 1.05 * median,
        "times_ms": times_ms(median),
        "speedup_median": speedup,
        "speedup_p10": speedup if speedup == 1 else 0.93 * speedup,
        "speedup_p90": speedup if speedup == 1 else 1.06 * speedup,
    }


def layer(name: str, kind: str, macs, params, channels) -> dict:
    """One layer's row; `macs`, `params` and `channels` are (before, after), either may be None."""
    return {
        "name": name,
        "kind": kind,
        **dict(zip(("macs_before", "macs_after"), macs, strict=True)),
        **dict(zip(("params_before", "params_after"), params, strict=True)),
        **dict(zip(("channels_before", "channels_after"), channels, strict=True)),
    }


_LAYERS = [
    layer("conv1", "Conv2D", (28 * 28 * 9 * 32, 28 * 28 * 9 * 12), (320, 120), (32, 12)),
    layer("relu1", "ReLU", (0, 0), (0, 0), (32, 12)),
    layer("conv2", "Conv2D", (28 * 28 * 9 * 32 * 32, 28 * 28 * 9 * 12 * 10), (9248, 1090), (32, 10)),
    layer("pool", "MaxPooling2D", (0, 0), (0, 0), (32, 10)),
    layer("conv3", "Conv2D", (14 * 14 * 9 * 32 * 64, 14 * 14 * 9 * 10 * 22), (18496, 2002), (64, 22)),
    layer("mystery", "CustomScale", (None, None), (64, 22), (64, 22)),
    layer("dense", "Dense", (3136 * 136, 1078 * 40), (426632, 43160), (136, 40)),
    layer("scores", "Dense", (136 * 10, 40 * 10), (1370, 410), (10, 10)),
]

_STEPS = [
    {
        "index": 1,
        "name": "prune_channels",
        "settings": {"criterion": "activation_count", "macs": 0.1},
        "seconds": 3.21,
        "macs": 1_032_000,
        "params": 46_804,
        "score": 0.9121,
        "changes": [{"layer": "conv1", "what": "output channels", "before": 32, "after": 12}],
        "skips": [
            {"layer": "scores", "reason": "its channels are the model's output"},
            {"layer": "mystery", "reason": "no rule for CustomScale"},
        ],
        "checks": [{"name": "pruned equals masked", "value": 3.1e-7, "tolerance": 1e-4, "passed": True}],
        "log": {},
    },
    {
        "index": 2,
        "name": "fine_tune",
        "settings": {"epochs": 3, "learning_rate": 0.001},
        "seconds": 41.7,
        "macs": 1_032_000,
        "params": 46_804,
        "score": 0.9902,
        "changes": [],
        "skips": [],
        "checks": [],
        "log": {
            "history": {"loss": [0.31, 0.09, 0.04], "val_loss": [0.12, 0.07, 0.05]},
            "loss": "sparse_categorical_crossentropy",
            "optimizer": "Adam",
        },
    },
]

_CLASSIFIER = {
    "schema": 1,
    "paredown": "0.1.0",
    "created": "2026-11-23T10:00:00+00:00",
    "model": {"name": "classifier", "source": "classifier.keras"},
    "data": {"name": "mnist", "train": 60000, "validation": 10000, "calibration": 60000, "labelled": True},
    "seed": 0,
    "command": "paredown compress classifier.keras --data mnist --recipe recipe.yaml --out out --seed 0",
    "recipe": "transforms:\n- prune_channels: {criterion: activation_count, macs: 0.1}\n"
    "- fine_tune: {epochs: 3, learning_rate: 0.001}\nexport: {quantization: int8}\n",
    "environment": {
        "python": "3.11.2",
        "platform": "Linux-6.1.0-x86_64",
        "cpu": "Intel(R) Xeon(R) Processor @ 2.90GHz",
        "cores": 2,
        "keras": "3.15.1",
        "backend": "tensorflow",
        "tensorflow": "2.21.0",
        "ai-edge-litert": "2.3.0",
        "ai-edge-quantizer": "0.10.0",
        "numpy": "2.4.6",
    },
    "metric": {"name": "accuracy", "higher_is_better": True},
    "original": {
        "keras_score": 0.9914,
        "score": 0.9914,
        "macs": 11_070_000,
        "params": 454_922,
        "size_bytes": 1_823_000,
        "zipped_bytes": 1_690_000,
        "latency_ms": 0.842,
        "peak_activation_bytes": 200_704,
    },
    "compressed": {
        "keras_score": 0.9902,
        "score": 0.9899,
        "macs": 1_032_000,
        "params": 46_804,
        "size_bytes": 54_100,
        "zipped_bytes": 44_300,
        "latency_ms": 0.104,
        "peak_activation_bytes": 75_264,
    },
    "latency": {
        "threads": 1,
        "runs": 50,
        "runtime": "LiteRT 2.3.0 (XNNPACK) on this computer",
        "rows": [latency_row("original", 0.842, 1.0), latency_row("compressed", 0.104, 8.1)],
    },
    "steps": _STEPS,
    "export": {
        "quantization": "int8",
        "checks": [
            {"name": "float32 file equals the Keras model", "value": 8.4e-7, "tolerance": 1e-4, "passed": True},
            {"name": "int8 file equals the Keras model", "value": 0.021, "tolerance": 0.1, "passed": True},
        ],
        "skips": [{"layer": "mystery", "reason": "left in float32: no int8 kernel"}],
    },
    "layers": _LAYERS,
}


def classifier() -> dict:
    """The small classifier, pruned, fine-tuned and quantized; all went well. A fresh copy on every call."""
    return copy.deepcopy(_CLASSIFIER)


def large() -> dict:
    """A network of 107 layers with long names, where one step was slow, one check failed and figures are missing."""
    record = classifier()
    record["model"] = {"name": "resnet50_thermal_inspection_v3_final", "source": "resnet50_thermal_inspection_v3.keras"}
    record["data"] = {**record["data"], "name": "loaders/thermal.py:inspection_frames", "labelled": False}
    record["metric"] = {"name": "output_error", "higher_is_better": False}
    record["original"] |= {"score": 0.0, "keras_score": 0.0, "macs": 3_858_000_000, "params": 25_636_712}
    record["original"] |= {"size_bytes": 102_300_000, "zipped_bytes": 94_800_000, "latency_ms": 148.2}
    record["compressed"] |= {"score": 0.0631, "keras_score": 0.0589, "macs": 1_930_000_000, "params": 12_940_000}
    record["compressed"] |= {"size_bytes": 13_400_000, "zipped_bytes": None, "latency_ms": 171.9}
    record["latency"]["rows"] = [
        latency_row("original", 148.2, 1.0),
        latency_row("prune_channels", 80.1, 1.85),
        latency_row("dynamic export", 171.9, 0.862),
    ]
    record["export"]["quantization"] = "dynamic"
    record["export"]["checks"][1] |= {"name": "dynamic file equals the Keras model", "value": 0.31, "passed": False}
    record["layers"] = [row for stage in range(2, 6) for block in range(1, 8) for row in _block(stage, block)][:107]
    names = [row["name"] for row in record["layers"] if row["kind"] == "BatchNormalization"]
    record["steps"][0]["skips"] += [{"layer": name, "reason": "follows a grouped convolution"} for name in names]
    record["steps"][0]["score"], record["steps"][1]["score"] = None, 0.0589
    return record


def _block(stage: int, block: int) -> list[dict]:
    wide, side = 32 * 2**stage, 224 // 2**stage
    narrow = wide // 4
    name = f"backbone_resnet50/conv{stage}_block{block}"
    macs = side * side * narrow * narrow * 9
    kept = narrow * (11 - block) // 14
    after = side * side * kept * kept * 9
    return [
        layer(f"{name}_2_conv3x3", "Conv2D", (macs, after), (macs // side**2, after // side**2), (narrow, kept)),
        layer(f"{name}_2_bn", "BatchNormalization", (None, None), (4 * narrow, 4 * kept), (narrow, kept)),
        layer(f"{name}_2_relu", "Activation", (0, 0), (0, 0), (narrow, kept)),
        layer(f"{name}_3_conv1x1", "Conv2D", (macs // 2, after // 2), (narrow * wide, kept * wide), (wide, wide)),
    ]

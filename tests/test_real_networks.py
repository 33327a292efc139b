"""Real trained networks go through compress whole; skipped where they are not at hand."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from paredown import Data, FineTune, PruneChannels, Recipe, compress

FOLDER = Path(os.environ.get("PAREDOWN_SHARED", Path(__file__).parents[2] / "shared")) / "data"
RECIPE = Recipe(
    [PruneChannels(criterion="l2_norm", macs=0.7), FineTune(epochs=1, batch_size=8, steps_per_epoch=2)], "float16"
)
NETWORKS = {
    "resnet20_cifar10": ((32, 32, 3), 0, 255),
    "mini_xception_fer2013": ((64, 64, 1), -1, 1),
    "hw_segmentation_fcn": ((256, 256, 3), 0, 1),
    "mtcnn_pnet": ((48, 56, 3), -1, 1),
    "mobilenet_v2_imagenet": ((224, 224, 3), -1, 1),
}


def path_of(name):
    path = FOLDER / "models" / f"{name}.keras"
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand: set PAREDOWN_SHARED to the folder that holds data/models")
    return path


@pytest.mark.parametrize("name", NETWORKS)
def test_goes_through_whole(name, tmp_path, monkeypatch):
    monkeypatch.setattr("paredown.pipeline.LATENCY_RUNS", 5)
    shape, low, high = NETWORKS[name]
    x = np.random.default_rng(0).uniform(low, high, (16, *shape)).astype("float32")
    path = path_of(name)
    content = path.read_bytes()
    run = compress(path, RECIPE, Data(train=x, validation=x[:4]), out=tmp_path)
    original = keras.models.load_model(path)
    assert path.read_bytes() == content
    assert run.record["compressed"]["macs"] <= 0.7 * run.record["original"]["macs"]
    assert run.record["compressed"]["score"] < np.inf
    assert all(check["passed"] for step in run.record["steps"] for check in step["checks"])
    assert [tuple(t.shape) for t in run.model.outputs] == [tuple(t.shape) for t in original.outputs]
    assert {layer.name for layer in original.layers} == {layer.name for layer in run.model.layers}
    assert not run.record["latency"]["rows"][1]["median_ms"] <= 0


def test_resnet20_keeps_its_accuracy_without_change():
    pytest.importorskip("PIL", reason="the CIFAR-10 images need pillow")
    path = path_of("resnet20_cifar10")
    if not (FOLDER / "load.py").exists():
        pytest.skip("load.py is not at hand")
    data = Data.load(f"{FOLDER / 'load.py'}:cifar10")
    part = Data(train=data.train.take(64), validation=data.validation.take(1000))
    run = compress(path, Recipe(), part)
    assert run.record["original"]["score"] == pytest.approx(0.917, abs=0.03)
    assert run.record["compressed"]["score"] == run.record["original"]["score"]

"""FineTune: trains a network further, on labels or towards outputs and features of the original."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from paredown.data import Split, hold_out
from paredown.data.checks import check_split
from paredown.errors import DataError, ModelError, SettingError
from paredown.network import Network
from paredown.rebuild import rebuild
from paredown.transform import Transform, TransformResult, is_number
from paredown.transforms.batches import AUGMENT, OrderedBatches, ShuffledBatches
from paredown.transforms.data_parallel import Divided, data_parallel
from paredown.transforms.features import AUTO, Features
from paredown.transforms.keep_shared import sharing_kept, summing
from paredown.transforms.keep_zeros import zeros_kept
from paredown.transforms.matching import Matching
from paredown.transforms.objective import Objective, choose, class_like, loss_name, plain_optimizer
from paredown.transforms.penalties import PENALTIES
from paredown.transforms.twin import Twin, for_training
from paredown.transforms.watch import Epochs, FiniteLoss, Progress, paces

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class FineTune(Transform):
    """Trains a copy of the network on `data.train`; nothing else of the data is read.

    Labelled data are trained on with the given optimizer and loss, else those of the network's own compile
    configuration (a fresh optimizer of the same settings), else Adam at 1e-3 and the loss that suits labels and
    output: sparse categorical cross-entropy for classes, mean squared error for values. Data without labels: the
    network is trained to give the outputs of `teacher`, by mean squared error over all outputs. What was used,
    and where it came from, stands in `result.log`.

    Layers with `trainable=False` stay as they are; names and compile configuration are those of the input network. On
    JAX each batch is shared among all accelerators of the machine, see `data_parallel`.

    Args:
        epochs: At most so many passes over the training data.
        learning_rate: None: the optimizer's own.
        batch_size: Examples per step.
        optimizer, loss: Names that Keras knows; None: the network's own, else the choice above. The optimizer also
            with settings: `{"class_name": "SGD", "config": {"momentum": 0.9}}`, plain values.
        patience: Stop after so many epochs without improvement and keep the weights of the best epoch, judged by
            the loss on rows held out of the training data; None: all epochs, last weights.
        holdout: Share of the training rows to hold out where `patience` is given, in (0, 1).
        steps_per_epoch: Steps that count as an epoch; None: one pass.
        augment: "none"; "shift": images shifted by up to one pixel each way; "crop": by up to 4; "crop_flip": by up to
            4, and half of them mirrored.
        schedule: "constant", or "cosine": the learning rate falls to 0 over all epochs along half a cosine.
        teacher_weight: For labelled data: share of the distance to the outputs of `teacher` in the loss
            (Kullback-Leibler divergence for class scores, mean squared difference for other outputs), in [0, 1).
        temperature: Softens the class scores that `teacher_weight` compares: their logits are divided by it. Above 1
            the teacher's view of the wrong classes counts, too; 4 suits networks that are sure of their training data.
        features: What else is pulled to what `teacher` gives at the same places: names of layers or nested models that
            both have with the same output shape (`"encoder/conv"` inside a nested model; of a factorized layer its last
            factor counts); "auto": every such BatchNormalization, activation and Add. Each counts by its mean squared
            difference over the variance of the teacher's values in the batch; their mean is `feature_loss` in the
            log. The teacher runs at inference: with `frozen_statistics` BatchNormalization computes alike in training.
        feature_weight: Factor of that mean in the loss, beside labels and outputs; above 0 where `features` are given.
        regularization: What else the loss holds, `strength` times: "l1_weights", the sum of |kernels and biases|;
            "l1_activations", the sum over channels of |what layers with a kernel read|, mean over examples and
            positions; "batch_norm_scale", the sum of |gamma|. The losses in the log hold it, the result does not.
        strength: Above 0 where `regularization` is given.
        steps_per_execution: Steps that run in one go: the same result, sooner for small networks. A loss that is no
            number is noticed after them. PyTorch knows one only.
        frozen_statistics: BatchNormalization keeps its statistics and normalizes with them during training as at
            inference. For short fine-tuning of refitted networks (`PruneChannels(reconstruct=True)`): their statistics
            fit their weights, and a batch's own would shift every layer at the first step.
        keep_zeros: Weights of kernels that are exactly zero, as `PruneWeights` leaves them, stay zero.
        keep_shared: Weights of a kernel that are exactly equal, as `ShareWeights` leaves them, stay equal: each value
            is trained as one parameter, its gradient the sum over the weights that share it. With SGD that calls for a
            smaller learning rate, the more the more weights share a value. Kernels whose values lie on an int8 grid, as
            `ShareWeights(grid="int8")` leaves them, are rounded to one again after training.
    Source:
        Hinton et al. 2015, arXiv:1503.02531, section 2 (`teacher_weight`, `temperature`);
        Romero et al. 2015, arXiv:1412.6550, section 2.2 (`features`: hints, without a regressor since shapes are equal,
        relative to the teacher's variance, and trained together with the outputs instead of before them);
        Liu et al. 2017, arXiv:1708.06519, section 3 (`batch_norm_scale`).
    """

    name: ClassVar[str] = "fine_tune"

    epochs: int = 1
    learning_rate: float | None = None
    batch_size: int = 128
    optimizer: str | dict[str, Any] | None = None
    loss: str | None = None
    patience: int | None = None
    holdout: float = 0.1
    steps_per_epoch: int | None = None
    augment: str = "none"
    schedule: str = "constant"
    teacher_weight: float = 0.0
    temperature: float = 1.0
    regularization: str | None = None
    strength: float = 0.0
    steps_per_execution: int = 1
    keep_zeros: bool = False
    keep_shared: bool = False
    frozen_statistics: bool = False
    features: str | tuple[str, ...] = ()
    feature_weight: float = 0.0

    def __post_init__(self):
        for name in ("epochs", "batch_size", "patience", "steps_per_epoch", "steps_per_execution"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            self._require(name, whole or (value is None and name in ("patience", "steps_per_epoch")), "at least 1")
        rate = self.learning_rate
        self._require("learning_rate", rate is None or (is_number(rate) and 0 < rate < np.inf), "above 0", "e.g. 0.001")
        self._require("holdout", is_number(self.holdout) and 0 < self.holdout < 1, "in (0, 1)", "e.g. 0.1")
        self._require("teacher_weight", is_number(self.teacher_weight) and 0 <= self.teacher_weight < 1, "in [0, 1)")
        for name in ("keep_zeros", "keep_shared", "frozen_statistics"):
            self._require(name, isinstance(getattr(self, name), bool), "true or false")
        hot = is_number(self.temperature) and 0 < self.temperature < np.inf
        self._require("temperature", hot, "above 0", "e.g. 4")
        self._require("augment", self.augment in AUGMENT, f"one of {', '.join(AUGMENT)}")
        self._require("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
        self._require(
            "optimizer", plain_optimizer(self.optimizer), "a name, or class_name with a config of plain values"
        )
        known = self.regularization is None or self.regularization in PENALTIES
        self._require("regularization", known, f"one of {', '.join(PENALTIES)}")
        given = is_number(self.strength) and 0 <= self.strength < np.inf
        fits = given and (self.strength > 0) == (self.regularization is not None)
        self._require("strength", fits, "above 0 with a regularization and 0 without one", "e.g. 0.0001 with one")
        if isinstance(self.features, list):
            object.__setattr__(self, "features", tuple(self.features))
        named = isinstance(self.features, tuple) and all(isinstance(name, str) for name in self.features)
        self._require(
            "features", named or self.features == AUTO, "'auto' or a list of layer names", f"e.g. [{self.features!r}]"
        )
        given = is_number(self.feature_weight) and 0 <= self.feature_weight < np.inf
        fits = given and (self.feature_weight > 0) == bool(self.features)
        self._require("feature_weight", fits, "above 0 with features and 0 without any", "e.g. 1 with features")

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        return self.train(model, data, seed, teacher, self._twin)

    def train(self, model: Any, data: Any, seed: int, teacher: Any, twin: Callable[[Any], Twin]) -> TransformResult:
        """As `apply`; `twin(copy)` gives what is trained in place of the copy that will be the result."""
        if data is None or data.train is None:
            raise DataError(
                "FineTune learns from data.train. Received: no training data. Give some; inputs without labels are "
                "enough, then the original network's outputs are the target."
            )
        check_split(data.train, model, "train")
        self._see_images(data.train)
        with _seeded(seed):
            with data_parallel(self.batch_size) as shared:
                tuned = rebuild(model)
                if not tuned.trainable_weights:
                    raise ModelError(
                        f"FineTune needs a trainable weight. Received: {model.name!r}, whose layers are all frozen or "
                        "have none. Set layer.trainable = True where it should learn."
                    )
                log = self._train(tuned, data.train, seed, teacher, twin(tuned))
            return TransformResult(shared.home(tuned), log=log | {"devices": shared.devices})

    def _twin(self, tuned: Any) -> Twin:
        return for_training(tuned, self.regularization, self.strength, self.frozen_statistics)

    def _train(self, tuned: Any, train: Split, seed: int, teacher: Any, twin: Twin) -> dict[str, Any]:
        """Trains in place through a second model, so that `tuned` keeps its own compilation."""
        objective = choose(tuned, train, self.optimizer, self.loss)
        body = twin.model
        features = Features(Network(body), Network(teacher), self.features) if self.features else None
        trainer = self._trainer(body, train, teacher, features)
        train, held_out = (train, None) if self.patience is None else self._hold_out(train, seed)
        pack = _packer(tuned)
        batches = ShuffledBatches(train, self.batch_size, self.steps_per_epoch, seed, self.augment, pack)
        rate = self._set_rate(objective, self.epochs * len(batches))
        at_once = 1 if keras.backend.backend() == "torch" else self.steps_per_execution
        held_out_batches = held_out and OrderedBatches(held_out, self.batch_size, pack)
        with contextlib.ExitStack() as kept:
            if self.keep_shared:
                members = kept.enter_context(sharing_kept(tuned, body))
                objective.compile["optimizer"] = summing(objective.compile["optimizer"], members)
            if self.keep_zeros:
                kept.enter_context(zeros_kept(tuned, body))
            trainer.compile(**objective.compile, steps_per_execution=at_once)
            history = self._fit(trainer, batches, held_out_batches, rate, twin.callbacks)
        twin.bring_back()
        losses = history.get("val_loss")
        return {
            "target": "original outputs" if train.y is None else "labels",
            "teacher_weight": 1.0 if train.y is None else self.teacher_weight,
            "features": features.paths if features else {},
            "optimizer": type(objective.compile["optimizer"]).__name__,
            "optimizer_from": objective.origin["optimizer"],
            "loss": "mean_squared_error" if train.y is None else loss_name(objective.compile["loss"]),
            "loss_from": objective.origin.get("loss", "no labels"),
            "learning_rate": rate,
            "schedule": self.schedule,
            "train": len(train),
            "held_out": 0 if held_out is None else len(held_out),
            "history": history,
            "stopped_epoch": len(history["loss"]),
            "best_epoch": None if losses is None else int(np.argmin(losses)) + 1,
        }

    def _trainer(self, body: Any, train: Split, teacher: Any, features: Features | None) -> Any:
        network = Network(body)
        ends = {
            "inputs": _tuples(network.pack_inputs(network.inputs)),
            "outputs": _tuples(network.pack_outputs(network.outputs)),
        }
        weight = 1.0 if train.y is None else self.teacher_weight
        if weight == 0 and features is None:
            return Divided(**ends, name=body.name)
        here, there = ([tuple(t.shape) for t in m.outputs] for m in (body, teacher))
        if weight > 0 and here != there:
            raise ModelError(
                f"The network must have the outputs of the original to match them. Received: {here} against {there} "
                "(FineTune). Give labels, or the right teacher."
            )
        classes = None if train.y is None else class_like(body, train)
        trainer = Matching(**ends, name=body.name, with_features=features is not None)
        return trainer.teach(teacher, weight, classes, self.temperature, features, self.feature_weight)

    def _hold_out(self, train: Split, seed: int) -> tuple[Split, Split]:
        if len(train) < 2:
            raise DataError(f"patience needs rows to hold out of train. Received: {len(train)} row. Leave it out.")
        return hold_out(train, self.holdout, seed)

    def _set_rate(self, objective: Objective, steps: int) -> float:
        """Sets the learning rate and its course; gives the rate at the start."""
        optimizer = objective.compile["optimizer"]
        rate = float(optimizer.learning_rate) if self.learning_rate is None else self.learning_rate
        if self.schedule == "cosine":
            _remade(objective, keras.optimizers.schedules.CosineDecay(rate, steps))
        elif self.learning_rate is not None:
            _remade(objective, rate)
        return float(rate)

    def _fit(
        self, trainer: Any, batches: Any, held_out: Any, rate: float, more: Sequence[Any]
    ) -> dict[str, list[float]]:
        progress = Progress("Fine-tune", self.epochs, len(batches))
        callbacks: list[Any] = [Epochs(batches), FiniteLoss(rate), progress, *paces(), *more]
        if self.patience is not None:
            callbacks.append(
                keras.callbacks.EarlyStopping("val_loss", patience=self.patience, mode="min", restore_best_weights=True)
            )
        try:
            fitted = trainer.fit(
                batches, epochs=self.epochs, validation_data=held_out, callbacks=callbacks, shuffle=False, verbose=0
            )
        except (ValueError, TypeError) as error:
            raise DataError(
                "The loss and metrics of fine-tuning must fit the data. Received: "
                f"{_first_line(error)} (FineTune). Name a loss, e.g. FineTune(loss='mean_squared_error')."
            ) from error
        finally:
            progress.close()
        return {key: [float(value) for value in values] for key, values in fitted.history.items()}

    def _see_images(self, train: Split) -> None:
        labels_per_image = train.y is None or (not isinstance(train.y, tuple) and len(train.y.shape) <= 2)
        if self.augment != "none" and (isinstance(train.x, tuple) or len(train.x.shape) != 4 or not labels_per_image):
            raise SettingError(
                f"augment must be 'none' unless x is one array of images, (n, height, width, channels), with one label "
                f"each. Received: augment={self.augment!r} with {train!r} (FineTune)."
            )


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _remade(objective: Objective, rate: Any) -> None:
    """Puts in an optimizer of the same settings with another learning rate; a set schedule cannot be assigned over."""
    optimizer = objective.compile["optimizer"]
    config = {**optimizer.get_config(), "learning_rate": rate}
    objective.compile["optimizer"] = type(optimizer).from_config(config)


def _packer(model: Any) -> Any:
    """How a batch becomes what `fit` takes: the network's own structure of inputs and outputs."""
    network = Network(model)

    def pack(x: Any, y: Any) -> tuple:
        inputs = _tuples(network.pack_inputs(x if isinstance(x, tuple) else (x,)))
        if y is None:
            return (inputs,)
        return inputs, _tuples(network.pack_outputs(y)) if isinstance(y, tuple) else y

    return pack


def _tuples(structure: Any) -> Any:
    """A list of tensors as a tuple: a list of arrays is one tensor to TensorFlow's data pipeline."""
    return tuple(structure) if isinstance(structure, list) else structure


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds what layers draw from; the caller's own streams of `random` and NumPy go on as if nothing had been."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global state is what is kept
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002

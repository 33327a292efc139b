"""The three parts of a run's data."""

from collections.abc import Iterator, Sequence
from typing import Any

from paredown.data.split import Split
from paredown.errors import DataError


class Data:
    """The data of a run. An empty part counts as None.

    Args:
        train: What transforms learn from: a `Split`, an array (inputs alone) or (x, y).
        validation: What results are reported on; never trained on, and no early stop watches it.
        calibration: What statistics and quantization ranges come from; criteria of gradients use its labels where it
            has some. Defaults to `train`, else to `validation`.
        name: What reports call the data.
        note: What a reader of the results must know of the data, e.g. that validation was held out of train.
    Raises:
        DataError: If all parts are empty, or a part cannot be read.
    """

    def __init__(
        self, train: Any = None, validation: Any = None, calibration: Any = None, *, name: str = "data", note: str = ""
    ):
        self.train = _split(train, "train")
        self.validation = _split(validation, "validation")
        given = _split(calibration, "calibration") or self.train or self.validation
        if given is None:
            raise DataError(f"Data must hold at least one example. Received: {name} with every part empty or None.")
        self.calibration: Split = given
        self.name = name
        self.note = note

    @staticmethod
    def load(source: Any) -> "Data":
        """Loads data by name.

        Args:
            source: `"mnist"`, `"cifar10"` (Keras's cache or the network), `"digits"` (scikit-learn's, drawn at
                MNIST's size), a file `"x.npz"`, or a function: `"module:function"`, `"folder/file.py:function"`.
                The function returns a `Data`, ((x, y), (x, y)), (x, y) or x; the `.npz` holds x_train, y_train,
                x_test (or x_validation), y_test; or x, y; or x. Where there is train data alone, a tenth of it,
                always the same, is held out as validation; `.note` says so.
        Raises:
            DataError: If the source is missing, or does not hold data in one of these forms.
        """
        from paredown.data.sources import load

        return load(str(source))

    def check(self, model: Any) -> None:
        """Sees that the data fit the model; reads all of it once, batch by batch, where it can hold NaN.

        Raises:
            DataError: At the first shape, label or value that does not fit, with its place.
        """
        from paredown.data.checks import check

        check(self, model)

    @property
    def labelled(self) -> bool:
        """Whether the data that results are reported on have labels."""
        return (self.validation or self.train or self.calibration).y is not None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example of the first input."""
        x = self.calibration.x
        return tuple((x[0] if isinstance(x, tuple) else x).shape[1:])

    def parts(self) -> Iterator[tuple[str, Split]]:
        """The parts that are there, with their names; calibration only where it was given apart from the others."""
        yield from ((n, s) for n, s in (("train", self.train), ("validation", self.validation)) if s is not None)
        if all(s is None or s.x is not self.calibration.x for s in (self.train, self.validation)):
            yield "calibration", self.calibration

    def __repr__(self) -> str:
        return f"Data({self.name!r}, {', '.join(f'{n}={s}' for n, s in self.parts())})"


def _split(value: Any, part: str) -> Split | None:
    if value is None:
        return None
    try:
        split = value if isinstance(value, Split) else Split(*_pair(value))
    except DataError as error:
        raise DataError(f"{part}: {error}") from error
    return split if len(split) else None


def _pair(value: Any) -> Sequence[Any]:
    if not isinstance(value, tuple):
        return (value,)
    if len(value) != 2:
        raise DataError(
            f"A part must be an array or (x, y). Received: a tuple of {len(value)}. "
            "For several inputs give Split(x=(a, b), y=labels)."
        )
    return value

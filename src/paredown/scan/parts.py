"""The two parts that a scan reads: examples for statistics, and others to judge by."""

from paredown.data import Data, Split, hold_out

#: At most so many examples are judged on, and at most this share of those that there are.
JUDGED, _SHARE = 512, 0.5


def parts(data: Data, examples: int, seed: int) -> tuple[Data, Split]:
    """What statistics come from, and what is judged on, which nothing is fitted to.

    Validation data are for reporting only: a score is never looked at on them. Where there are no others, the network's
    outputs on them are, without their labels.

    Args:
        data: The data.
        examples: For statistics.
        seed: Of the rows that are drawn.
    Returns:
        (a `Data` with that calibration alone; the others).
    """
    if data.train is not None and data.calibration.x is not data.train.x:
        return Data(calibration=data.calibration.sample(examples, seed)), data.train.sample(JUDGED, seed)
    source = data.train or data.calibration
    for_reporting = data.validation is not None and source.x is data.validation.x
    if for_reporting:
        source = source.inputs_only()
    if len(source) < 2:
        return Data(calibration=source), source
    rest, judged = hold_out(source, min(_SHARE, JUDGED / len(source)), seed)
    return Data(calibration=rest.sample(examples, seed)), judged

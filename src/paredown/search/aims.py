"""What candidates are told to keep, so that they keep what they are to."""

import math

import numpy as np

from paredown.search.candidate import Candidate

#: What a candidate keeps as multiples of what it was to keep: near enough.
NEAR = (0.85, 1.02)
#: How much shares follow aims, as a power: a part of the time stays whatever is aimed at. Before two candidates of a
#: kind have shown it, and within which bounds it is believed; and how far an aim is moved at most.
SLOPE, SLOPES, MOST_OFF = 0.67, (0.25, 1.0), 8.0


class Aims:
    """How far candidates miss the latency that they are to keep, by their kind.

    Tables of layers know nothing of what LiteRT joins, and small networks gain less from a format than large ones.
    """

    def __init__(self):
        #: Kind -> what candidates are to keep, as a multiple of what they are told.
        self._off: dict[tuple, float] = {}
        #: Likewise -> the last one's share told, and kept.
        self._last: dict[tuple, tuple[float, float]] = {}

    def of(self, candidate: Candidate) -> float:
        """The share that a candidate is told to keep."""
        return candidate.keep / self._off.get(_kind(candidate), 1.0)

    def learn(self, candidate: Candidate, share: float) -> bool:
        """Learns from the share that a candidate kept; gives whether that is not what it was to."""
        kind, told, off = _kind(candidate), self.of(candidate), share / candidate.keep
        slope = self._slope(kind, told, share)
        self._last[kind] = told, share
        if NEAR[0] <= off <= NEAR[1]:
            return False
        moved = candidate.keep / told * off ** (1 / slope)
        self._off[kind] = float(np.clip(moved, 1 / MOST_OFF, MOST_OFF))
        return True

    def _slope(self, kind: tuple, told: float, share: float) -> float:
        told_before, share_before = self._last.get(kind, (told, share))
        # Where a method had nothing to do, the share does not follow.
        if any(math.isclose(*pair, rel_tol=1e-3) for pair in ((told, told_before), (share, share_before))):
            return SLOPE
        return float(np.clip(math.log(share / share_before) / math.log(told / told_before), *SLOPES))


def _kind(candidate: Candidate) -> tuple:
    structure = (candidate.structure, candidate.layers) if "substitute_conv" in candidate.methods else None
    return candidate.methods, candidate.format, structure

"""Data as paredown takes them: inputs and labels of three parts, read in pieces and never loaded whole.

`train` is what transforms may learn from. `validation` is what results are reported on: nothing is trained on it,
and no early stop watches it. Statistics, gradients and quantization ranges come from `calibration`.
Nothing is converted on the way: what the arrays hold is what the network gets.
"""

from paredown.data.functions import with_validation
from paredown.data.parts import Data
from paredown.data.split import Rows, Split, hold_out

__all__ = ["Data", "Rows", "Split", "hold_out", "with_validation"]

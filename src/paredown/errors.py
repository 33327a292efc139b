"""Every error that is the user's to mend.

A message names the rule, what was received, where, and what to do instead:
`sparsity must be in [0, 1). Received: sparsity=1.2 (PruneChannels). Use 0.5 to remove half the channels.`
The command line prints the message alone and exits with 2.
"""


class ParedownError(Exception):
    """Base of all errors that paredown raises on purpose."""


class ModelError(ParedownError):
    """The network cannot be read or treated (not a Keras file, Lambda code, subclassed, NaN weights)."""


class DataError(ParedownError):
    """The data do not fit the network (shape, labels, NaN) or cannot be had."""


class SettingError(ParedownError):
    """A transform, recipe or option has a value outside its domain."""


class DeviceError(ParedownError):
    """A device is not there, or does not do what it is asked."""


class OutputError(ParedownError):
    """A result cannot be written."""


class CheckError(ParedownError):
    """A change did not prove itself: an equality that must hold does not."""

"""What goes wrong through no fault of the program: a sentence for the user, no traceback."""


class InputError(Exception):
    """Something the user gave is wrong; exit code 2."""


class DivergedError(Exception):
    """Training produced a loss that is not a number; exit code 1."""


class PrunedError(Exception):
    """A search stopped the run, which lags behind the others; nothing is wrong."""


class SweepError(Exception):
    """Some jobs of a sweep failed, the others are done; exit code 1."""


class StorageError(Exception):
    """The run folder cannot be written; what was is kept; exit code 1."""

"""Errors that end the program with a sentence for the user instead of a traceback."""


class InputError(Exception):
    """Wrong input: an option, a config value, a file; exit code 2."""


class UnsupportedError(InputError):
    """The machine cannot train in the precision wanted, or not with XLA."""


class DivergedError(Exception):
    """The training loss is not finite; exit code 1."""


class PrunedError(Exception):
    """A search pruned the run; no fault."""


class SweepError(Exception):
    """Some jobs of a sweep failed, the others are finished; exit code 1."""


class StorageError(Exception):
    """The run folder cannot be written any more; exit code 1."""

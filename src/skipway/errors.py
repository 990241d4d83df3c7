"""Every error that skipway raises on purpose. Each message says what is wrong and then names the fix.

The command line prints `error: <message>` on stderr and exits with 2 for each of them; any other exception is a defect
of skipway and exits with 1.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class SkipwayError(Exception):
    """Base of all errors that the user's input or machine can cause."""


class UnknownNameError(SkipwayError):
    """A name that is in none of the tables: model, recipe, recipe key, data form, split."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = list(known)
        close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4) or names[:8]
        message = f"unknown {kind} '{name}'; the nearest: {', '.join(close)}"
        super().__init__(f"{message} ({hint})" if hint else message)


class SpecError(SkipwayError):
    """A network that cannot be built as asked: contradictory or out-of-range fields, a picture too small."""


class RecipeError(SkipwayError):
    """A recipe with a value outside its range, or a file that is no recipe."""


class DataError(SkipwayError):
    """Pictures or labels that cannot be trained on or evaluated."""


class PictureError(DataError):
    """One picture that cannot be read. `file` is its path or name, `reason` what is wrong with it."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason

    def __reduce__(self) -> tuple[type[PictureError], tuple[str, str]]:
        return type(self), (self.file, self.reason)


class ModelFileError(SkipwayError):
    """A model file that is damaged, foreign, or of a newer format."""


class RunError(SkipwayError):
    """A run folder that exists already, is missing, or cannot be continued."""


class NoCheckpointError(RunError):
    """A run folder in which no checkpoint was written, or none is whole."""


class LostRankError(SkipwayError):
    """One of several processes that work together is gone; the others cannot go on."""


class DivergedError(SkipwayError):
    """Training whose loss became infinite or NaN."""


class ReadError(SkipwayError):
    """A file that could not be opened or read. `file` is its path, `what` the cause in words, `fix` what to do."""

    def __init__(self, file: str, what: str, fix: str) -> None:
        super().__init__(f"{file} {what}; {fix}")
        self.file = file
        self.what = what
        self.fix = fix

    def __reduce__(self) -> tuple[type[ReadError], tuple[str, str, str]]:
        return type(self), (self.file, self.what, self.fix)


class StorageError(SkipwayError):
    """A file that could not be written, above all for lack of space."""


class CacheError(SkipwayError):
    """A cache folder that somebody else could have written to, or that cannot be made."""


# How the libraries under skipway say that memory ran out; oneDNN tells no more than that it made no primitive.
_MEMORY_TEXTS = (
    "allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "could not create a primitive",
    "could not create a memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of whichever library, says that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, SkipwayError):  # says it in its own words
        return False
    text = str(error).lower()
    return any(one.lower() in text for one in _MEMORY_TEXTS)


def memory_message(error: BaseException) -> str:
    """The line for a process that ran out of memory: what was tried, and the fix."""
    asked = re.search(r"allocate (\d{4,}) bytes", str(error))
    told = f"{int(asked[1]) / 2**20:,.0f} MiB more were asked for" if asked else type(error).__name__
    return f"the memory is too small ({told}); give a smaller --batch-size or --image-size, or free some memory"

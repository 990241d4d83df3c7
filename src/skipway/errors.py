"""Every error that skipway raises on purpose. Each message says what is wrong and then names the fix.

For each of these errors, the command line prints `error: <message>` on stderr and exits with code 2. Any other
exception is a defect of skipway and exits with code 1.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class SkipwayError(Exception):
    """The base class of all errors that the user's input or the user's machine can cause."""


class UnknownNameError(SkipwayError):
    """A name that skipway does not know: of a model, a recipe, a recipe key, a form of data or a split.

    Arguments:
        kind: what the name should be the name of, such as "model".
        name: the unknown name.
        known: the names that exist. The message lists those nearest to `name`.
        hint: more help, added in brackets at the end of the message.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        """Write the message."""
        names = list(known)
        nearest = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4)
        if not nearest:
            nearest = names[:8]
        message = f"unknown {kind} '{name}'; the nearest: {', '.join(nearest)}"
        if hint:
            message = f"{message} ({hint})"
        super().__init__(message)


class SpecError(SkipwayError):
    """A network that cannot be built: contradictory fields, fields out of range, or pictures that are too small."""


class RecipeError(SkipwayError):
    """A recipe with a value outside its range, or a file that is not a recipe."""


class DataError(SkipwayError):
    """Pictures or labels that cannot be used for training or evaluation."""


class PictureError(DataError):
    """A single picture that cannot be read.

    Arguments:
        file: the path or name of the picture.
        reason: what is wrong with it.
    """

    def __init__(self, file: str, reason: str) -> None:
        """Write the message, and keep its parts."""
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason

    def __reduce__(self) -> tuple[type[PictureError], tuple[str, str]]:
        """What pickle calls to make the error again in another process."""
        arguments = (self.file, self.reason)
        return type(self), arguments


class ModelFileError(SkipwayError):
    """A model file that is damaged, comes from another program, or has a newer format."""


class RunError(SkipwayError):
    """A run folder that exists already, is missing, or cannot be continued."""


class NoCheckpointError(RunError):
    """A run folder in which no checkpoint was written, or none is whole."""


class LostRankError(SkipwayError):
    """One of several processes that work together has ended; the others cannot continue."""


class DivergedError(SkipwayError):
    """Training whose loss became infinite or NaN."""


class ReadError(SkipwayError):
    """A file that could not be opened or read.

    Arguments:
        file: the path of the file.
        what: the cause in words.
        fix: what the user can do.
    """

    def __init__(self, file: str, what: str, fix: str) -> None:
        """Write the message, and keep its parts."""
        super().__init__(f"{file} {what}; {fix}")
        self.file = file
        self.what = what
        self.fix = fix

    def __reduce__(self) -> tuple[type[ReadError], tuple[str, str, str]]:
        """What pickle calls to make the error again in another process."""
        arguments = (self.file, self.what, self.fix)
        return type(self), arguments


class StorageError(SkipwayError):
    """A file that could not be written, most often for lack of space."""


class CacheError(SkipwayError):
    """A cache folder that another user could have written to, or that cannot be made."""


# What the libraries that skipway uses write when memory runs out, in lower case. oneDNN only says that it could not
# create an object.
_MEMORY_TEXTS = (
    "allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "could not create a primitive",
    "could not create a memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of any library, says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    is_torch_error = type(error).__name__ == "OutOfMemoryError"
    if is_torch_error:
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, SkipwayError):
        # Its message is complete already.
        return False
    message = str(error).lower()
    return any(text in message for text in _MEMORY_TEXTS)


def memory_message(error: BaseException) -> str:
    """The message for a process that ran out of memory: how much it asked for, and what the user can do."""
    request = re.search(r"allocate (\d{4,}) bytes", str(error))
    if request is None:
        cause = type(error).__name__
    else:
        mebibytes = int(request[1]) / 2**20
        cause = f"{mebibytes:,.0f} MiB more were asked for"
    return f"the memory is too small ({cause}); give a smaller --batch-size or --image-size, or free some memory"

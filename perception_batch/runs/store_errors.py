"""What goes wrong with a store behind a URL: what may pass, and one line for people."""

from __future__ import annotations

import errno

from perception_batch.errors import (
    EXIT_NOTHING,
    EXIT_RETRY,
    EXIT_USAGE,
    PerceptionBatchError,
    WriteError,
    printable,
)
from perception_batch.runs.retry import is_transient

_PERMANENT = (
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    NotImplementedError,
    TypeError,
    ValueError,
    ImportError,
    PerceptionBatchError,
)
_NO_KEYS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "ClientAuthenticationError", "RefreshError"}
)
"""Of the clients for S3, Azure and Google, which are not imported here."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class StoreError(WriteError):
    """A store does not do what it is asked.

    Attributes:
        passes: whether it may do it later.
    """

    passes = False


def store_error(what: str, error: Exception) -> StoreError:
    """The error for people.

    Args:
        what: what could not be done, printable.
        error: why.
    """
    status = EXIT_USAGE
    if is_transient(error) or (isinstance(error, OSError) and error.errno in _FULL):
        status = EXIT_RETRY
    elif isinstance(error, FileNotFoundError):
        status = EXIT_NOTHING
    made = StoreError(f"{what}: {_why(error)}", exit_status=status)
    made.passes = is_transient(error)
    return made


def is_permanent(error: Exception) -> bool:
    """Whether another try is of no use; what nobody knows may pass."""
    if isinstance(error, _PERMANENT) or type(error).__name__ in _NO_KEYS:
        return True
    return isinstance(error, OSError) and error.errno in _FULL | _REFUSED


def one_line(error: BaseException) -> str:
    """Kind and text of an error."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _why(error: Exception) -> str:
    said = printable(one_line(error))
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"it is full ({said}); make room there and start the same command again"
    if isinstance(error, FileNotFoundError):
        return f"no such bucket or folder ({said})"
    if isinstance(error, PermissionError) or type(error).__name__ in _NO_KEYS:
        return f"it refuses ({said}); credentials come from the environment or from fsspec's settings"
    if is_permanent(error):
        return said
    return f"{said}; the same command goes on with what is kept on this machine"

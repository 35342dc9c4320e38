"""What can go wrong, as a tree. Every message says what was got, what is allowed and what to do.

::

    PerceptionBatchError
    ├── ConfigError            file, dotted key, value, what is allowed
    ├── LogError               path
    │   ├── TopicNotFound      wanted, available
    │   ├── UnsupportedEncoding
    │   └── DecodeError        camera, stamp_ns, short stable reason
    ├── CalibrationError       camera, what disagrees
    ├── SyncError
    ├── ModelError             weights missing, hash differs, unexpected output shape
    └── WriteError             target exists, encoder refused, disk full
        └── LockedError        another process works on this output

`OSError` passes through as itself. Each error carries the exit status that the command line gives
for it (see `docs/formats.md`): 1 nothing readable, 2 options and settings, 75 worth another try.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

EXIT_OK = 0
EXIT_NOTHING = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_RETRY = 75


_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]*@")
_SIGNATURE = re.compile(
    r"(?i)([?&](?:x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|sig|signature|token"
    r"|access_token|password)=)[^&\s#'\"]+"
)


def without_secrets(text: str) -> str:
    """`text` with the passwords and signatures of its URLs left out."""
    return _SIGNATURE.sub(r"\1***", _PASSWORD.sub(r"\1@", text)) if "://" in text else text


def printable(text: object) -> str:
    """One line of `text` that is safe on a terminal: control characters become ``\\xNN`` escapes, no password is shown."""
    line = without_secrets(str(text))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _made(kind: type[PerceptionBatchError], words: tuple[Any, ...]) -> PerceptionBatchError:
    return kind.__new__(kind, *words)


class PerceptionBatchError(Exception):
    """Root of everything this package raises on purpose. Each goes to another process and comes back as it was."""

    exit_status = EXIT_NOTHING

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is otherwise made again from its message, which the trees' own constructors do not take.
        return _made, (type(self), self.args), dict(self.__dict__)


class ConfigError(PerceptionBatchError):
    """A setting, an option or a settings file is wrong."""

    exit_status = EXIT_USAGE


class LogError(PerceptionBatchError):
    """A log cannot be read, as a whole or in a part."""

    def __init__(self, path: Path | str, message: str) -> None:
        # A URL's path has the methods of a `Path` without being one.
        self.path = Path(path) if isinstance(path, str) else path
        self.detail = message
        super().__init__(f"{printable(path)}: {message}" if str(path) else message)


class TopicNotFound(LogError):
    """A camera or topic was asked for that the log does not hold."""

    exit_status = EXIT_USAGE

    def __init__(self, path: Path | str, wanted: Iterable[str], available: Iterable[str]) -> None:
        self.wanted = tuple(wanted)
        self.available = tuple(available)
        have = ", ".join(map(printable, self.available)) or "none"
        super().__init__(path, f"no camera named {', '.join(map(printable, self.wanted))}; it has: {have}")


class UnsupportedEncoding(LogError):
    """The log is readable but holds its images in a form that this version does not decode."""


class DecodeError(LogError):
    """One image cannot be decoded.

    `path` may be empty where only the caller knows the log.

    Attributes:
        camera: name of the camera.
        stamp_ns: exposure stamp of the frame, ns.
        reason: short stable word for tables, such as ``broken_jpeg``.
    """

    def __init__(self, path: Path | str, camera: str, stamp_ns: int, reason: str, detail: str) -> None:
        self.camera = camera
        self.stamp_ns = stamp_ns
        self.reason = reason
        super().__init__(path, f"camera {printable(camera)}, stamp {stamp_ns} ns: {reason}: {detail}")


class CalibrationError(PerceptionBatchError):
    """A camera's calibration contradicts itself, its images or the transforms."""

    exit_status = EXIT_USAGE

    def __init__(self, camera: str, message: str) -> None:
        self.camera = camera
        super().__init__(f"camera {printable(camera)}: {message}")


class SyncError(PerceptionBatchError):
    """The cameras cannot be grouped with these settings."""

    exit_status = EXIT_USAGE


class ModelError(PerceptionBatchError):
    """Weights are missing, are not a detector, or gave an unexpected output."""

    exit_status = EXIT_USAGE


class WriteError(PerceptionBatchError):
    """An output exists with other settings, an encoder refused, or the disk is full."""

    exit_status = EXIT_USAGE

    def __init__(self, message: str, *, exit_status: int = EXIT_USAGE) -> None:
        self.exit_status = exit_status
        super().__init__(message)


class LockedError(WriteError):
    """Another process works on this output; it is worth another try when that one has ended."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_status=EXIT_RETRY)

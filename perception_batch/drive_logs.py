"""What is said while a drive is worked on, in a file of its own: ``OUT/.perception_batch/logs/<drive>.log``.

It holds the last attempt only, so it does not grow with the nights. A full disk costs lines here, never the run.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from perception_batch.errors import printable
from perception_batch.runs import FOLDER

PACKAGE = logging.getLogger("perception_batch")
_log = logging.getLogger(__name__)


def log_path(out: Path, drive: str) -> Path:
    """Where the log of a drive is."""
    return out / FOLDER / "logs" / f"{drive}.log"


class _Lines(logging.StreamHandler):  # type: ignore[type-arg]
    """Lines to a file; errors of the disk are passed over."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{_now()} {record.levelname}: {printable(record.getMessage())}"
        return text if record.exc_info is None else text + "\n" + (record.exc_text or _trace(record))

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: there is no better place to say it."""


@contextmanager
def drive_log(path: Path, *, all_output: bool = False) -> Iterator[Callable[[str], None]]:
    """Send what the package's loggers say in the block to a new file, too; gives what adds a line to it.

    Args:
        path: the file.
        all_output: also all that any library writes to stdout and stderr, and where a fault of native code ended the
            process. Only for a process of its own.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        _log.warning("%s: no log is kept: %s", printable(path), error.strerror or error)
        yield lambda _line: None
        return
    handler = _Lines(stream)

    def add(line: str) -> None:
        with suppress(OSError, ValueError):
            stream.write(f"{_now()} {line}\n")

    PACKAGE.addHandler(handler)
    try:
        if all_output:
            with _everything(stream.fileno()):
                yield add
        else:
            yield add
    finally:
        PACKAGE.removeHandler(handler)
        with suppress(OSError):
            stream.close()


@contextmanager
def _everything(handle: int) -> Iterator[None]:
    import faulthandler

    before = [os.dup(number) for number in (1, 2)]
    for number in (1, 2):
        os.dup2(handle, number)
    faulthandler.enable(2)
    try:
        yield
    finally:
        faulthandler.disable()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
            os.close(old)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%H:%M:%S")


def _trace(record: logging.LogRecord) -> str:
    return "" if not record.exc_info else "".join(traceback.format_exception(*record.exc_info))

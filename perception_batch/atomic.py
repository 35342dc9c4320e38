"""Files that appear whole: written beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from perception_batch.errors import EXIT_RETRY, WriteError, printable

PARTIAL_SUFFIX = ".partial"

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or refusing disk into a `WriteError` that names `path`; other errors pass as themselves.

    Raises:
        WriteError: with exit status 75 for a full disk or quota, 2 for a read-only place.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise WriteError(
                f"{printable(path)}: the disk is full ({os.strerror(error.errno)}); free some space and start "
                "the same command again",
                exit_status=EXIT_RETRY,
            ) from error
        if error.errno in _REFUSED:
            raise WriteError(
                f"{printable(path)}: cannot write here ({os.strerror(error.errno)}); choose another --out"
            ) from error
        raise


def sync_directory(path: Path) -> None:
    """Make renames inside the directory `path` survive a power cut (no effect where the system has none)."""
    with contextlib.suppress(OSError):  # some network file systems refuse to open or to sync a directory
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def put_in_place(partial: Path, path: Path) -> None:
    """Flush the finished file `partial` to the disk and rename it to `path`.

    Raises:
        WriteError: the disk is full or refuses.
    """
    with disk_errors(path):
        handle = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        partial.replace(path)
    sync_directory(path.parent)


class AtomicFile:
    """A file that is ``<name>.partial`` until `commit`, and gone after `discard`.

    Args:
        path: where it will be.
        token: stands before the suffix, where several processes may write the same file at once; the last one wins.
    """

    def __init__(self, path: Path, token: str = "") -> None:
        self.path = path
        self.partial = path.with_name(f"{path.name}{'.' if token else ''}{token}{PARTIAL_SUFFIX}")
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.stream: BinaryIO = self.partial.open("wb")

    def commit(self) -> None:
        """Close the file and put it in its place.

        Raises:
            WriteError: the disk is full or refuses; what was written is gone then.
        """
        try:
            with disk_errors(self.path):
                self.stream.close()
            put_in_place(self.partial, self.path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Close the file and remove it, which also gives its room back to a full disk."""
        with contextlib.suppress(OSError):
            self.stream.close()
        with contextlib.suppress(OSError):
            self.partial.unlink()


def write_whole(path: Path, data: bytes, token: str = "") -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part.

    Args:
        path: where.
        data: what.
        token: as for `AtomicFile`.

    Raises:
        WriteError: the disk is full or refuses.
    """
    file = AtomicFile(path, token) if token else AtomicFile(path)
    try:
        with disk_errors(path):
            file.stream.write(data)
    except BaseException:
        file.discard()
        raise
    file.commit()

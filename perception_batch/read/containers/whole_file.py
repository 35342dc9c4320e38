"""Logs that were compressed as a whole file: ``drive.mcap.zst``, ``drive.bag.lz4``."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from perception_batch.errors import EXIT_RETRY, LogError, WriteError, printable
from perception_batch.read.containers.logfile import Channel, LogFile, Message, open_log_file
from perception_batch.read.containers.place import TemporaryCopies
from perception_batch.read.containers.unpacking import (
    LZ4_MAGIC,
    ZSTD_MAGIC,
    UnpackError,
    lz4_pieces,
    zstd_pieces,
)
from perception_batch.types import Loss

MAX_RATIO = 1000
"""Unpacked size, in packed sizes: images are compressed already, and the emptiest logs shrink to a hundredth."""

ALWAYS_ALLOWED_BYTES = 1 << 30
"""Up to this size the ratio does not matter."""

PACKED: Mapping[bytes, Callable[[IO[bytes]], Iterator[bytes]]] = {
    ZSTD_MAGIC: zstd_pieces,
    LZ4_MAGIC: lz4_pieces,
}
"""By a file's first four bytes."""


def open_packed(path: Path, max_message_bytes: int) -> LogFile:
    """Unpack a log into the folder for temporary files, and open it there; the copy goes when it is closed.

    Of a file that is cut off or damaged, what comes before the damage is opened.

    Args:
        path: a file whose first bytes are in `PACKED`.
        max_message_bytes: as for `open_log_file`.

    Raises:
        LogError: nothing in it can be read, or it unpacks to more than is allowed.
        WriteError: the folder for temporary files has no room for it.
    """
    copies = TemporaryCopies()
    try:
        inside = copies.path / "log"
        problem = _unpack(path, inside, copies.path)
        try:
            if _magic(inside) in PACKED:
                raise LogError(path, "is compressed twice; unpack it once")  # noqa: TRY301
            return _UnpackedFile(path, open_log_file(inside, max_message_bytes), copies, problem)
        except LogError as error:
            detail = f"{problem}; {error.detail}" if problem else error.detail
            raise LogError(path, f"compressed as a whole file; what it unpacks to: {detail}") from error
    except BaseException:
        copies.close()
        raise


def _unpack(path: Path, target: Path, folder: Path) -> str:
    """Unpack all that can be; gives what is wrong with the rest."""
    packed = path.stat().st_size
    limit = max(ALWAYS_ALLOWED_BYTES, packed * MAX_RATIO)
    size = 0
    pieces = PACKED[_magic(path)]
    try:
        with path.open("rb") as source, target.open("xb") as out:
            try:
                for piece in pieces(source):
                    size += len(piece)
                    if size > limit:
                        raise LogError(
                            path,
                            f"{packed} bytes unpack to more than {limit}, which is the limit; unpack it yourself "
                            f"if that is right",
                        )
                    out.write(piece)
            except UnpackError as error:
                return f"its compression is damaged after {size} bytes: {printable(error)}"
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        room = shutil.disk_usage(folder).free
        raise WriteError(
            f"{printable(path)} is compressed as a whole, and {folder.parent} has no room to unpack it ({size / 1e6:.0f} "
            f"MB written, {room / 1e6:.0f} MB left); make room, or set TMPDIR to another folder",
            exit_status=EXIT_RETRY,
        ) from error
    return ""


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


class _UnpackedFile:
    """A log in a temporary copy, under the name of the file that it was unpacked from; see `LogFile`."""

    def __init__(self, path: Path, inside: LogFile, copies: TemporaryCopies, problem: str) -> None:
        self.path = path
        self._inside = inside
        self._copies = copies
        self._problem = problem
        self.channels = inside.channels
        self.start_ns = inside.start_ns
        self.stop_ns = inside.stop_ns
        self.message_count = inside.message_count
        self.counts_by_index = inside.counts_by_index

    @property
    def losses(self) -> tuple[Loss, ...]:
        own = [Loss("*", 0, 0, 0, self._problem)] if self._problem else []
        return (*own, *self._inside.losses)

    def counts(self) -> Mapping[int, int]:
        return self._inside.counts()

    def messages(
        self, channels: Sequence[Channel], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        try:
            yield from self._inside.messages(channels, start_ns, stop_ns)
        except LogError as error:
            raise LogError(self.path, error.detail) from error

    def close(self) -> None:
        self._inside.close()
        self._copies.close()

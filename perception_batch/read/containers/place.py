"""Where a log lies: on a disk of this machine, or behind a URL that `fsspec` opens."""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from perception_batch.errors import EXIT_RETRY, ConfigError, LogError, WriteError, printable

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")

LOCAL_LOOK_BYTES = 1024
"""Small records lie far apart: a larger look would read bytes that nobody asked for."""
_SHORT_BYTES, _LONG_BYTES = 64, 16 << 10
REMOTE_LOOK_BYTES = 64 << 10
"""Each request costs a round trip, so a few bytes too many are cheaper than another one."""


def log_path(text: str) -> Path:
    """A path, or what stands for one where `text` is a URL such as ``s3://bucket/drive.mcap``.

    Raises:
        ConfigError: a URL without the packages that open it, or of a kind that they do not know.
    """
    if not _URL.match(text):
        return Path(text)
    try:
        from upath import UPath
    except ImportError:
        raise ConfigError(
            f'{printable(text)} is a URL: pip install "perception-batch[remote]" to read those'
        ) from None
    try:
        path = UPath(text)
        _ = path.fs  # finds the package that opens this kind of URL
    except (ValueError, ImportError) as error:
        reason = printable(" ".join(str(error).split()))
        raise ConfigError(f"{printable(text)} cannot be opened: {reason}") from error
    # What is not on this machine is no `pathlib.Path`, but has the methods of one that are used here.
    return Path(path.path) if path.protocol in ("file", "local") else cast("Path", path)


def is_remote(path: Path) -> bool:
    """True where `path` stands for a URL."""
    return not isinstance(path, Path)


class FileBytes:
    """Any part of a file, wherever it lies; small parts that lie together are read together."""

    def __init__(self, path: Path) -> None:
        self._file = _open_raw(path)
        self.look_bytes = REMOTE_LOOK_BYTES if is_remote(path) else LOCAL_LOOK_BYTES
        """How much is read where less is asked for."""
        self.size = self._file.seek(0, 2)
        self._begin = 0
        self._kept = b""

    def read(self, at: int, size: int) -> bytes:
        """At most `size` bytes from `at`, fewer only at the end of the file."""
        size = min(size, self.size - at)
        if at < 0 or size <= 0:
            return b""
        skip = at - self._begin
        start = self._kept[skip : skip + size] if 0 <= skip < len(self._kept) else b""
        missing = size - len(start)
        if not missing:
            return start
        if len(start) <= _SHORT_BYTES and size >= _LONG_BYTES:
            start, missing = b"", size  # to join the parts would cost more than to read a few bytes again
        self._file.seek(at + len(start))
        if missing >= self.look_bytes:
            return start + self._read_fully(missing) if start else self._read_fully(missing)
        self._begin, self._kept = at + len(start), self._read_fully(self.look_bytes)
        return start + self._kept[:missing]

    def close(self) -> None:
        """Release the file."""
        self._kept = b""
        self._file.close()

    def _read_fully(self, size: int) -> bytes:
        data: bytes = self._file.read(size) or b""
        if len(data) >= size:
            return data
        parts = [data]
        while data and (size := size - len(data)) > 0:
            data = self._file.read(size) or b""
            parts.append(data)
        return b"".join(parts)


class MemoryBytes:
    """The same for bytes in memory."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._view = memoryview(data)
        self.size = len(data)

    def read(self, at: int, size: int) -> bytes:
        """At most `size` bytes from `at`, fewer only at the end."""
        return bytes(self._view[at : at + size])


def _open_raw(path: Path) -> BinaryIO:
    if not is_remote(path):
        return cast("BinaryIO", path.open("rb", buffering=0))
    opened: Any = path
    file: BinaryIO = opened.open("rb", block_size=REMOTE_LOOK_BYTES, cache_type="none")
    if not file.seekable():
        file.close()
        raise LogError(path, "its server does not hand out parts of a file; download it first")
    return file


class TemporaryCopies:
    """A folder for copies of files that cannot be read where they lie; removed when closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="perception_batch_")
        self.path = Path(self._folder.name)
        """The folder."""

    def add(self, files: Sequence[tuple[Path, str]]) -> None:
        """Copy `files`, each under a new name.

        Raises:
            WriteError: the folder for temporary files has no room for them.
        """
        needed = sum(file.stat().st_size for file, _ in files)
        room = shutil.disk_usage(self.path).free
        if needed > room:
            raise self._full(files[0][0], needed, room)
        try:
            for file, name in files:
                with file.open("rb") as source, (self.path / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise self._full(files[0][0], needed, shutil.disk_usage(self.path).free) from error

    def close(self) -> None:
        """Remove the copies."""
        self._folder.cleanup()

    def _full(self, file: Path, needed: int, room: int) -> WriteError:
        return WriteError(
            f"{printable(file)} can only be read from a copy of {needed / 1e6:.0f} MB, and "
            f"{self.path.parent} has {room / 1e6:.0f} MB left; make room, or set TMPDIR to another folder",
            exit_status=EXIT_RETRY,
        )


def local_copy(path: Path, copies: TemporaryCopies, name: str = "log") -> Path:
    """`path` itself where it is on this machine, else a copy of it in `copies`.

    Raises:
        WriteError: no room for the copy.
    """
    if not is_remote(path):
        return path
    copies.add([(path, name)])
    return copies.path / name

"""What tells one recording from another without reading it: sizes, first and last bytes; never a time of change.

`DriveLog.fingerprint` tells the same of a log that is open, and is what a run's files carry. This one works on paths
alone, so that a thousand finished drives are looked at in a second or two. Where it differs from the stored one, the
log is opened and asked; it must therefore change whenever the log does, and may change when the log does not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

END_BYTES = 1 << 20
"""Most that is read at either end of a file: an MCAP's summary and a bag's index stand at the end."""
_LEAST_END_BYTES = 16 << 10
_SHARE = 400
"""A quarter per cent of a file at either end, as in `DriveLog.fingerprint`: a run may read its log once and a little."""
MOST_ENDS = 64
"""Files of a drive whose ends are read; of more (a folder of images) an even choice, and every file's name and size."""
MOST_FILES = 2_000_000
_OF_FILE = ("-wal", "-journal")
"""What SQLite keeps beside a database that was not closed."""
_OF_STEM = (".start_ns", ".stamps.txt", ".stamps.csv")
"""When a video begins, or its pictures' own stamps."""
_ABOVE = tuple(name + suffix for name in ("stamps", "timestamps", "times") for suffix in (".csv", ".txt"))
"""Stamps of a folder of images that stand in the folder above."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the files of a drive look like from outside."""

    fingerprint: str
    """SHA-256, hexadecimal."""
    size_bytes: int
    """Of all files together."""
    files: int
    """How many."""
    modified_s: float
    """Newest time of change, seconds since 1970; for ``--since`` only, it is no part of the fingerprint."""


def content_of(paths: Sequence[Path]) -> Content | None:
    """Look at the files of a drive: half a per cent of each is read, at least 32 KiB and at most 2 MiB. None where a path is a URL's.

    Files beside a log that bear its name belong to it (a ``-wal`` file, a video's ``.start_ns``).

    Args:
        paths: files and folders, as in `Drive.paths`.

    Raises:
        OSError: a file is not there or cannot be read.
    """
    if not all(isinstance(path, Path) for path in paths):  # a URL's path has the methods without being one
        return None
    files = list(_files(paths))
    digest = hashlib.sha256()
    stride = max(1, -(-len(files) // MOST_ENDS))
    total, newest = 0, 0.0
    for number, (name, path) in enumerate(files):
        found = path.stat()
        total += found.st_size
        newest = max(newest, found.st_mtime)
        digest.update(f"{name}\0{found.st_size}\0".encode("utf-8", "surrogateescape"))
        if number % stride == 0:
            with path.open("rb") as stream:
                part = min(max(found.st_size // _SHARE, _LEAST_END_BYTES), END_BYTES)
                digest.update(stream.read(part))
                if found.st_size > part:
                    stream.seek(max(part, found.st_size - part))
                    digest.update(stream.read(part))
    return Content(digest.hexdigest(), total, len(files), newest)


def size_of(paths: Sequence[Path]) -> int:
    """Bytes of all files of a drive, by their sizes alone.

    Raises:
        OSError: a file is not there.
    """
    return sum(path.stat().st_size for _, path in _files(paths))


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Each file of a drive with its name inside it, in a fixed order; the place of the drive is no part of that."""
    count = 0
    for path in paths:
        found: Iterable[tuple[str, Path]]
        if path.is_dir():
            found = chain(
                _below(path), ((name, file) for name in _ABOVE if (file := path.parent / name).is_file())
            )
        else:
            found = [("", path), *((beside.name, beside) for beside in _companions(path))]
        for name, file in found:
            count += 1
            if count > MOST_FILES:
                raise OSError(f"{path}: more than {MOST_FILES} files in one drive")
            yield name, file


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        here = Path(place)
        for name in sorted(names):
            file = here / name
            if file.is_file():  # no sockets, no links that lead nowhere
                yield file.relative_to(folder).as_posix(), file


def _companions(path: Path) -> list[Path]:
    """Files beside a log that belong to it; by name, since listing the folder for each of its drives is slow."""
    names = [f"{path.name}{ending}" for ending in _OF_FILE] + [f"{path.stem}{ending}" for ending in _OF_STEM]
    return [beside for name in names if (beside := path.with_name(name)).is_file()]

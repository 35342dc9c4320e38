"""Text files that grow under another name and appear whole: a reader never meets half an index."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from perception_batch.atomic import AtomicFile, disk_errors, write_whole


class PartFile:
    """Has another name until `commit`; is gone after `discard`.

    Raises:
        WriteError: from every method, where the disk is full or refuses.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = AtomicFile(path)

    def write(self, text: str) -> None:
        """Append `text`."""
        with disk_errors(self._path):
            self._file.stream.write(text.encode())

    def commit(self) -> Path:
        """Flush to the disk and rename; the place of the finished file."""
        self._file.commit()
        return self._path

    def discard(self) -> None:
        """Close and remove it; no error where it is gone already."""
        self._file.discard()

    def append_and_discard(self, other: PartFile) -> None:
        """Append all of `other`, a piece at a time, and remove it."""
        with disk_errors(self._path):
            other._file.stream.close()
            with other._file.partial.open("rb") as source:
                shutil.copyfileobj(source, self._file.stream, 1 << 20)
        other.discard()


def write_text(path: Path, text: str) -> Path:
    """Write a small file whole.

    Raises:
        WriteError: the disk is full or refuses.
    """
    write_whole(path, text.encode())
    return path


def write_new(path: Path, text: str) -> None:
    """Write the small label file of one image, not whole at once: only the index makes it part of a set.

    Raises:
        FileExistsError: it is there already.
        WriteError: the disk is full or refuses.
    """
    with disk_errors(path), path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)


def discard_all(files: Sequence[PartFile]) -> None:
    """Remove every one of `files`."""
    for file in files:
        file.discard()

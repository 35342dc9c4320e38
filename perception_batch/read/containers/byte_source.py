"""A file that is read at places, by several readers in turn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from perception_batch.read.containers.place import FileBytes, is_remote


class ByteSource:
    """An open file; what is asked for is read and no more, where the file lies on this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._shared: FileBytes | None = None
        self._file: IO[bytes] | None = None
        if is_remote(path) or not hasattr(os, "pread"):
            self._shared = FileBytes(path)
            self.size = self._shared.size
        else:
            self._file = path.open("rb", buffering=0)
            self.size = self._file.seek(0, os.SEEK_END)

    def read(self, at: int, size: int) -> bytes:
        """At most `size` bytes from `at`; fewer only at the end of the file."""
        size = min(size, self.size - at)
        if at < 0 or size <= 0:
            return b""
        if self._file is None:
            return b"" if self._shared is None else self._shared.read(at, size)
        data = os.pread(self._file.fileno(), size, at)
        if len(data) == size:
            return data
        # One call of the system reads 2 GiB at most.
        parts = [data]
        while data and (size := size - len(data)) > 0:
            at += len(data)
            data = os.pread(self._file.fileno(), size, at)
            parts.append(data)
        return b"".join(parts)

    def close(self) -> None:
        """Release the file."""
        for file in (self._file, self._shared):
            if file is not None:
                file.close()

    def __enter__(self) -> ByteSource:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

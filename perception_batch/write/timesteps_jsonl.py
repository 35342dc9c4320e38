"""``timesteps.jsonl``: one JSON object a line, for people and for programs without Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from perception_batch.errors import LogError
from perception_batch.types import TimestepResult
from perception_batch.write.atomic import AtomicFile, disk_errors
from perception_batch.write.rows import DriveFacts
from perception_batch.write.timestep_line import LineMaker

FILE_NAMES = {"jsonl": "timesteps.jsonl", "jsonl.zst": "timesteps.jsonl.zst"}
_ZSTD_LEVEL = 6


class JsonLinesWriter:
    """A `Writer` of ``timesteps.jsonl`` or, compressed, ``timesteps.jsonl.zst``."""

    def __init__(self, directory: Path, facts: DriveFacts, form: Literal["jsonl", "jsonl.zst"]) -> None:
        """Open the file.

        Raises:
            WriteError: the disk is full or refuses.
        """
        self.path = directory / FILE_NAMES[form]
        self._others = [directory / name for name in FILE_NAMES.values() if name != self.path.name]
        self._lines = LineMaker(facts)
        self._file: AtomicFile | None = AtomicFile(self.path)
        self._stream: IO[bytes] = self._file.stream
        if form == "jsonl.zst":
            import zstandard

            self._stream = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(
                self._file.stream, closefd=False
            )

    def write(self, result: TimestepResult) -> None:
        """Add the line of one timestep.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        if self._file is None:
            raise ValueError(f"{self.path.name}: written to after it was closed")
        line = self._lines.line(result)
        try:
            with disk_errors(self.path):
                self._stream.write(line.encode() + b"\n")
        except BaseException:
            self.discard()
            raise

    def close(self) -> None:
        """Put the file in its place, and remove one of an earlier run in the other form.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        if self._file is None:
            return
        file = self._file
        try:
            with disk_errors(self.path):
                if self._stream is not file.stream:
                    self._stream.close()
        except BaseException:
            self.discard()
            raise
        self._file = None
        file.commit()
        for other in self._others:
            with disk_errors(other):
                other.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `close`."""
        if self._file is not None:
            file, self._file = self._file, None
            file.discard()


def read_timesteps(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of ``timesteps.jsonl`` or ``timesteps.jsonl.zst``, one at a time.

    Raises:
        LogError: a line is no JSON object, or the compressed file is damaged.
        FileNotFoundError: there is no such file.
    """
    with _lines(path) as stream:
        number = 0
        while True:
            number += 1
            try:
                line = stream.readline()
                if not line:
                    return
                value = json.loads(line)
            except (ValueError, OSError) as error:
                raise LogError(path, f"line {number}: {error}; make it again with `fuse`") from None
            if not isinstance(value, dict):
                raise LogError(path, f"line {number}: not a JSON object; make it again with `fuse`")
            yield value


def _lines(path: Path) -> IO[Any]:
    if path.suffix == ".zst":
        import zstandard

        opened: IO[Any] = zstandard.open(path, "rt", encoding="utf-8")
        return opened
    return path.open(encoding="utf-8")

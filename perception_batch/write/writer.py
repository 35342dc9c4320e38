"""What every writer of results offers, and a group that opens, writes and closes them together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar, runtime_checkable

from perception_batch.types import TimestepResult

Self = TypeVar("Self", bound="WriterGroup")
_log = logging.getLogger(__name__)


@runtime_checkable
class Writer(Protocol):
    """Writes the results of a drive, timestep after timestep, to one file.

    The file is ``<name>.partial`` until `close`. Closing after an error or Ctrl-C keeps the rows so far:
    that they are not all is said by the manifest, not by the file.
    """

    path: Path
    """Where the file will be."""

    def write(self, result: TimestepResult) -> None:
        """Add one timestep; they come in order.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """

    def close(self) -> None:
        """Put the file in its place; a second call does nothing.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `close`."""


class WriterGroup:
    """Several writers as one: opens all, writes to all, closes all even on error.

    Example:
        >>> with WriterGroup([lambda: ObjectsWriter(out, facts)]) as group:  # doctest: +SKIP
        ...     for result in results:
        ...         group.write(result)
    """

    def __init__(self, openers: Sequence[Callable[[], Writer]]) -> None:
        """`openers` open their files when the group is entered; if one fails, those before it are removed."""
        self._openers = tuple(openers)
        self._writers: list[Writer] = []

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return [writer.path for writer in self._writers]

    def __enter__(self: Self) -> Self:
        try:
            for opener in self._openers:
                self._writers.append(opener())
        except BaseException:
            for writer in reversed(self._writers):
                writer.discard()
            raise
        return self

    def write(self, result: TimestepResult) -> None:
        """Give one timestep to every writer.

        Raises:
            WriteError: from the first writer that fails.
        """
        for writer in self._writers:
            writer.write(result)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        first: Exception | None = None
        for writer in self._writers:
            try:
                writer.close()
            except Exception as failure:
                first = first or failure
        if first is not None:
            if error is None:
                raise first
            _log.warning("while stopping: %s", first)  # the error that stopped the run is the one to report

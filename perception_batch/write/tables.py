"""The writers of the Parquet tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

import pyarrow as pa

from perception_batch.table_format import TableFormat
from perception_batch.types import EgoPose, FrameRow, TimestepResult, TrackSummary
from perception_batch.write import schemas
from perception_batch.write.result_columns import TIMED
from perception_batch.write.rows import DriveFacts, ego_columns, frames_columns, tracks_columns
from perception_batch.write.table_file import TIMESTEPS_PER_GROUP, TableFile

_ROWS_AT_ONCE = 512
_RESULTS_AT_ONCE = 64
"""Timesteps whose rows are made together: some hundred kilobytes of results wait for it."""

Row = TypeVar("Row")
Self = TypeVar("Self", bound="_RowWriter[Any]")


class ResultTableWriter:
    """A `Writer` of one of the tables that are made of results."""

    def __init__(self, directory: Path, facts: DriveFacts, table: str) -> None:
        """`table` is ``detections``, ``timesteps``, ``objects`` or ``observations``.

        Raises:
            WriteError: the disk is full or refuses.
        """
        table_format, self._columns = TIMED[table]
        self._facts = facts
        metadata = facts.metadata() if table == "timesteps" else {}
        self._file = TableFile(directory, table_format, metadata)
        self._results: list[TimestepResult] = []
        self.path = self._file.path

    def write(self, result: TimestepResult) -> None:
        """Add the rows of one timestep; results are gathered, so most calls are cheap."""
        waiting = self._results
        if waiting and (
            len(waiting) >= _RESULTS_AT_ONCE
            or waiting[-1].index // TIMESTEPS_PER_GROUP != result.index // TIMESTEPS_PER_GROUP
        ):
            self._hand_over()
        self._file.check(result.index)
        self._results.append(result)

    def _hand_over(self) -> None:
        results, self._results = self._results, []
        if results:
            columns = self._columns(self._facts, results)
            self._file.add(self._file.batch(columns), results[0].index)

    def close(self) -> None:
        """Put the file in its place; a second call does nothing."""
        self._hand_over()
        self._file.close()

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `close`."""
        self._results = []
        self._file.discard()


class ChangesWriter:
    """A `Writer` of ``mounts.parquet`` or ``lenses.parquet``; there is no file unless a camera's pose or lens changes."""

    def __init__(self, directory: Path, facts: DriveFacts, table: Literal["mounts", "lenses"]) -> None:
        self._open = partial(ResultTableWriter, directory, facts, table)
        self._table = table
        self._writer: ResultTableWriter | None = None
        self.path = directory / TIMED[table][0].file_name

    def write(self, result: TimestepResult) -> None:
        """Add the rows of one timestep."""
        if result.mounts if self._table == "mounts" else result.lenses:
            self._writer = self._writer or self._open()
            self._writer.write(result)

    def close(self) -> None:
        """Put the file in its place; a second call does nothing."""
        if self._writer is not None:
            self._writer.close()

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `close`."""
        if self._writer is not None:
            self._writer.discard()


class _RowWriter(Generic[Row]):
    """A table that is not made of results: a context manager; rows are gathered, so `write` is cheap."""

    def __init__(
        self, directory: Path, table: TableFormat, columns: Callable[[Sequence[Row]], dict[str, pa.Array]]
    ) -> None:
        self._columns = columns
        self._file = TableFile(directory, table)
        self._rows: list[Row] = []
        self.path = self._file.path

    def write(self, rows: Iterable[Row]) -> None:
        """Add rows, in the order in which the stream settled them."""
        self._rows.extend(rows)
        while len(self._rows) >= _ROWS_AT_ONCE:
            self._hand_over()

    def _hand_over(self) -> None:
        rows, self._rows = self._rows[:_ROWS_AT_ONCE], self._rows[_ROWS_AT_ONCE:]
        self._file.add(self._file.batch(self._columns(rows)))

    def close(self) -> None:
        """Put the file in its place; a second call does nothing."""
        while self._rows:
            self._hand_over()
        self._file.close()

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `close`."""
        self._rows = []
        self._file.discard()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FramesWriter(_RowWriter[FrameRow]):
    """``frames.parquet``: every camera frame of the log and what became of it."""

    def __init__(self, directory: Path, facts: DriveFacts) -> None:
        """Open the file.

        Raises:
            WriteError: the disk is full or refuses.
        """
        super().__init__(directory, schemas.FRAMES, partial(frames_columns, facts))


class EgoWriter(_RowWriter[EgoPose]):
    """``ego.parquet``: the vehicle's poses at the log's rate; without poses it has no rows."""

    def __init__(self, directory: Path, facts: DriveFacts) -> None:
        """Open the file.

        Raises:
            WriteError: the disk is full or refuses.
        """
        super().__init__(directory, schemas.EGO, partial(ego_columns, facts))


class TracksWriter:
    """``tracks.parquet``: every track of the drive, by its id. Written whole when it is closed: a row is small."""

    def __init__(self, directory: Path, facts: DriveFacts) -> None:
        """Open the file.

        Raises:
            WriteError: the disk is full or refuses.
        """
        self._writer = _RowWriter[TrackSummary](directory, schemas.TRACKS, partial(tracks_columns, facts))
        self._rows: list[TrackSummary] = []
        self.path = self._writer.path

    def write(self, rows: Iterable[TrackSummary]) -> None:
        """Take tracks that have ended, in any order."""
        self._rows.extend(rows)

    def close(self) -> None:
        """Put the file in its place; a second call does nothing."""
        rows, self._rows = self._rows, []
        self._writer.write(sorted(rows, key=lambda row: row.track_id))
        self._writer.close()

    def __enter__(self) -> TracksWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

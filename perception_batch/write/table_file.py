"""One Parquet file, written as rows come, whose bytes depend on its rows alone."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from perception_batch.table_format import TableFormat
from perception_batch.write.atomic import AtomicFile, disk_errors

TIMESTEPS_PER_GROUP = 256
"""Timesteps in one row group: 25 s at 10 Hz, about 50,000 boxes of six cameras, some megabytes in memory."""
ROWS_PER_GROUP = 16384
"""Rows in one row group of the tables that are not counted in timesteps."""

Self = TypeVar("Self", bound="TableFile")


class _Sink(io.RawIOBase):
    """Where Parquet writes to: the file, or nowhere after the file is given up.

    Arrow's writer has a footer to write whenever it goes; a full disk must not meet it again then.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream: BinaryIO | None = stream
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any, /) -> int:
        if self._stream is not None:
            self._stream.write(data)
        size = memoryview(data).nbytes
        self._position += size
        return size

    def flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()

    def give_up(self) -> None:
        """Let all that follows vanish."""
        self._stream = None


class TableFile:
    """A Parquet file with fixed row groups: how rows are handed over leaves no trace in the bytes.

    Rows of timesteps ``[k * TIMESTEPS_PER_GROUP, (k + 1) * TIMESTEPS_PER_GROUP)`` form one row group, rows
    without a timestep form groups of `ROWS_PER_GROUP`. There is no clock, host or path in the file.
    """

    def __init__(
        self, directory: Path, table: TableFormat, metadata: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Open ``<directory>/<table>.parquet.partial``; `metadata` joins that of the schema.

        Raises:
            WriteError: the disk is full or refuses.
        """
        self.path = directory / table.file_name
        schema = table.arrow()
        self._schema = schema.with_metadata({**schema.metadata, **metadata})
        self._file: AtomicFile | None = AtomicFile(self.path)
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._group = 0
        self.rows = 0
        self._sink = _Sink(self._file.stream)
        self._parquet: Any = None
        try:
            with disk_errors(self.path):
                self._parquet = pq.ParquetWriter(
                    self._sink, self._schema, compression="zstd", version="2.6", use_dictionary=True
                )
        except BaseException:
            self.discard()
            raise

    def batch(self, columns: dict[str, pa.Array]) -> pa.RecordBatch:
        """Rows from one Arrow array a column, in the order of the schema."""
        return pa.RecordBatch.from_arrays([columns[name] for name in self._schema.names], schema=self._schema)

    def check(self, timestep: int | None = None) -> None:
        """Whether rows can be added.

        Raises:
            ValueError: the file is closed, or the timestep comes after one of a later row group.
        """
        if self._file is None:
            raise ValueError(f"{self.path.name}: written to after it was closed")
        if timestep is not None and timestep // TIMESTEPS_PER_GROUP < self._group:
            raise ValueError(f"{self.path.name}: timestep {timestep} comes after one of a later group")

    def add(self, batch: pa.RecordBatch, timestep: int | None = None) -> None:
        """Add rows; with `timestep` they belong to it, and timesteps come in rising order.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        self.check(timestep)
        if timestep is not None:
            group = timestep // TIMESTEPS_PER_GROUP
            if group > self._group:
                self._flush(self._pending_rows)
                self._group = group
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self.rows += batch.num_rows
        while timestep is None and self._pending_rows >= ROWS_PER_GROUP:
            self._flush(ROWS_PER_GROUP)

    def _flush(self, rows: int) -> None:
        """Write the first `rows` pending rows as one row group."""
        if rows == 0:
            return
        # One chunk, because the boundaries of chunks would show in the data pages.
        table = pa.Table.from_batches(self._pending, self._schema).combine_chunks()
        group, rest = table.slice(0, rows), table.slice(rows)
        try:
            with disk_errors(self.path):
                self._parquet.write_table(group, row_group_size=rows)
        except BaseException:
            self.discard()
            raise
        self._pending = rest.to_batches()
        self._pending_rows = rest.num_rows

    def close(self) -> None:
        """Write what is pending and put the file in its place; a second call does nothing.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        if self._file is None:
            return
        self._flush(self._pending_rows)
        file = self._file
        try:
            with disk_errors(self.path):
                self._parquet.close()
        except BaseException:
            self.discard()
            raise
        self._file = None
        file.commit()

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `close`."""
        if self._file is not None:
            file, self._file = self._file, None
            self._pending, self._pending_rows = [], 0
            self._sink.give_up()
            if self._parquet is not None:
                with contextlib.suppress(OSError, pa.ArrowException):
                    self._parquet.close()
            file.discard()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

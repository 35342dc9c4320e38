"""The tables of a run from the disk: whole, of this version, and of one and the same run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perception_batch.errors import LogError
from perception_batch.table_format import TableFormat
from perception_batch.types import Detections
from perception_batch.write import schemas
from perception_batch.write.schemas import SCHEMA_VERSION

_ROWS_AT_ONCE = 16384


class BoxCursor:
    """Goes through ``detections.parquet`` once, from front to back.

    Its methods raise `LogError` where the table is damaged, or does not belong to the timesteps.
    """

    _NAMES = ("timestep", "camera", "x1", "y1", "x2", "y2", "score", "class_id")

    def __init__(self, path: Path, file: pq.ParquetFile) -> None:
        self._path = path
        self._batches = batches(path, file, schemas.DETECTIONS, list(self._NAMES))
        self._timestep = np.zeros(0, np.int32)
        self._camera: list[str] = []
        self._stops = np.zeros(0, np.int64)  # by row: where the boxes of its timestep and camera end
        self._xyxy = np.zeros((0, 4), np.float32)
        self._score = np.zeros(0, np.float32)
        self._class_id = np.zeros(0, np.int16)
        self._at = 0

    def take(self, timestep: int, camera: str, count: int) -> Detections:
        """The next `count` boxes, which must be those of `timestep` and `camera`."""
        parts: list[Detections] = []
        while count > 0:
            at = self._at
            if at == len(self._camera):
                if not self._load():
                    raise self._mismatch(timestep)
                at = 0
            n = min(count, len(self._camera) - at)
            if self._timestep[at] != timestep or self._camera[at] != camera or self._stops[at] < at + n:
                raise self._mismatch(timestep)
            rows = slice(at, at + n)
            # Copies, so that a few boxes do not hold the whole batch.
            boxes = (self._xyxy[rows].copy(), self._score[rows].copy(), self._class_id[rows].copy())
            parts.append(Detections(*boxes))
            self._at, count = at + n, count - n
        if not parts:
            return Detections.empty()
        if len(parts) == 1:
            return parts[0]
        return Detections(
            np.concatenate([p.xyxy for p in parts]),
            np.concatenate([p.score for p in parts]),
            np.concatenate([p.class_id for p in parts]),
        )

    def expect_end(self) -> None:
        """Check that no box is left."""
        if self._at < len(self._camera) or self._load():
            raise self._mismatch(int(self._timestep[self._at]))

    def _load(self) -> bool:
        for batch in self._batches:
            if not batch.num_rows:
                continue
            columns = dict(zip(self._NAMES, batch.columns, strict=True))
            if any(column.null_count for column in batch.columns):
                raise LogError(self._path, "damaged: it has rows with null")
            camera = columns["camera"].dictionary_encode()
            names = camera.dictionary.to_pylist()
            codes = camera.indices.to_numpy()
            self._camera = [names[code] for code in codes.tolist()]
            self._timestep = columns["timestep"].to_numpy()
            last = np.flatnonzero((np.diff(self._timestep) != 0) | (np.diff(codes) != 0))
            stops = np.append(last + 1, batch.num_rows)
            self._stops = np.repeat(stops, np.diff(stops, prepend=0))
            self._xyxy = np.stack([columns[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1)
            self._score, self._class_id = columns["score"].to_numpy(), columns["class_id"].to_numpy()
            self._at = 0
            return True
        return False

    def _mismatch(self, timestep: int) -> LogError:
        return LogError(
            self._path,
            f"does not agree with {schemas.TIMESTEPS.file_name} from timestep {timestep} on: the files are of "
            "different runs or damaged; run again with --overwrite",
        )


def open_table(directory: Path, table: TableFormat) -> pq.ParquetFile:
    """A table of a run, checked.

    Raises:
        LogError: it is missing, damaged, of a newer version, or another table.
    """
    path = directory / table.file_name
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise LogError(
            path, "is missing, so this is no run, or one that never finished; run it again"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise LogError(path, f"cannot be read: {' '.join(str(error).split())}") from None
    try:
        _check(path, file.schema_arrow, table)
    except LogError:
        file.close()
        raise
    return file


def _check(path: Path, schema: pa.Schema, table: TableFormat) -> None:
    version = (schema.metadata or {}).get(b"schema", b"")
    if not version.isdigit():
        raise LogError(path, "is not a table of this package: it has no `schema` in its metadata")
    if int(version) > SCHEMA_VERSION:
        raise LogError(
            path,
            f"schema {int(version)} is of a newer version; this one reads up to {SCHEMA_VERSION}: update "
            "perception_batch",
        )
    if missing := {c.name for c in table.columns} - set(schema.names):
        raise LogError(path, f"columns missing: {', '.join(sorted(missing))}")


def batches(
    path: Path, file: pq.ParquetFile, table: TableFormat, names: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of the named columns (all of the format where None), in that order and with its types."""
    names = names if names is not None else [c.name for c in table.columns]
    types = {c.name: pa.type_for_alias(c.type) for c in table.columns}
    try:
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=names):
            yield pa.RecordBatch.from_arrays(
                [batch.column(batch.schema.get_field_index(name)).cast(types[name]) for name in names], names
            )
    except (pa.ArrowException, OSError) as error:
        raise LogError(path, f"damaged: {' '.join(str(error).split())}") from None

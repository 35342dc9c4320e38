"""Parquet columns as NumPy arrays, with errors that name the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.errors import LogError

NEWEST_SCHEMA = 1
"""Highest version of the tables, of runs and of truth, that this room knows."""


def read_columns(path: Path, columns: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The named columns; nulls are NaN in floats, -1 in integers, None in text.

    Raises:
        LogError: the file is missing, damaged, of a newer version, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            version = (schema.metadata or {}).get(b"schema", b"1")
            if not version.isdigit() or int(version) > NEWEST_SCHEMA:
                raise LogError(
                    path, f"schema {version!r} is of a newer version; update perception_batch to read it"
                )
            if missing := set(columns) - set(schema.names):
                raise LogError(path, f"columns missing: {', '.join(sorted(missing))}")
            table = file.read(columns=list(columns))
    except FileNotFoundError:
        raise LogError(path, "is missing") from None
    except (pa.ArrowException, OSError) as error:
        raise LogError(path, f"cannot be read: {' '.join(str(error).split())}") from None
    return {name: _array(table.column(name)) for name in columns}


def _array(column: Any) -> npt.NDArray[Any]:
    import pyarrow as pa

    if pa.types.is_integer(column.type):
        # Filled before the change to NumPy: with nulls it would go through float64 and lose nanoseconds.
        return np.asarray(column.fill_null(-1).to_numpy(), np.int64)
    if pa.types.is_floating(column.type):
        return np.asarray(column.to_numpy(), np.float64)
    if pa.types.is_boolean(column.type):
        return np.asarray(column.fill_null(False).to_numpy(), bool)
    return np.asarray(column.to_numpy(), object)

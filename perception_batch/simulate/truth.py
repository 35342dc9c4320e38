"""Writes the truth of a drive as it goes, and reads it back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perception_batch.calibration import Camera
from perception_batch.errors import LogError, printable
from perception_batch.simulate.scene import Drawing, EgoState, Thing
from perception_batch.simulate.timing import Cycle, Shot
from perception_batch.simulate.truth_objects import object_columns
from perception_batch.simulate.truth_tables import (
    BOXES,
    EGO,
    FAULTS,
    OBJECTS,
    TABLES,
    TIMESTEPS,
    TRUTH_VERSION,
)
from perception_batch.table_format import TableFormat

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_GROUP = 8192
"""Rows in one row group: a few seconds of a busy street; some megabytes in memory, whatever the drive's length."""


class TableRows:
    """One table, written in groups of a fixed number of rows: the bytes depend on the rows alone."""

    def __init__(self, folder: Path, table: TableFormat) -> None:
        import pyarrow.parquet as pq

        self._schema = table.arrow()
        self._columns: list[list[Any]] = [[] for _ in table.columns]
        self._file = pq.ParquetWriter(folder / table.file_name, self._schema, compression="zstd")
        self.count = 0

    def add(self, *row: Any) -> None:
        """One row, in the order of the columns."""
        self.add_columns([[value] for value in row])

    def add_columns(self, columns: Sequence[Sequence[Any]]) -> None:
        """Several rows, column by column; all columns have the same length."""
        for column, values in zip(self._columns, columns, strict=True):
            column.extend(values)
        self.count += len(columns[0])
        while len(self._columns[0]) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        arrays = [
            pa.array(column[:ROWS_PER_GROUP], field.type)
            for column, field in zip(self._columns, self._schema, strict=True)
        ]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        for column in self._columns:
            del column[:ROWS_PER_GROUP]

    def close(self) -> None:
        """Write what is left."""
        if self._columns[0]:
            self._flush()
        self._file.close()


class TruthWriter:
    """The truth folder of one drive; cycles must come in order."""

    def __init__(self, folder: Path, start_ns: int) -> None:
        folder.mkdir()
        self._folder = folder
        self._start_ns = start_ns
        self._tables = {table.name: TableRows(folder, table) for table in TABLES}

    def add_cycle(self, cycle: Cycle) -> None:
        """What the plan says of one cycle: frames and faults."""
        rows = self._tables[TIMESTEPS.name]
        for shot in cycle.shots:
            rows.add(
                cycle.index,
                cycle.cycle_ns,
                self._time_s(shot.true_ns),
                shot.camera,
                shot.status == "ok",
                shot.status,
                shot.stamp_ns,
                shot.true_ns,
                shot.log_ns,
                shot.messages,
            )
        for f in cycle.faults:
            self._tables[FAULTS.name].add(f.kind, f.camera, f.cycle, f.stamp_ns, f.log_ns, f.value, f.detail)

    def add_scene(self, cycle: Cycle, ego: EgoState, things: list[Thing]) -> None:
        """The own vehicle and the objects around it at the cycle's time."""
        head = (cycle.index, cycle.cycle_ns, self._time_s(cycle.cycle_ns))
        pose = ego.odom_SE3_base
        self._tables[EGO.name].add(
            *head,
            *map(float, pose.translation_m),
            *map(float, pose.quaternion_xyzw()),
            *map(float, ego.velocity_mps),
            float(ego.yaw_rate_radps),
        )
        if things:
            count = len(things)
            self._tables[OBJECTS.name].add_columns(
                [*([value] * count for value in head), *object_columns(pose, things)]
            )

    def add_boxes(
        self, cycle: Cycle, shot: Shot, drawing: Drawing, seen: Mapping[int, tuple[str, float]]
    ) -> None:
        """The boxes of one picture in the log.

        Args:
            cycle: in which its message was made.
            shot: of the picture.
            drawing: what the picture shows.
            seen: by object id: label, and distance from the camera, m.
        """
        numbers = sorted(drawing.amodal_px)
        if not numbers:
            return
        head = (
            cycle.index,
            cycle.cycle_ns,
            self._time_s(shot.true_ns),
            shot.camera,
            shot.stamp_ns,
            shot.true_ns,
        )
        hidden = (None,) * 4
        self._tables[BOXES.name].add_columns(
            [
                *([value] * len(numbers) for value in head),
                numbers,
                [seen[n][0] for n in numbers],
                *zip(*(drawing.amodal_px[n] for n in numbers), strict=True),
                *zip(*(drawing.visible_px.get(n, hidden) for n in numbers), strict=True),
                [drawing.visible_fraction.get(n, 0.0) for n in numbers],
                [drawing.truncation.get(n, 0.0) for n in numbers],
                [seen[n][1] for n in numbers],
            ]
        )

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each table so far."""
        return {name: rows.count for name, rows in self._tables.items()}

    def close(self, meta: Mapping[str, Any]) -> None:
        """Finish the tables and write ``meta.json`` last."""
        self.abort()
        data = {"schema": TRUTH_VERSION, **meta, "rows": self.counts}
        (self._folder / "meta.json").write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")

    def abort(self) -> None:
        """Close the files."""
        for rows in self._tables.values():
            rows.close()

    def _time_s(self, true_ns: int) -> float:
        return (true_ns - self._start_ns) / 1e9


def seen_from(camera: Camera, ego: EgoState, things: list[Thing]) -> dict[int, tuple[str, float]]:
    """By object id: label, and distance, m, from the camera to the centre of its box."""
    eye = ego.odom_SE3_base.apply(camera.base_SE3_camera.translation_m)
    return {
        t.object_id: (t.label, float(np.linalg.norm(t.odom_SE3_object.translation_m - eye))) for t in things
    }


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The truth of one drive; the tables' columns stand in `truth_tables`."""

    meta: Mapping[str, Any]
    """``meta.json``."""
    timesteps: pa.Table
    """Cycle by camera: which frames belong together."""
    ego: pa.Table
    """The own vehicle at each cycle."""
    objects: pa.Table
    """3-D boxes at each cycle."""
    boxes: pa.Table
    """2-D boxes of each picture."""
    faults: pa.Table
    """What was made to go wrong."""


def load_truth(path: Path) -> Truth:
    """Read the truth of a drive: `path` is the truth folder, or the output folder around it.

    Raises:
        LogError: there is no truth, or it was written by a later version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = path if (path / "meta.json").is_file() else path / "truth"
    try:
        meta = json.loads((folder / "meta.json").read_text())
        version = int(meta["schema"])
    except FileNotFoundError:
        raise LogError(path, "no truth here: neither meta.json nor truth/meta.json") from None
    except (ValueError, KeyError, TypeError) as error:
        raise LogError(folder / "meta.json", f"not a truth's meta.json: {printable(error)}") from None
    if version > TRUTH_VERSION:
        raise LogError(
            folder, f"its truth has schema {version}, this version of perception_batch reads {TRUTH_VERSION}"
        )
    tables: dict[str, pa.Table] = {}
    for table in TABLES:
        try:
            tables[table.name] = pq.read_table(folder / table.file_name)
        except (pa.ArrowException, FileNotFoundError) as error:
            raise LogError(folder / table.file_name, f"cannot be read: {printable(error)}") from None
        if missing := {c.name for c in table.columns} - set(tables[table.name].column_names):
            raise LogError(folder / table.file_name, f"columns missing: {', '.join(sorted(missing))}")
    return Truth(meta, **tables)

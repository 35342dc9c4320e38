"""Reading a run back: what fusion and drawing need to start again, without the log and without pixels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import numpy as np
import pyarrow as pa

from perception_batch.calibration import Intrinsics, Rig
from perception_batch.errors import LogError
from perception_batch.geometry import SE3
from perception_batch.table_format import TableFormat
from perception_batch.types import Detections, EgoPose, FloatArray, FrameStatus, LidarRanges
from perception_batch.write import schemas
from perception_batch.write.rows import DriveFacts
from perception_batch.write.stored_tables import BoxCursor, batches, open_table

_STATUSES = frozenset(get_args(FrameStatus))
_EGO = (
    "stamp_ns",
    "frame_id",
    "source",
    "x_m",
    "y_m",
    "z_m",
    "qx",
    "qy",
    "qz",
    "qw",
    "vx_mps",
    "vy_mps",
    "vz_mps",
)
_LENS = ("model", "width_px", "height_px", "fx_px", "fy_px", "cx_px", "cy_px")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredTimestep:
    """One timestep as detection left it: equal to what went into the tables, to the bit."""

    index: int
    """Counts the timesteps of the run from 0."""
    stamp_ns: int
    """ns."""
    status: Mapping[str, FrameStatus]
    """For every selected camera, in the order of the cameras."""
    frame_stamps_ns: Mapping[str, int]
    """By camera, for those with a frame."""
    detections: Mapping[str, Detections]
    """By camera, for those whose image was decoded."""
    image_hw: Mapping[str, tuple[int, int]]
    """By camera, for those whose image was decoded: height and width of the original image, px."""
    lidar: Mapping[str, LidarRanges] = field(default_factory=dict)
    """By camera, for those of which the lidar tells something: its ranges of the detections."""
    mounts: Mapping[str, SE3] = field(default_factory=dict)
    """By camera, for those that were not where the rig has them: ``base_SE3_camera`` at the frame's stamp."""
    lenses: Mapping[str, Intrinsics] = field(default_factory=dict)
    """By camera, for those whose lens was not as in the rig: the lens at the frame's stamp."""


def read_stored_timesteps(directory: Path, *, lidar: bool = False) -> Iterator[StoredTimestep]:
    """The timesteps of a run in order, one at a time; memory does not grow with their number.

    Args:
        directory: of the run.
        lidar: with the lidar's ranges, which the run must have.

    Raises:
        LogError: a table is missing, damaged, of a newer version, or the two do not belong together.
    """
    if lidar:
        yield from joined_with_lidar(directory, read_stored_timesteps(directory))
        return
    with_mounts = _joined_with_mounts(directory, _plain_timesteps(directory))
    yield from _joined_with_lenses(directory, with_mounts)


def _plain_timesteps(directory: Path) -> Iterator[StoredTimestep]:
    path = directory / schemas.TIMESTEPS.file_name
    with (
        open_table(directory, schemas.TIMESTEPS) as table,
        open_table(directory, schemas.DETECTIONS) as boxes,
    ):
        cursor = BoxCursor(directory / schemas.DETECTIONS.file_name, boxes)
        pending: list[_CameraRow] = []
        for batch in batches(path, table, schemas.TIMESTEPS, list(_CameraRow._fields)):
            # Column by column: a dictionary a row takes three times as long.
            for row in map(_CameraRow, *(column.to_pylist() for column in batch.columns)):
                if pending and row.timestep != pending[0].timestep:
                    yield _timestep(path, pending, cursor)
                    pending = []
                pending.append(row)
        if pending:
            yield _timestep(path, pending, cursor)
        cursor.expect_end()


class _CameraRow(NamedTuple):
    """A row of ``timesteps.parquet``, as far as it is needed."""

    timestep: int
    stamp_ns: int
    camera: str
    status: FrameStatus
    offset_ns: int | None
    width: int | None
    height: int | None
    detections: int


def _timestep(path: Path, rows: list[_CameraRow], cursor: BoxCursor) -> StoredTimestep:
    index, stamp_ns = rows[0].timestep, rows[0].stamp_ns
    for row in rows:
        if row.status not in _STATUSES:
            raise LogError(path, f"timestep {index}: unknown status {row.status!r}")
    counts = {row.camera: row.detections for row in rows if row.status in ("ok", "held")}
    return StoredTimestep(
        index,
        stamp_ns,
        {row.camera: row.status for row in rows},
        {row.camera: stamp_ns + row.offset_ns for row in rows if row.offset_ns is not None},
        {camera: cursor.take(index, camera, counts[camera]) for camera in sorted(counts)},
        {
            row.camera: (row.height, row.width)
            for row in rows
            if row.height is not None and row.width is not None
        },
    )


def joined_with_lidar(directory: Path, steps: Iterator[StoredTimestep]) -> Iterator[StoredTimestep]:
    """The timesteps with what ``lidar.parquet`` holds of them."""
    path = directory / schemas.LIDAR.file_name
    with open_table(directory, schemas.LIDAR) as table:
        rows = (row for batch in batches(path, table, schemas.LIDAR) for row in batch.to_pylist())
        row = next(rows, None)
        for step in steps:
            found: dict[str, LidarRanges] = {}
            while row is not None and row["timestep"] == step.index:
                camera, number = row["camera"], row["detection"]
                boxes = step.detections.get(camera)
                if boxes is None or not 0 <= number < len(boxes):
                    raise _strange_lidar(path, step.index)
                ranges = found.setdefault(camera, LidarRanges.nothing(len(boxes)))
                for name in ("range_m", "sigma_m", "spread_m", "apart_s", "points"):
                    getattr(ranges, name)[number] = row[name]
                row = next(rows, None)
            yield replace(step, lidar=found)
        if row is not None:
            raise _strange_lidar(path, row["timestep"])


def _joined_with_mounts(directory: Path, steps: Iterator[StoredTimestep]) -> Iterator[StoredTimestep]:
    """The timesteps with what ``mounts.parquet`` holds of them, where there is one."""

    def pose(row: Mapping[str, Any]) -> SE3:
        return SE3.from_quaternion(
            [row["qx"], row["qy"], row["qz"], row["qw"]], [row["x_m"], row["y_m"], row["z_m"]]
        )

    for step, mounts in _with_changes(directory, schemas.MOUNTS, pose, steps):
        yield replace(step, mounts=mounts) if mounts else step


def _joined_with_lenses(directory: Path, steps: Iterator[StoredTimestep]) -> Iterator[StoredTimestep]:
    """The timesteps with what ``lenses.parquet`` holds of them, where there is one."""

    def lens(row: Mapping[str, Any]) -> Intrinsics:
        return Intrinsics.from_dict(
            {
                **{name: row[name] for name in _LENS},
                "distortion": [float(word) for word in row["distortion"].split()],
            }
        )

    for step, lenses in _with_changes(directory, schemas.LENSES, lens, steps):
        yield replace(step, lenses=lenses) if lenses else step


def _with_changes(
    directory: Path,
    table: TableFormat,
    read: Callable[[Mapping[str, Any]], T],
    steps: Iterator[StoredTimestep],
) -> Iterator[tuple[StoredTimestep, dict[str, T]]]:
    """Each timestep with what a table of changes, where there is one, holds of its cameras."""
    path = directory / table.file_name
    if not path.exists():
        yield from ((step, {}) for step in steps)
        return
    with open_table(directory, table) as file:
        rows = (row for batch in batches(path, file, table) for row in batch.to_pylist())
        row = next(rows, None)
        for step in steps:
            changed: dict[str, T] = {}
            while row is not None and row["timestep"] == step.index:
                try:
                    changed[row["camera"]] = read(row)
                except (AttributeError, TypeError, ValueError) as error:
                    raise LogError(path, f"timestep {step.index}: {error}") from None
                row = next(rows, None)
            yield step, changed
        if row is not None:
            raise LogError(
                path, f"does not agree with {schemas.TIMESTEPS.file_name} from timestep {row['timestep']} on"
            )


def _strange_lidar(path: Path, timestep: int) -> LogError:
    return LogError(
        path,
        f"does not agree with {schemas.DETECTIONS.file_name} at timestep {timestep}: the files are of different runs "
        "or damaged; run again with --overwrite",
    )


def read_facts(directory: Path) -> DriveFacts:
    """What the tables of the run were made with, so that those made again are equal to the byte.

    Raises:
        LogError: a table or the rig is missing, damaged or of a newer version.
        CalibrationError: the rig makes no sense.
    """
    path = directory / schemas.TIMESTEPS.file_name
    with open_table(directory, schemas.TIMESTEPS) as table:
        metadata = table.schema_arrow.metadata
    with open_table(directory, schemas.EGO) as ego:
        has_ego = ego.metadata.num_rows > 0
    try:
        labels = {int(key): str(name) for key, name in json.loads(metadata[b"labels"]).items()}
        drive, first_stamp_ns = metadata[b"drive"].decode(), int(metadata[b"first_stamp_ns"])
    except (KeyError, ValueError, AttributeError) as error:
        raise LogError(path, f"damaged: its metadata lacks or garbles {error}") from None
    return DriveFacts(drive, first_stamp_ns, labels, read_rig(directory).base_frame, has_ego)


def read_ego(directory: Path) -> Iterator[EgoPose]:
    """The vehicle's poses by stamp; nothing where the log had no ego motion.

    Raises:
        LogError: the table is missing, damaged or of a newer version.
    """
    path = directory / schemas.EGO.file_name
    with open_table(directory, schemas.EGO) as file:
        for batch in batches(path, file, schemas.EGO, list(_EGO)):
            columns = dict(zip(_EGO, batch.columns, strict=True))
            quaternion = _stacked([columns[f"q{axis}"] for axis in "xyzw"])
            position = _stacked([columns[f"{axis}_m"] for axis in "xyz"])
            velocity = _stacked([columns[f"v{axis}_mps"] for axis in "xyz"])
            said = (columns[name].to_pylist() for name in ("stamp_ns", "frame_id", "source"))
            for row, (stamp_ns, frame_id, source) in enumerate(zip(*said, strict=True)):
                try:
                    pose = SE3.from_quaternion(quaternion[row], position[row].copy())
                except ValueError as error:
                    raise LogError(path, f"stamp {stamp_ns} ns: {error}") from None
                yield EgoPose(stamp_ns, frame_id, pose, velocity[row].copy(), source)


def _stacked(columns: list[pa.Array]) -> FloatArray:
    """(N, columns) numbers; null is NaN."""
    return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)


def read_rig(directory: Path) -> Rig:
    """The cameras of the run, from ``rig.json``.

    Raises:
        LogError: the file is missing or no rig.
        CalibrationError: a camera in it makes no sense.
    """
    path = directory / "rig.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LogError(
            path, "is missing, so this is no run, or one that never finished; run it again"
        ) from None
    except (ValueError, RecursionError) as error:
        raise LogError(path, f"is no rig: {error}") from None
    if not isinstance(data, dict):
        raise LogError(path, "is no rig: expected an object with `cameras`")
    return Rig.from_dict(data)

"""The pictures of a simulated drive as boxes: what a perfect detector would see, from the truth folder."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from perception_batch.calibration import Camera, Rig
from perception_batch.errors import LogError
from perception_batch.geometry import SE3
from perception_batch.simulate.detector_noise import TruthBox, TruthImage
from perception_batch.simulate.truth_tables import BOXES, EGO, TIMESTEPS
from perception_batch.table_format import TableFormat

_ROWS_AT_ONCE = 16384
_BOX = ("visible_x1", "visible_y1", "visible_x2", "visible_y2")


def truth_images(folder: Path) -> Iterator[TruthImage]:
    """Every picture of the log, by cycle and then by camera, one at a time; `timestep` is the cycle.

    Boxes are those of visible pixels; objects that are wholly hidden are left out.

    Raises:
        LogError: the folder is no truth, or damaged.
        CalibrationError: its rig makes no sense.
    """
    rig = _rig(folder)
    stamps, poses = _poses(folder)
    groups = groupby(
        _rows(folder, BOXES, ("cycle", "camera", "object_id", "label", *_BOX, "visible_fraction")),
        key=lambda row: (row["cycle"], row["camera"]),
    )
    waiting = next(groups, None)
    columns = ("cycle", "camera", "stamp_ns", "true_ns", "messages")
    for row in _rows(folder, TIMESTEPS, columns):
        if row["messages"] == 0:
            continue
        boxes: tuple[TruthBox, ...] = ()
        if waiting is not None and waiting[0] == (row["cycle"], row["camera"]):
            boxes = tuple(_box(item) for item in waiting[1] if item["visible_x1"] is not None)
            waiting = next(groups, None)
        camera = _camera(folder, rig, row["camera"])
        yield TruthImage(
            row["cycle"],
            row["stamp_ns"],
            row["true_ns"],
            camera,
            (camera.intrinsics.height_px, camera.intrinsics.width_px),
            boxes,
            _pose_at(stamps, poses, row["true_ns"]),
        )
    if waiting is not None:
        raise LogError(
            folder, f"boxes of cycle {waiting[0][0]} belong to no picture: the tables are not of one drive"
        )


def _box(row: dict[str, Any]) -> TruthBox:
    x1, y1, x2, y2 = (row[name] for name in _BOX)
    return TruthBox(row["object_id"], row["label"], (x1, y1, x2, y2), row["visible_fraction"])


def _camera(folder: Path, rig: Rig, name: str) -> Camera:
    if name not in rig.cameras:
        raise LogError(folder / "meta.json", f"its rig lacks the camera {name}")
    return rig.cameras[name]


def _rig(folder: Path) -> Rig:
    path = folder / "meta.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LogError(
            path, f"cannot be read: {error}; expected the truth folder of a simulated drive"
        ) from None
    if not isinstance(data, dict) or not isinstance(data.get("rig"), dict):
        raise LogError(path, "has no `rig`; expected the truth folder of a simulated drive")
    return Rig.from_dict(data["rig"])


def _poses(folder: Path) -> tuple[list[int], list[SE3]]:
    stamps: list[int] = []
    poses: list[SE3] = []
    for row in _rows(folder, EGO, ("cycle_ns", "x_m", "y_m", "z_m", "qx", "qy", "qz", "qw")):
        stamps.append(row["cycle_ns"])
        poses.append(
            SE3.from_quaternion(
                [row["qx"], row["qy"], row["qz"], row["qw"]], [row["x_m"], row["y_m"], row["z_m"]]
            )
        )
    return stamps, poses


def _pose_at(stamps: list[int], poses: list[SE3], stamp_ns: int) -> SE3 | None:
    """Between the two nearest poses; the first or the last one outside of them."""
    if not stamps:
        return None
    after = bisect.bisect_right(stamps, stamp_ns)
    if after == 0 or after == len(stamps):
        return poses[min(after, len(stamps) - 1)]
    before = after - 1
    part = (stamp_ns - stamps[before]) / (stamps[after] - stamps[before])
    return poses[before].interpolate(poses[after], part)


def _rows(folder: Path, table: TableFormat, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / table.file_name
    try:
        with pq.ParquetFile(path) as file:
            if missing := set(columns) - set(file.schema_arrow.names):
                raise LogError(path, f"columns missing: {', '.join(sorted(missing))}")
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(columns)):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise LogError(path, f"cannot be read: {' '.join(str(error).split())}") from None

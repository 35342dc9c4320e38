"""Results as rows: from the nouns of `types.py` to Arrow columns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from perception_batch.table_format import TableFormat
from perception_batch.types import EgoPose, FrameRow, FusedObject, TimestepResult, TrackSummary
from perception_batch.write import schemas

Columns: TypeAlias = dict[str, pa.Array]

_INT64 = (-(1 << 63), (1 << 63) - 1)
# Upper triangle of a covariance, in the order of the columns.
_COVARIANCE = {"xx": (0, 0), "xy": (0, 1), "xz": (0, 2), "yy": (1, 1), "yz": (1, 2), "zz": (2, 2)}


@dataclass(frozen=True, slots=True)
class DriveFacts:
    """What every table and line of a drive needs beside the results."""

    drive: str
    """Name of the drive."""
    first_stamp_ns: int
    """First plausible camera stamp of the log, ns: where ``time_s`` is zero."""
    labels: Mapping[int, str]
    """The model's class names by its class numbers."""
    base_frame: str
    """The rig's base frame; empty where nothing is calibrated."""
    has_ego: bool
    """Whether velocities are over ground; without ego motion they are relative to the vehicle."""

    def __post_init__(self) -> None:
        # A file name that is not UTF-8 holds lone surrogates, which Parquet and JSON readers refuse.
        clean = self.drive.encode("utf-8", "backslashreplace").decode()
        object.__setattr__(self, "drive", clean)

    def metadata(self) -> dict[str, str]:
        """What of this goes into the metadata of ``timesteps.parquet``, to make all other tables again."""
        labels = {str(key): self.labels[key] for key in sorted(self.labels)}
        return {"drive": self.drive, "first_stamp_ns": str(self.first_stamp_ns), "labels": json.dumps(labels)}

    def time_s(self, stamp_ns: int) -> float:
        """Seconds since the first camera stamp; the difference is taken in integers."""
        return (stamp_ns - self.first_stamp_ns) / 1e9

    def label(self, class_id: int) -> str:
        """The model's name of a class; its number where the model names it not."""
        return self.labels.get(class_id, str(class_id))


def _text(value: str, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), n)


def _known(values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> pa.Array:
    """NaN becomes null. Without `from_pandas`, which imports pandas where it is installed: half a second."""
    numbers = np.asarray(values, np.float64)
    return pa.array(numbers, pa.float64(), mask=np.isnan(numbers))


def _start(facts: DriveFacts, result: TimestepResult, n: int, *, stamp: bool = True) -> Columns:
    columns = {
        "drive": _text(facts.drive, n),
        "timestep": pa.array(np.full(n, result.index, np.int32)),
        "time_s": pa.array(np.full(n, facts.time_s(result.stamp_ns))),
    }
    if stamp:
        columns["stamp_ns"] = pa.array(np.full(n, result.stamp_ns, np.int64))
    return columns


def detections_columns(facts: DriveFacts, result: TimestepResult) -> Columns:
    """Every box of one timestep, by camera name, then by falling score."""
    cameras = sorted(result.detections)
    found = [result.detections[camera] for camera in cameras]
    counts = [len(boxes) for boxes in found]
    n = sum(counts)
    xyxy = np.concatenate([boxes.xyxy for boxes in found]) if found else np.zeros((0, 4), np.float32)
    class_id = np.concatenate([boxes.class_id for boxes in found]) if found else np.zeros(0, np.int16)
    stamps = [result.frame_stamps_ns.get(camera, result.stamp_ns) for camera in cameras]
    columns = _start(facts, result, n)
    columns["camera"] = pa.array(np.repeat(np.array(cameras, object), counts), pa.string())
    columns["frame_stamp_ns"] = pa.array(np.repeat(np.array(stamps, np.int64), counts))
    columns["detection"] = _numbered(counts)
    for i, name in enumerate(("x1", "y1", "x2", "y2")):
        columns[name] = pa.array(np.ascontiguousarray(xyxy[:, i]), pa.float32())
    score = np.concatenate([boxes.score for boxes in found]) if found else np.zeros(0, np.float32)
    columns["score"] = pa.array(score, pa.float32())
    columns["class_id"] = pa.array(class_id, pa.int16())
    columns["label"] = pa.array([facts.label(c) for c in class_id.tolist()], pa.string())
    return columns


def _numbered(counts: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate([np.arange(c, dtype=np.int32) for c in counts] or [np.zeros(0, np.int32)]))


def timesteps_columns(facts: DriveFacts, result: TimestepResult) -> Columns:
    """One row a camera, in the order of the cameras."""
    cameras = list(result.status)
    offsets = [
        result.frame_stamps_ns[c] - result.stamp_ns if c in result.frame_stamps_ns else None for c in cameras
    ]
    sizes = [result.image_hw.get(camera, (None, None)) for camera in cameras]
    columns = _start(facts, result, len(cameras))
    columns["camera"] = pa.array(cameras, pa.string())
    columns["status"] = pa.array(list(result.status.values()), pa.string())
    columns["offset_ns"] = pa.array(offsets, pa.int64())
    columns["width"] = pa.array([w for _, w in sizes], pa.int32())
    columns["height"] = pa.array([h for h, _ in sizes], pa.int32())
    counts = [len(result.detections[c]) if c in result.detections else 0 for c in cameras]
    columns["detections"] = pa.array(counts, pa.int32())
    return columns


def objects_columns(facts: DriveFacts, result: TimestepResult) -> Columns:
    """Every object of one timestep."""
    objects = result.fusion.objects
    n = len(objects)
    position = _stack(objects, lambda o: o.position_m)
    velocity = _stack(objects, lambda o: o.velocity_mps)
    size = _stack(objects, lambda o: o.size_lwh_m)
    covariance = np.array([o.covariance_m2 for o in objects]).reshape(n, 3, 3)
    odom = np.full((n, 3), np.nan)
    if result.ego is not None:
        # One at a time: a stacked product may end in other last bits, and these bytes are promised.
        for row, item in enumerate(objects):
            if item.has_position:
                odom[row] = result.ego.odom_SE3_base.apply(item.position_m)
    columns = _start(facts, result, n)
    columns["object"] = pa.array(np.arange(n, dtype=np.int32))
    columns["track_id"] = pa.array([o.track_id if o.track_id >= 0 else None for o in objects], pa.int64())
    columns["class_id"] = pa.array([o.class_id for o in objects], pa.int16())
    columns["label"] = pa.array([o.label for o in objects], pa.string())
    columns["score"] = pa.array([o.score for o in objects], pa.float32())
    for i, axis in enumerate("xyz"):
        columns[f"{axis}_m"] = _known(position[:, i])
        columns[f"odom_{axis}_m"] = _known(odom[:, i])
        columns[f"v{axis}_mps"] = _known(velocity[:, i])
    columns["yaw_rad"] = _known([o.yaw_rad for o in objects])
    for i, name in enumerate(("length_m", "width_m", "height_m")):
        columns[name] = _known(size[:, i])
    for name, (i, j) in _COVARIANCE.items():
        columns[f"cov_{name}"] = _known(covariance[:, i, j])
    columns["ego_distance_m"] = _known([ego_distance_m(o) for o in objects])
    columns["filled"] = pa.array([o.filled for o in objects], pa.bool_())
    return columns


def _stack(
    objects: Sequence[FusedObject],
    vector: Callable[[FusedObject], np.ndarray[tuple[int], np.dtype[np.float64]]],
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(N, 3) of one vector of each object."""
    return np.array([vector(o) for o in objects], np.float64).reshape(len(objects), 3)


def ego_distance_m(item: FusedObject) -> float:
    """Horizontal distance from the base frame's origin to the object's centre, m; NaN where unknown."""
    return math.hypot(float(item.position_m[0]), float(item.position_m[1]))


def observations_columns(facts: DriveFacts, result: TimestepResult) -> Columns:
    """What fusion made of every detection of one timestep, in the order of `detections_columns`."""
    cameras = sorted(result.detections)
    counts = [len(result.detections[camera]) for camera in cameras]
    track_ids = [o.track_id for o in result.fusion.objects]
    number: list[int | None] = []
    track: list[int | None] = []
    suppressed: list[str | None] = []
    for camera, count in zip(cameras, counts, strict=True):
        of = result.fusion.object_of[camera].tolist() if camera in result.fusion.object_of else [-1] * count
        number += [o if o >= 0 else None for o in of]
        track += [track_ids[o] if o >= 0 and track_ids[o] >= 0 else None for o in of]
        suppressed += [reason or None for reason in result.fusion.suppressed.get(camera, ("",) * count)]
    columns = _start(facts, result, sum(counts), stamp=False)
    columns["camera"] = pa.array(np.repeat(np.array(cameras, object), counts), pa.string())
    columns["detection"] = _numbered(counts)
    columns["object"] = pa.array(number, pa.int32())
    columns["track_id"] = pa.array(track, pa.int64())
    columns["suppressed"] = pa.array(suppressed, pa.string())
    return columns


def lidar_columns(facts: DriveFacts, result: TimestepResult) -> Columns:
    """The detections of one timestep that the lidar tells a range of, in the order of `detections_columns`."""
    found = {camera: result.lidar[camera] for camera in sorted(result.lidar)}
    rows = {camera: np.flatnonzero(ranges.points > 0) for camera, ranges in found.items()}
    counts = [len(of) for of in rows.values()]
    columns = _start(facts, result, sum(counts), stamp=False)
    columns["camera"] = pa.array(np.repeat(np.array(list(found), object), counts), pa.string())
    columns["detection"] = pa.array(
        np.concatenate([np.zeros(0, np.int32), *(of.astype(np.int32) for of in rows.values())])
    )
    for name in ("range_m", "sigma_m", "spread_m", "apart_s"):
        parts = [getattr(found[camera], name)[of] for camera, of in rows.items()]
        columns[name] = pa.array(np.concatenate([np.zeros(0, np.float32), *parts]))
    parts = [found[camera].points[of] for camera, of in rows.items()]
    columns["points"] = pa.array(np.concatenate([np.zeros(0, np.int32), *parts]))
    return columns


def mounts_columns(facts: DriveFacts, result: TimestepResult) -> Columns:
    """The cameras of one timestep that were not where the rig has them, by name."""
    cameras = sorted(result.mounts)
    n = len(cameras)
    position = np.array([result.mounts[c].translation_m for c in cameras], np.float64).reshape(n, 3)
    quaternion = np.array([result.mounts[c].quaternion_xyzw() for c in cameras], np.float64).reshape(n, 4)
    columns = _start(facts, result, n, stamp=False)
    columns["camera"] = pa.array(cameras, pa.string())
    columns.update((f"{axis}_m", pa.array(position[:, i])) for i, axis in enumerate("xyz"))
    columns.update((f"q{axis}", pa.array(quaternion[:, i])) for i, axis in enumerate("xyzw"))
    return columns


def lenses_columns(facts: DriveFacts, result: TimestepResult) -> Columns:
    """The cameras of one timestep whose lens was not the rig's, by name."""
    cameras = sorted(result.lenses)
    lenses = [result.lenses[camera] for camera in cameras]
    columns = _start(facts, result, len(cameras), stamp=False)
    columns["camera"] = pa.array(cameras, pa.string())
    columns["model"] = pa.array([lens.model for lens in lenses], pa.string())
    for name in ("width_px", "height_px"):
        columns[name] = pa.array([getattr(lens, name) for lens in lenses], pa.int32())
    for name in ("fx_px", "fy_px", "cx_px", "cy_px"):
        columns[name] = pa.array([getattr(lens, name) for lens in lenses], pa.float64())
    told = [" ".join(map(repr, lens.distortion)) for lens in lenses]  # the shortest text of the same number
    columns["distortion"] = pa.array(told, pa.string())
    return columns


def frames_columns(facts: DriveFacts, rows: Sequence[FrameRow]) -> Columns:
    """What became of camera frames, in the order given."""
    # A log may claim any 64-bit unsigned time; a table holds signed ones.
    stamps = [min(max(row.stamp_ns, _INT64[0]), _INT64[1]) for row in rows]
    return {
        "drive": _text(facts.drive, len(rows)),
        "camera": pa.array([row.camera for row in rows], pa.string()),
        "frame_stamp_ns": pa.array(stamps, pa.int64()),
        "time_s": pa.array([facts.time_s(stamp) for stamp in stamps], pa.float64()),
        "log_ns": pa.array([min(max(row.log_ns, _INT64[0]), _INT64[1]) for row in rows], pa.int64()),
        "timestep": pa.array([row.timestep for row in rows], pa.int32()),
        "status": pa.array([row.status for row in rows], pa.string()),
        "reason": pa.array([row.reason or None for row in rows], pa.string()),
        "width": pa.array([_size(row.width_px) for row in rows], pa.int32()),
        "height": pa.array([_size(row.height_px) for row in rows], pa.int32()),
        "encoding": pa.array([row.encoding for row in rows], pa.string()),
    }


def _size(pixels: int) -> int | None:
    """A claimed size; null where there is none or where it is beyond any image."""
    return pixels if 0 < pixels < 1 << 31 else None


def ego_columns(facts: DriveFacts, poses: Iterable[EgoPose]) -> Columns:
    """Poses of the vehicle, in the order given."""
    listed = list(poses)
    n = len(listed)
    position = np.array([p.odom_SE3_base.translation_m for p in listed]).reshape(n, 3)
    quaternion = np.array([p.odom_SE3_base.quaternion_xyzw() for p in listed]).reshape(n, 4)
    velocity = np.array([p.velocity_mps for p in listed]).reshape(n, 3)
    columns: Columns = {
        "drive": _text(facts.drive, n),
        "stamp_ns": pa.array([p.stamp_ns for p in listed], pa.int64()),
        "time_s": pa.array([facts.time_s(p.stamp_ns) for p in listed], pa.float64()),
        "frame_id": pa.array([p.frame_id for p in listed], pa.string()),
        "source": pa.array([p.source for p in listed], pa.string()),
    }
    for i, axis in enumerate("xyz"):
        columns[f"{axis}_m"] = pa.array(position[:, i].astype(np.float64))
        columns[f"v{axis}_mps"] = _known(velocity[:, i])
    for i, axis in enumerate("xyzw"):
        columns[f"q{axis}"] = pa.array(quaternion[:, i].astype(np.float64))
    return columns


def tracks_columns(facts: DriveFacts, rows: Sequence[TrackSummary]) -> Columns:
    """Tracks of the whole drive, in the order given."""
    return {
        "drive": _text(facts.drive, len(rows)),
        "track_id": pa.array([row.track_id for row in rows], pa.int64()),
        "class_id": pa.array([row.class_id for row in rows], pa.int16()),
        "label": pa.array([row.label for row in rows], pa.string()),
        "first_stamp_ns": pa.array([row.first_stamp_ns for row in rows], pa.int64()),
        "last_stamp_ns": pa.array([row.last_stamp_ns for row in rows], pa.int64()),
        "first_time_s": pa.array([facts.time_s(row.first_stamp_ns) for row in rows], pa.float64()),
        "last_time_s": pa.array([facts.time_s(row.last_stamp_ns) for row in rows], pa.float64()),
        "observed": pa.array([row.observed for row in rows], pa.int32()),
        "filled": pa.array([row.filled for row in rows], pa.int32()),
        "cameras": pa.array([",".join(row.cameras) for row in rows], pa.string()),
        "mean_score": pa.array([row.mean_score for row in rows], pa.float32()),
        "min_distance_m": _known([row.min_distance_m for row in rows]),
    }


TIMED: Mapping[str, tuple[TableFormat, Callable[[DriveFacts, TimestepResult], Columns]]] = {
    "detections": (schemas.DETECTIONS, detections_columns),
    "timesteps": (schemas.TIMESTEPS, timesteps_columns),
    "objects": (schemas.OBJECTS, objects_columns),
    "observations": (schemas.OBSERVATIONS, observations_columns),
    "lidar": (schemas.LIDAR, lidar_columns),
    "mounts": (schemas.MOUNTS, mounts_columns),
    "lenses": (schemas.LENSES, lenses_columns),
}
"""The tables that are made of results, with what makes their rows."""

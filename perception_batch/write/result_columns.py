"""Results as rows: from timesteps to Arrow columns, many timesteps at a time, because an array costs more than its values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from perception_batch.arrow_columns import column, numbers, repeated
from perception_batch.columnar import FusedObjects
from perception_batch.table_format import TableFormat
from perception_batch.types import FloatArray, TimestepResult
from perception_batch.write import schemas
from perception_batch.write.rows import Columns, DriveFacts, known

Results: TypeAlias = Sequence[TimestepResult]
Ints: TypeAlias = npt.NDArray[np.int64]

# Upper triangle of a covariance, in the order of the columns.
_COVARIANCE = {"xx": (0, 0), "xy": (0, 1), "xz": (0, 2), "yy": (1, 1), "yz": (1, 2), "zz": (2, 2)}


def _start(facts: DriveFacts, results: Results, counts: Sequence[int], *, stamp: bool = True) -> Columns:
    """What all tables have; `counts` are the rows of each timestep."""
    times = np.array([facts.time_s(result.stamp_ns) for result in results], np.float64)
    columns = {
        "drive": repeated(facts.drive, sum(counts)),
        "timestep": numbers(np.repeat(np.array([result.index for result in results], np.int32), counts)),
        "time_s": numbers(np.repeat(times, counts)),
    }
    if stamp:
        stamps = np.array([result.stamp_ns for result in results], np.int64)
        columns["stamp_ns"] = numbers(np.repeat(stamps, counts))
    return columns


def _joined(parts: Iterable[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Arrays end to end; `dtype` is that of none at all."""
    found = list(parts)
    return np.concatenate(found) if found else np.zeros(0, dtype)


def _texts(values: Sequence[str], counts: Sequence[int] | None = None) -> pa.Array:
    """Each text so many times, or once."""
    every = values if counts is None else list(chain.from_iterable(map(repeat, values, counts)))
    return column(every, pa.string())


def _numbered(counts: Sequence[int]) -> pa.Array:
    """``0, 1, .. n - 1`` for each count."""
    sizes = np.array(counts, np.int64)
    begins = np.cumsum(sizes) - sizes
    return numbers((np.arange(sizes.sum()) - np.repeat(begins, sizes)).astype(np.int32))


def _positive(values: npt.NDArray[np.integer[Any]]) -> pa.Array:
    """Numbers; negative ones become null."""
    return numbers(values, values < 0)


def detections_columns(facts: DriveFacts, results: Results) -> Columns:
    """Every box of each timestep, by camera name, then by falling score."""
    by_camera = [[(camera, r.detections[camera]) for camera in sorted(r.detections)] for r in results]
    found = list(chain.from_iterable(by_camera))
    counts = [len(boxes) for _, boxes in found]
    stamps = [
        result.frame_stamps_ns.get(camera, result.stamp_ns)
        for result, listed in zip(results, by_camera, strict=True)
        for camera, _ in listed
    ]
    xyxy = _joined((boxes.xyxy for _, boxes in found), np.float32).reshape(-1, 4)
    class_id = _joined((boxes.class_id for _, boxes in found), np.int16)
    columns = _start(facts, results, [sum(len(boxes) for _, boxes in listed) for listed in by_camera])
    columns["camera"] = _texts([camera for camera, _ in found], counts)
    columns["frame_stamp_ns"] = numbers(np.repeat(np.array(stamps, np.int64), counts))
    columns["detection"] = _numbered(counts)
    for i, name in enumerate(("x1", "y1", "x2", "y2")):
        columns[name] = numbers(xyxy[:, i])
    columns["score"] = numbers(_joined((boxes.score for _, boxes in found), np.float32))
    columns["class_id"] = numbers(class_id)
    classes, which = np.unique(class_id, return_inverse=True)
    labels = [facts.label(c) for c in classes.tolist()]
    columns["label"] = column([labels[number] for number in which.tolist()], pa.string())
    return columns


def timesteps_columns(facts: DriveFacts, results: Results) -> Columns:
    """One row a camera, in the order of the cameras."""
    rows = [(result, camera) for result in results for camera in result.status]
    offsets = [r.frame_stamps_ns[c] - r.stamp_ns if c in r.frame_stamps_ns else None for r, c in rows]
    sizes = [result.image_hw.get(camera, (None, None)) for result, camera in rows]
    columns = _start(facts, results, [len(result.status) for result in results])
    columns["camera"] = column([camera for _, camera in rows], pa.string())
    columns["status"] = column([result.status[camera] for result, camera in rows], pa.string())
    columns["offset_ns"] = column(offsets, pa.int64())
    columns["width"] = column([w for _, w in sizes], pa.int32())
    columns["height"] = column([h for h, _ in sizes], pa.int32())
    counts = [len(result.detections[c]) if c in result.detections else 0 for result, c in rows]
    columns["detections"] = column(counts, pa.int32())
    return columns


def objects_columns(facts: DriveFacts, results: Results) -> Columns:
    """Every object of each timestep."""
    objects = [FusedObjects.of(result.fusion.objects) for result in results]
    counts = list(map(len, objects))

    def joined(name: str, dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
        return _joined((getattr(of, name) for of in objects), dtype).reshape(-1, *shape)

    position, velocity = joined("position_m", np.float64, 3), joined("velocity_mps", np.float64, 3)
    size, covariance = joined("size_lwh_m", np.float64, 3), joined("covariance_m2", np.float64, 3, 3)
    odom = _in_fixed_frame(results, counts, position)
    columns = _start(facts, results, counts)
    columns["object"] = _numbered(counts)
    columns["track_id"] = _positive(joined("track_id", np.int64))
    columns["class_id"] = numbers(joined("class_id", np.int64).astype(np.int16))
    columns["label"] = _texts(list(chain.from_iterable(of.label for of in objects)))
    columns["score"] = numbers(joined("score", np.float64).astype(np.float32))
    for i, axis in enumerate("xyz"):
        columns[f"{axis}_m"] = known(position[:, i])
        columns[f"odom_{axis}_m"] = known(odom[:, i])
        columns[f"v{axis}_mps"] = known(velocity[:, i])
    columns["yaw_rad"] = known(joined("yaw_rad", np.float64))
    for i, name in enumerate(("length_m", "width_m", "height_m")):
        columns[name] = known(size[:, i])
    for name, (i, j) in _COVARIANCE.items():
        columns[f"cov_{name}"] = known(covariance[:, i, j])
    # Horizontal distance from the base frame's origin to the object's centre.
    columns["ego_distance_m"] = known(list(map(math.hypot, *position[:, :2].T.tolist())))
    columns["filled"] = numbers(joined("filled", np.bool_))
    return columns


def _in_fixed_frame(results: Results, counts: Sequence[int], position_m: FloatArray) -> FloatArray:
    """(N, 3) the objects' positions in the fixed frame, m; NaN without position or vehicle's pose."""
    odom = np.full(position_m.shape, np.nan)
    begin = 0
    for result, count in zip(results, counts, strict=True):
        if result.ego is not None and count:
            rows = slice(begin, begin + count)
            pose = result.ego.odom_SE3_base
            # A stack of single rows: one product of them all may end in other last bits, and these bytes are promised.
            odom[rows] = (position_m[rows, None, :] @ pose.rotation.T)[:, 0] + pose.translation_m
        begin += count
    odom[~np.isfinite(position_m).all(axis=1)] = np.nan
    return odom


def observations_columns(facts: DriveFacts, results: Results) -> Columns:
    """What fusion made of every detection of each timestep, in the order of `detections_columns`."""
    by_camera = [[(camera, len(r.detections[camera])) for camera in sorted(r.detections)] for r in results]
    listed = list(chain.from_iterable(by_camera))
    counts = [count for _, count in listed]
    number = _joined(_objects_of(results, by_camera), np.int64).astype(np.int64)
    per_result = [sum(count for _, count in cameras) for cameras in by_camera]
    reasons = chain.from_iterable(
        result.fusion.suppressed.get(camera, ("",) * count)
        for result, cameras in zip(results, by_camera, strict=True)
        for camera, count in cameras
    )
    columns = _start(facts, results, per_result, stamp=False)
    columns["camera"] = _texts([camera for camera, _ in listed], counts)
    columns["detection"] = _numbered(counts)
    columns["object"] = _positive(number.astype(np.int32))
    columns["track_id"] = _positive(_tracks_of(results, per_result, number))
    columns["suppressed"] = column([reason or None for reason in reasons], pa.string())
    return columns


def _objects_of(
    results: Results, by_camera: Sequence[Sequence[tuple[str, int]]]
) -> Iterator[npt.NDArray[np.integer[Any]]]:
    for result, cameras in zip(results, by_camera, strict=True):
        of = result.fusion.object_of
        for camera, count in cameras:
            yield of[camera] if camera in of else np.full(count, -1, np.int64)


def _tracks_of(results: Results, rows: Sequence[int], number: Ints) -> Ints:
    """(N,) the track of each row's object; -1 without. `number` is the object's, in its timestep."""
    objects = [len(result.fusion.objects) for result in results]
    # One more behind the last, for those that belong to no object.
    tracks = np.concatenate([*(FusedObjects.of(result.fusion.objects).track_id for result in results), [-1]])
    first = np.repeat(np.cumsum(objects, dtype=np.int64) - objects, rows)
    return tracks[np.where(number >= 0, first + number, -1)]


def lidar_columns(facts: DriveFacts, results: Results) -> Columns:
    """The detections of each timestep that the lidar tells a range of, in the order of `detections_columns`."""
    by_camera = [
        [(camera, np.flatnonzero(r.lidar[camera].points > 0), r.lidar[camera]) for camera in sorted(r.lidar)]
        for r in results
    ]
    found = list(chain.from_iterable(by_camera))
    columns = _start(facts, results, [sum(len(of) for _, of, _ in c) for c in by_camera], stamp=False)
    columns["camera"] = _texts([camera for camera, _, _ in found], [len(of) for _, of, _ in found])
    columns["detection"] = numbers(_joined((of.astype(np.int32) for _, of, _ in found), np.int32))
    for name in ("range_m", "sigma_m", "spread_m", "apart_s"):
        parts = (getattr(ranges, name)[of] for _, of, ranges in found)
        columns[name] = numbers(_joined(parts, np.float32))
    columns["points"] = numbers(_joined((ranges.points[of] for _, of, ranges in found), np.int32))
    return columns


def mounts_columns(facts: DriveFacts, results: Results) -> Columns:
    """The cameras of each timestep that were not where the rig has them, by name."""
    rows = [(camera, result.mounts[camera]) for result in results for camera in sorted(result.mounts)]
    position = np.array([pose.translation_m for _, pose in rows], np.float64).reshape(-1, 3)
    quaternion = np.array([pose.quaternion_xyzw() for _, pose in rows], np.float64).reshape(-1, 4)
    columns = _start(facts, results, [len(result.mounts) for result in results], stamp=False)
    columns["camera"] = column([camera for camera, _ in rows], pa.string())
    columns.update((f"{axis}_m", numbers(position[:, i])) for i, axis in enumerate("xyz"))
    columns.update((f"q{axis}", numbers(quaternion[:, i])) for i, axis in enumerate("xyzw"))
    return columns


def lenses_columns(facts: DriveFacts, results: Results) -> Columns:
    """The cameras of each timestep whose lens was not the rig's, by name."""
    rows = [(camera, result.lenses[camera]) for result in results for camera in sorted(result.lenses)]
    lenses = [lens for _, lens in rows]
    columns = _start(facts, results, [len(result.lenses) for result in results], stamp=False)
    columns["camera"] = column([camera for camera, _ in rows], pa.string())
    columns["model"] = column([lens.model for lens in lenses], pa.string())
    for name in ("width_px", "height_px"):
        columns[name] = column([getattr(lens, name) for lens in lenses], pa.int32())
    for name in ("fx_px", "fy_px", "cx_px", "cy_px"):
        columns[name] = column([getattr(lens, name) for lens in lenses], pa.float64())
    told = [" ".join(map(repr, lens.distortion)) for lens in lenses]  # the shortest text of the same number
    columns["distortion"] = column(told, pa.string())
    return columns


TIMED: Mapping[str, tuple[TableFormat, Callable[[DriveFacts, Results], Columns]]] = {
    "detections": (schemas.DETECTIONS, detections_columns),
    "timesteps": (schemas.TIMESTEPS, timesteps_columns),
    "objects": (schemas.OBJECTS, objects_columns),
    "observations": (schemas.OBSERVATIONS, observations_columns),
    "lidar": (schemas.LIDAR, lidar_columns),
    "mounts": (schemas.MOUNTS, mounts_columns),
    "lenses": (schemas.LENSES, lenses_columns),
}
"""The tables that are made of results, with what makes their rows."""

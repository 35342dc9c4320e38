"""A segment's contents as Arrow tables and back, equal to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from perception_batch.arrow_columns import column, numbers
from perception_batch.geometry import SE3
from perception_batch.runs.segment_content import DetectedTimestep, SegmentContent
from perception_batch.types import (
    Detections,
    EgoPose,
    FrameRow,
    FrameStatus,
    Loss,
    PictureQuality,
    RowStatus,
)

_INT64 = (-(1 << 63), (1 << 63) - 1)
_QUALITY = ("sharpness", "dark_share", "bright_share")
_SHOTS = pa.schema(
    [
        pa.field("timestep", pa.int32(), nullable=False),
        pa.field("stamp_ns", pa.int64(), nullable=False),
        pa.field("camera", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("frame_stamp_ns", pa.int64()),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("reason", pa.string()),
        pa.field("boxes", pa.int32(), nullable=False),
        *(pa.field(name, pa.float32()) for name in _QUALITY),
    ]
)
_BOXES = pa.schema(
    [*((n, pa.float32()) for n in ("x1", "y1", "x2", "y2", "score")), ("class_id", pa.int16())]
)
_FRAMES = pa.schema(
    [
        ("camera", pa.string()),
        ("stamp_ns", pa.int64()),
        ("log_ns", pa.int64()),
        ("timestep", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("encoding", pa.string()),
        *((name, pa.float32()) for name in _QUALITY),
    ]
)
_POSE_NUMBERS = ("x_m", "y_m", "z_m", "qx", "qy", "qz", "qw", "vx_mps", "vy_mps", "vz_mps")
_POSES = pa.schema(
    [
        ("stamp_ns", pa.int64()),
        ("frame_id", pa.string()),
        ("source", pa.string()),
        *((n, pa.float64()) for n in _POSE_NUMBERS),
    ]
)
_LOSSES = pa.schema(
    [
        ("topic", pa.string()),
        ("start_ns", pa.int64()),
        ("stop_ns", pa.int64()),
        ("count", pa.int64()),
        ("reason", pa.string()),
    ]
)
SCHEMAS = {"shots": _SHOTS, "boxes": _BOXES, "frames": _FRAMES, "poses": _POSES, "losses": _LOSSES}
"""By name: shots are the cameras of the timesteps, boxes their detections in the same order."""


def tables_of(content: SegmentContent) -> dict[str, pa.Table]:
    """The contents as tables, by name, as in `SCHEMAS`."""
    return {
        "shots": _shots(content.timesteps),
        "boxes": _boxes(content.timesteps),
        "frames": _rows_table(
            _FRAMES,
            (
                (
                    row.camera,
                    _int64(row.stamp_ns),
                    _int64(row.log_ns),
                    row.timestep,
                    row.status,
                    row.reason,
                    _int64(row.width_px),
                    _int64(row.height_px),
                    row.encoding,
                    *_quality_numbers(row.quality),
                )
                for row in content.rows
            ),
        ),
        "poses": _rows_table(
            _POSES,
            (
                (
                    pose.stamp_ns,
                    pose.frame_id,
                    pose.source,
                    *pose.odom_SE3_base.translation_m.tolist(),
                    *pose.odom_SE3_base.quaternion_xyzw().tolist(),
                    *pose.velocity_mps.tolist(),
                )
                for pose in content.poses
            ),
        ),
        "losses": _rows_table(
            _LOSSES,
            (
                (loss.topic, _int64(loss.start_ns), _int64(loss.stop_ns), _int64(loss.count), loss.reason)
                for loss in content.losses
            ),
        ),
    }


def content_of_tables(tables: dict[str, pa.Table]) -> SegmentContent:
    """The opposite of `tables_of`.

    Raises:
        ValueError: the tables do not agree, or hold what no segment holds.
    """
    for name, schema in SCHEMAS.items():
        if not tables[name].schema.equals(schema):
            raise ValueError(f"{name} has other columns")
        may_lack = {field.name for field in schema if name == "shots" and field.nullable} | set(_QUALITY)
        if any(tables[name].column(n).null_count for n in schema.names if n not in may_lack):
            raise ValueError(f"{name} lacks values")
    rows = tuple(
        FrameRow(
            r["camera"],
            r["stamp_ns"],
            r["log_ns"],
            r["timestep"],
            r["status"],
            r["reason"],
            r["width"],
            r["height"],
            r["encoding"],
            _quality_of(r),
        )
        for r in tables["frames"].to_pylist()
    )
    timesteps = tuple(_timesteps(tables["shots"].to_pylist(), tables["boxes"]))
    if any(row.status not in get_args(RowStatus) or not -1 <= row.timestep < len(timesteps) for row in rows):
        raise ValueError("frames has an unknown status or timestep")
    poses = tuple(
        EgoPose(
            r["stamp_ns"],
            r["frame_id"],
            SE3.from_quaternion(
                [r[n] for n in ("qx", "qy", "qz", "qw")], [r[n] for n in ("x_m", "y_m", "z_m")]
            ),
            np.array([r[n] for n in ("vx_mps", "vy_mps", "vz_mps")], np.float64),
            r["source"],
        )
        for r in tables["poses"].to_pylist()
    )
    losses = tuple(Loss(**r) for r in tables["losses"].to_pylist())
    return SegmentContent(timesteps, rows, poses, losses)


def _shots(timesteps: Sequence[DetectedTimestep]) -> pa.Table:
    return _rows_table(
        _SHOTS,
        (
            (
                number,
                step.stamp_ns,
                camera,
                status,
                step.frame_stamps_ns.get(camera),
                *(step.image_hw.get(camera) or (None, None)),
                step.undecodable.get(camera),
                len(step.detections[camera]) if camera in step.detections else 0,
                *_quality_numbers(step.quality.get(camera)),
            )
            for number, step in enumerate(timesteps)
            for camera, status in step.status.items()
        ),
    )


def _boxes(timesteps: Sequence[DetectedTimestep]) -> pa.Table:
    found = [
        step.detections[camera] for step in timesteps for camera in step.status if camera in step.detections
    ] or [Detections.empty()]
    xyxy = np.concatenate([boxes.xyxy for boxes in found])
    columns = [numbers(xyxy[:, i]) for i in range(4)]
    columns.append(numbers(np.concatenate([boxes.score for boxes in found])))
    columns.append(numbers(np.concatenate([boxes.class_id for boxes in found])))
    return pa.Table.from_arrays(columns, schema=_BOXES)


def _timesteps(shots: list[dict[str, Any]], boxes: pa.Table) -> Iterator[DetectedTimestep]:
    columns = {name: boxes.column(name).to_numpy() for name in _BOXES.names}
    if not all(np.isfinite(columns[name]).all() for name in ("x1", "y1", "x2", "y2", "score")):
        raise ValueError("a box is not finite")
    xyxy = np.stack([columns[name] for name in ("x1", "y1", "x2", "y2")], axis=1)
    at, expected = 0, 0
    members: list[dict[str, Any]] = []

    def made() -> DetectedTimestep:
        nonlocal at
        detections: dict[str, Detections] = {}
        for row in members:
            if row["height"] is not None and row["width"] is not None:
                part = slice(at, at + row["boxes"])
                detections[row["camera"]] = Detections(
                    xyxy[part].copy(), columns["score"][part].copy(), columns["class_id"][part].copy()
                )
                at += row["boxes"]
            elif row["boxes"]:
                raise ValueError("boxes of an image that was not decoded")
        if (
            len({row["camera"] for row in members}) != len(members)
            or len({r["stamp_ns"] for r in members}) != 1
        ):
            raise ValueError("a timestep names a camera twice, or has two stamps")
        return DetectedTimestep(
            members[0]["stamp_ns"],
            {r["camera"]: r["status"] for r in members},
            {r["camera"]: r["frame_stamp_ns"] for r in members if r["frame_stamp_ns"] is not None},
            detections,
            {r["camera"]: (r["height"], r["width"]) for r in members if r["camera"] in detections},
            {r["camera"]: r["reason"] for r in members if r["reason"] is not None},
            {r["camera"]: known for r in members if (known := _quality_of(r)) is not None},
        )

    for row in shots:
        if row["status"] not in get_args(FrameStatus) or row["boxes"] < 0:
            raise ValueError("shots has an unknown status, or a negative count")
        if members and row["timestep"] != members[0]["timestep"]:
            yield made()
            members = []
            expected += 1
        if row["timestep"] != expected:
            raise ValueError(f"timestep {row['timestep']} stands where {expected} belongs")
        members.append(row)
    if members:
        yield made()
    if at != len(xyxy):
        raise ValueError(f"{len(xyxy)} boxes, where the timesteps count {at}")


def _quality_numbers(quality: PictureQuality | None) -> tuple[float | None, ...]:
    return tuple(None if quality is None else getattr(quality, name) for name in _QUALITY)


def _quality_of(row: dict[str, Any]) -> PictureQuality | None:
    values = [row[name] for name in _QUALITY]
    if values.count(None) == len(values):
        return None
    if None in values:
        raise ValueError("the quality of a picture is known in part")
    return PictureQuality(*values)


def _rows_table(schema: pa.Schema, rows: Iterator[tuple[Any, ...]]) -> pa.Table:
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.Table.from_arrays(
        [column(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
    )


def _int64(value: int) -> int:
    """A log may claim any 64-bit unsigned number; the run's tables are limited in the same way."""
    return min(max(value, _INT64[0]), _INT64[1])

"""Rows that are not made of results, and what all tables need: from the nouns of `types.py` to Arrow columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from perception_batch.arrow_columns import column, numbers, repeated
from perception_batch.types import EgoPose, FrameRow, TrackSummary

Columns: TypeAlias = dict[str, pa.Array]

_INT64 = (-(1 << 63), (1 << 63) - 1)


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


def known(values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> pa.Array:
    """NaN becomes null."""
    found = np.asarray(values, np.float64)
    return numbers(found, np.isnan(found))


def frames_columns(facts: DriveFacts, rows: Sequence[FrameRow]) -> Columns:
    """What became of camera frames, in the order given."""
    # A log may claim any 64-bit unsigned time; a table holds signed ones.
    stamps = [min(max(row.stamp_ns, _INT64[0]), _INT64[1]) for row in rows]
    quality = [row.quality for row in rows]
    return {
        "drive": repeated(facts.drive, len(rows)),
        "camera": column([row.camera for row in rows], pa.string()),
        "frame_stamp_ns": column(stamps, pa.int64()),
        "time_s": column([facts.time_s(stamp) for stamp in stamps], pa.float64()),
        "log_ns": column([min(max(row.log_ns, _INT64[0]), _INT64[1]) for row in rows], pa.int64()),
        "timestep": column([row.timestep for row in rows], pa.int32()),
        "status": column([row.status for row in rows], pa.string()),
        "reason": column([row.reason or None for row in rows], pa.string()),
        "width": column([_size(row.width_px) for row in rows], pa.int32()),
        "height": column([_size(row.height_px) for row in rows], pa.int32()),
        "encoding": column([row.encoding for row in rows], pa.string()),
        "sharpness": column([None if q is None else q.sharpness for q in quality], pa.float32()),
        "dark_share": column([None if q is None else q.dark_share for q in quality], pa.float32()),
        "bright_share": column([None if q is None else q.bright_share for q in quality], pa.float32()),
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
        "drive": repeated(facts.drive, n),
        "stamp_ns": column([p.stamp_ns for p in listed], pa.int64()),
        "time_s": column([facts.time_s(p.stamp_ns) for p in listed], pa.float64()),
        "frame_id": column([p.frame_id for p in listed], pa.string()),
        "source": column([p.source for p in listed], pa.string()),
    }
    for i, axis in enumerate("xyz"):
        columns[f"{axis}_m"] = numbers(position[:, i].astype(np.float64))
        columns[f"v{axis}_mps"] = known(velocity[:, i])
    for i, axis in enumerate("xyzw"):
        columns[f"q{axis}"] = numbers(quaternion[:, i].astype(np.float64))
    return columns


def tracks_columns(facts: DriveFacts, rows: Sequence[TrackSummary]) -> Columns:
    """Tracks of the whole drive, in the order given."""
    return {
        "drive": repeated(facts.drive, len(rows)),
        "track_id": column([row.track_id for row in rows], pa.int64()),
        "class_id": column([row.class_id for row in rows], pa.int16()),
        "label": column([row.label for row in rows], pa.string()),
        "first_stamp_ns": column([row.first_stamp_ns for row in rows], pa.int64()),
        "last_stamp_ns": column([row.last_stamp_ns for row in rows], pa.int64()),
        "first_time_s": column([facts.time_s(row.first_stamp_ns) for row in rows], pa.float64()),
        "last_time_s": column([facts.time_s(row.last_stamp_ns) for row in rows], pa.float64()),
        "observed": column([row.observed for row in rows], pa.int32()),
        "filled": column([row.filled for row in rows], pa.int32()),
        "cameras": column([",".join(row.cameras) for row in rows], pa.string()),
        "mean_score": column([row.mean_score for row in rows], pa.float32()),
        "min_distance_m": known([row.min_distance_m for row in rows]),
    }

"""Rows that are not made of results, and what all tables need: from the nouns of `types.py` to Arrow columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa

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


def repeated(value: str, n: int) -> pa.Array:
    """The same text in `n` rows."""
    return pa.repeat(pa.scalar(value, pa.string()), n)


def known(values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> pa.Array:
    """NaN becomes null. Without `from_pandas`, which imports pandas where it is installed: half a second."""
    numbers = np.asarray(values, np.float64)
    return pa.array(numbers, pa.float64(), mask=np.isnan(numbers))


def frames_columns(facts: DriveFacts, rows: Sequence[FrameRow]) -> Columns:
    """What became of camera frames, in the order given."""
    # A log may claim any 64-bit unsigned time; a table holds signed ones.
    stamps = [min(max(row.stamp_ns, _INT64[0]), _INT64[1]) for row in rows]
    return {
        "drive": repeated(facts.drive, len(rows)),
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
        "drive": repeated(facts.drive, n),
        "stamp_ns": pa.array([p.stamp_ns for p in listed], pa.int64()),
        "time_s": pa.array([facts.time_s(p.stamp_ns) for p in listed], pa.float64()),
        "frame_id": pa.array([p.frame_id for p in listed], pa.string()),
        "source": pa.array([p.source for p in listed], pa.string()),
    }
    for i, axis in enumerate("xyz"):
        columns[f"{axis}_m"] = pa.array(position[:, i].astype(np.float64))
        columns[f"v{axis}_mps"] = known(velocity[:, i])
    for i, axis in enumerate("xyzw"):
        columns[f"q{axis}"] = pa.array(quaternion[:, i].astype(np.float64))
    return columns


def tracks_columns(facts: DriveFacts, rows: Sequence[TrackSummary]) -> Columns:
    """Tracks of the whole drive, in the order given."""
    return {
        "drive": repeated(facts.drive, len(rows)),
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
        "min_distance_m": known([row.min_distance_m for row in rows]),
    }

"""The boxes of a finished run, camera frame by camera frame, as `compare` wants them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.errors import LogError
from perception_batch.evaluate.tables import read_columns
from perception_batch.replay import load_finished
from perception_batch.write import Manifest

FrameKey = tuple[str, int]
"""Camera and exposure stamp, ns: what a frame is called in every run of its drive."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameBoxes:
    """Where the boxes of one camera frame stand in the run's columns."""

    timestep: int
    """The run's timestep that used it."""
    time_s: float
    """Of that timestep."""
    rows: slice
    """Of all columns of the run."""


@dataclass(frozen=True, slots=True, eq=False)
class RunBoxes:
    """Every box that one run kept, in the order of ``detections.parquet``."""

    path: Path
    """``OUT/<drive>``."""
    manifest: Manifest
    """``run.json``."""
    frames: dict[FrameKey, FrameBoxes]
    """Every frame that was decoded, with boxes or without."""
    xyxy: npt.NDArray[np.float64]
    """(N, 4) px of the original image."""
    score: npt.NDArray[np.float64]
    """(N,)."""
    label: npt.NDArray[np.object_]
    """(N,) the model's own class names."""
    found: npt.NDArray[np.bool_]
    """(N,) whether it counts: as `read_run_boxes` was asked."""
    track: npt.NDArray[np.int64]
    """(N,) track of its object, -1 for none."""
    track_labels: dict[int, str]
    """By track: the class that was decided for it."""


def read_run_boxes(directory: Path, least_score: float | None = None) -> RunBoxes:
    """Read what `compare` needs of a run.

    Args:
        directory: ``OUT/<drive>``.
        least_score: boxes with at least this score count; None: those that fusion did not set aside by score, class,
            mask, or as doubles.

    Raises:
        LogError: no finished run, or a table is missing, damaged, or does not belong to the others.
    """
    manifest = load_finished(directory)
    steps = read_columns(
        directory / "timesteps.parquet", ("timestep", "stamp_ns", "time_s", "camera", "status", "offset_ns")
    )
    boxes = read_columns(
        directory / "detections.parquet",
        ("timestep", "camera", "detection", "x1", "y1", "x2", "y2", "score", "label"),
    )
    seen = read_columns(
        directory / "observations.parquet", ("timestep", "camera", "detection", "track_id", "suppressed")
    )
    tracks = read_columns(directory / "tracks.parquet", ("track_id", "label"))
    if len(seen["timestep"]) != len(boxes["timestep"]) or not all(
        (seen[name] == boxes[name]).all() for name in ("timestep", "camera", "detection")
    ):
        raise LogError(
            directory / "observations.parquet", "does not agree with detections.parquet; run `fuse` again"
        )
    rows = _rows_of_frames(boxes)
    frames: dict[FrameKey, FrameBoxes] = {}
    columns = (
        steps[name].tolist() for name in ("timestep", "stamp_ns", "time_s", "camera", "status", "offset_ns")
    )
    for timestep, stamp_ns, time_s, camera, status, offset_ns in zip(*columns, strict=True):
        own = rows.pop((timestep, camera), slice(0, 0))
        if status == "ok":  # what is held was counted where it was new
            frames[camera, stamp_ns + offset_ns] = FrameBoxes(timestep, time_s, own)
    if rows:
        raise LogError(
            directory / "detections.parquet", "has boxes of timesteps that timesteps.parquet lacks"
        )
    # A ghost is a box like others whose object was not seen long enough: the tracks tell of that.
    kept = [reason in (None, "ghost") for reason in seen["suppressed"].tolist()]
    return RunBoxes(
        directory,
        manifest,
        frames,
        np.stack([boxes[name] for name in ("x1", "y1", "x2", "y2")], axis=1),
        boxes["score"],
        boxes["label"],
        np.asarray(kept if least_score is None else boxes["score"] >= least_score, bool),
        seen["track_id"],
        dict(zip(tracks["track_id"].tolist(), tracks["label"].tolist(), strict=True)),
    )


def _rows_of_frames(boxes: dict[str, npt.NDArray[Any]]) -> dict[tuple[int, str], slice]:
    """By timestep and camera: the stretch of rows."""
    timestep, camera = boxes["timestep"], boxes["camera"]
    if not len(timestep):
        return {}
    change = (timestep[1:] != timestep[:-1]) | np.asarray(camera[1:] != camera[:-1], bool)
    starts = [0, *(np.flatnonzero(change) + 1).tolist()]
    ends = [*starts[1:], len(timestep)]
    return {(int(timestep[a]), str(camera[a])): slice(a, b) for a, b in zip(starts, ends, strict=True)}

"""The tables of a run as the page wants them. What is missing or damaged is said, and the rest is used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.errors import printable
from perception_batch.report.manifest_facts import ManifestFacts, read_manifest

STATUSES = ("ok", "held", "not_due", "missing", "undecodable")
"""By how bad they are; a status that is none of these counts as ``missing``."""
MISSING = STATUSES.index("missing")
HAS_IMAGE = STATUSES.index("held")
"""Up to here a camera has an image."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Columns = dict[str, npt.NDArray[Any]]

_OBJECTS = (
    "timestep", "track_id", "label", "score", "x_m", "y_m", "vx_mps", "vy_mps", "yaw_rad", "length_m", "width_m",
    "cov_xx", "cov_xy", "cov_yy", "filled",
)  # fmt: skip
_STEPS = ("timestep", "stamp_ns", "time_s", "camera", "status", "offset_ns", "detections")
_FRAMES = ("camera", "time_s", "status", "reason", "width", "height", "encoding")
QUALITY = ("sharpness", "dark_share", "bright_share")
"""Columns of ``frames.parquet`` that runs of earlier versions lack."""
_TEXT = ("camera", "status", "reason", "label", "encoding")
_NEVER_NULL = ("timestep", "stamp_ns", "time_s", "camera", "status", "label", "encoding")


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """A column of text: few words, many rows."""

    names: tuple[str, ...]
    """The words."""
    codes: IntArray
    """(N,) place in `names`; -1 for none."""


@dataclass(frozen=True, slots=True, eq=False)
class RunFiles:
    """One run."""

    manifest: ManifestFacts
    """``run.json``."""
    rig: Mapping[str, Any]
    """``cameras`` of ``rig.json``; empty without calibration."""
    lacks: tuple[str, ...]
    """What the run does not have, a sentence each."""
    stamps_ns: IntArray
    """(T,) of the timesteps, rising."""
    time_s: FloatArray
    """(T,) seconds since the log's first camera stamp."""
    cameras: tuple[str, ...]
    """(C,) names in the run's order."""
    status: npt.NDArray[np.uint8]
    """(T, C) place in `STATUSES`."""
    offset_s: FloatArray
    """(T, C) stamp of each camera's image less the timestep's; NaN without an image."""
    boxes: IntArray
    """(C,) boxes kept."""
    objects: Columns
    """Columns of ``objects.parquet`` with ``step`` (N,) rising, ``label`` as place in `labels`, ``track_id`` -1 for
    none; NaN where unknown."""
    labels: tuple[str, ...]
    """Names of the objects' classes."""
    frames: Columns
    """``camera`` (place in `cameras`, -1), ``time_s``, ``status``, ``reason``, ``encoding`` (places in `frame_words`),
    ``width``, ``height``, and `QUALITY`; numbers are NaN where unknown."""
    frame_words: Mapping[str, tuple[str, ...]]
    """Words of `frames`."""
    ego: Columns
    """``time_s`` rising, ``x_m``, ``y_m``, ``yaw_rad`` (unwound), ``speed_mps``; empty arrays without ego motion."""
    tracks: int
    """Rows of ``tracks.parquet``."""

    @property
    def steps(self) -> int:
        """Timesteps."""
        return len(self.stamps_ns)


def read_run(directory: Path) -> RunFiles:
    """All that the page shows of the run in `directory`.

    Raises:
        LogError: no run there, or one of a newer version.
        OSError: a file is there and cannot be read.
    """
    manifest = read_manifest(directory)
    lacks = [f"run.json is damaged: {manifest.problem}"] if manifest.problem else []
    if not manifest.is_finished and not manifest.problem:
        lacks.append(f"the run is {manifest.status}: it shows what was there when this page was made")
    reader = _Tables(directory, lacks)
    steps = reader.read("timesteps", _STEPS)
    objects = reader.read("objects", _OBJECTS)
    frames = reader.read("frames", _FRAMES, QUALITY)
    ego = reader.read("ego", ("time_s", "x_m", "y_m", "qx", "qy", "qz", "qw", "vx_mps", "vy_mps"))
    tracks = reader.read("tracks", ("track_id",))
    if not _stamps_rise(steps):
        lacks.append("timesteps.parquet is damaged: its stamps do not rise")
        steps = reader.nothing(_STEPS)
    numbers, first, row_step = np.unique(
        np.asarray(steps["timestep"], np.int64), return_index=True, return_inverse=True
    )
    names, codes = steps["camera"].names, steps["camera"].codes
    shape = (len(numbers), len(names))
    status = np.full(shape, MISSING, np.uint8)
    offset = np.full(shape, np.nan)
    if len(numbers):
        place = {word: i for i, word in enumerate(STATUSES)}
        known = np.array([place.get(word, MISSING) for word in steps["status"].names] + [MISSING], np.uint8)
        status[row_step, codes] = known[steps["status"].codes]
        offset[row_step, codes] = steps["offset_ns"] / 1e9
    offset[status > HAS_IMAGE] = np.nan
    rows, labels = _objects_of(objects, numbers, lacks)
    seen = frames["camera"]
    camera_of = np.array([names.index(n) if n in names else -1 for n in seen.names] + [-1], np.int64)
    rig = _rig_of(directory, lacks)
    if not len(numbers) and manifest.is_finished:
        lacks.append("there is no timestep in it")
    elif len(numbers) and not len(rows["step"]):
        lacks.append("nothing was found in it: there are no objects")
    if len(rows["step"]) and not np.isfinite(rows["x_m"]).any():
        lacks.append("no object has a position, so there is no bird's-eye view")
    if not len(ego["time_s"]) and len(numbers):
        lacks.append("the vehicle's motion is not known")
    return RunFiles(
        manifest,
        rig,
        tuple(lacks),
        np.asarray(steps["stamp_ns"], np.int64)[first],
        np.asarray(steps["time_s"], float)[first],
        names,
        status,
        offset,
        np.bincount(codes, weights=np.nan_to_num(steps["detections"]), minlength=len(names)).astype(np.int64)
        if len(names)
        else np.zeros(0, np.int64),
        rows,
        labels,
        {
            "camera": camera_of[seen.codes],
            **{name: np.asarray(frames[name], float) for name in ("time_s", "width", "height", *QUALITY)},
            **{word: frames[word].codes for word in ("status", "reason", "encoding")},
        },
        {word: frames[word].names for word in ("status", "reason", "encoding")},
        _ego_of(ego),
        len(tracks["track_id"]),
    )


def _stamps_rise(steps: Any) -> bool:
    _, first = np.unique(steps["timestep"], return_index=True)
    return bool((np.diff(np.asarray(steps["stamp_ns"], np.int64)[first]) > 0).all())


class _Tables:
    """Reads columns; a table that cannot be read is empty, and noted."""

    def __init__(self, directory: Path, lacks: list[str]) -> None:
        self._directory = directory
        self._lacks = lacks

    def read(self, name: str, columns: Sequence[str], newer: Sequence[str] = ()) -> Any:
        """Column by name: arrays, `Words` for text; numbers that are null are NaN, and those of `newer` columns that it lacks."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._directory / f"{name}.parquet"
        if not path.exists():
            self._lacks.append(f"{path.name} is missing")
            return self.nothing((*columns, *newer))
        try:
            there = set(pq.read_schema(path).names) if newer else set()
            known = [c for c in newer if c in there]
            table = pq.read_table(path, columns=[*columns, *known], partitioning=None)
            if missing := [c for c in columns if c not in table.column_names]:
                raise ValueError(f"it has no column {', '.join(missing)}")  # noqa: TRY301
            found = {c: self._column(table.column(c), c) for c in (*columns, *known)}
            return {c: np.full(len(table), np.nan) for c in newer} | found
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            self._lacks.append(f"{path.name} is damaged: {printable(' '.join(str(error).split()))[:200]}")
        return self.nothing((*columns, *newer))

    @staticmethod
    def nothing(columns: Sequence[str]) -> Any:
        """A table without rows."""
        return {
            c: Words((), np.zeros(0, np.int64)) if c in _TEXT else np.zeros(0, np.float64) for c in columns
        }

    @staticmethod
    def _column(column: Any, name: str) -> Any:
        if name in _NEVER_NULL and column.null_count:
            raise ValueError(f"its column {name} has rows without a value")
        if name not in _TEXT:
            values = column.to_numpy()
            if values.dtype.kind not in "iufb":
                raise ValueError(f"its column {name} holds {column.type} instead of numbers")
            if name == "time_s" and not np.isfinite(values).all():
                raise ValueError("its column time_s holds what is no time")
            return values
        import pyarrow as pa

        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise ValueError(f"its column {name} holds {column.type} instead of text")
        encoded = column.combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return Words(tuple(encoded.dictionary.to_pylist()), codes.astype(np.int64))


def _objects_of(table: Any, numbers: IntArray, lacks: list[str]) -> tuple[Columns, tuple[str, ...]]:
    """The rows whose timestep is there, by timestep."""
    steps = np.asarray(table["timestep"], np.int64)
    place = np.searchsorted(numbers, steps)
    known = np.zeros(len(steps), bool)
    if len(numbers):
        known = numbers[np.minimum(place, len(numbers) - 1)] == steps
    if not known.all():
        lacks.append(f"{int((~known).sum())} rows of objects.parquet belong to no timestep")
    rows = np.flatnonzero(known)
    rows = rows[np.argsort(place[rows], kind="stable")]
    out: Columns = {
        name: np.asarray(values, float)[rows]
        for name, values in table.items()
        if not isinstance(values, Words)
    }
    out["step"] = place[rows]
    out["label"] = table["label"].codes[rows]
    out["track_id"] = np.where(out["track_id"] >= 0, np.nan_to_num(out["track_id"]), -1).astype(np.int64)
    return out, table["label"].names


def _ego_of(table: Any) -> Columns:
    """Poses by time, with heading and speed."""
    order = np.argsort(table["time_s"], kind="stable")
    x, y, qx, qy, qz, qw = (
        np.asarray(table[n], float)[order] for n in ("x_m", "y_m", "qx", "qy", "qz", "qw")
    )
    time_s = np.asarray(table["time_s"], float)[order]
    # Heading of a unit quaternion: rotation about z of the x axis.
    yaw = np.arctan2(2 * (qw * qz + qx * qy), 1 - 2 * (qy * qy + qz * qz))
    speed = np.hypot(np.asarray(table["vx_mps"], float)[order], np.asarray(table["vy_mps"], float)[order])
    known = np.isfinite(x) & np.isfinite(y) & np.isfinite(yaw)
    columns = {"time_s": time_s, "x_m": x, "y_m": y, "yaw_rad": yaw, "speed_mps": speed}
    columns = {name: values[known] for name, values in columns.items()}
    return columns | {"yaw_rad": np.unwrap(columns["yaw_rad"])}


def _rig_of(directory: Path, lacks: list[str]) -> Mapping[str, Any]:
    try:
        found = json.loads((directory / "rig.json").read_bytes())
    except FileNotFoundError:
        lacks.append("rig.json is missing")
        return {}
    except (ValueError, RecursionError):
        lacks.append("rig.json is damaged")
        return {}
    cameras = found.get("cameras") if isinstance(found, dict) else None
    if not isinstance(cameras, dict) or not cameras:
        lacks.append("no camera is calibrated")
        return {}
    return cameras

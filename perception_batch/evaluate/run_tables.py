"""A finished run as the figures want it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_batch.errors import LogError, printable
from perception_batch.evaluate.tables import read_columns
from perception_batch.evaluate.truth import Classes, FloatArray, IntArray

_COVARIANCE = ("cov_xx", "cov_xy", "cov_yy")


@dataclass(frozen=True, slots=True, eq=False)
class RunPicture:
    """One camera's detections in one timestep."""

    camera: str
    """Name of the camera."""
    stamp_ns: int
    """The frame's stamp."""
    box_px: FloatArray
    """(N, 4) left, top, right, bottom: every box kept, by detection number."""
    score: FloatArray
    """(N,)."""
    classes: IntArray
    """(N,) class numbers; `NO_CLASS` where the ontology does not know the model's label."""
    objects: IntArray
    """(N,) the object of the timestep, -1 for none (below the score, suppressed)."""


@dataclass(frozen=True, slots=True, eq=False)
class RunStep:
    """One timestep."""

    index: int
    """Counts from 0."""
    stamp_ns: int
    """Its time."""
    pictures: tuple[RunPicture, ...]
    """Of the cameras with an image, by name."""
    object_ids: IntArray
    """(K,) numbers of the fused objects."""
    tracks: IntArray
    """(K,) track ids, -1 for none."""
    object_classes: IntArray
    """(K,) class numbers."""
    position_m: FloatArray
    """(K, 3) in the base frame; NaN where only the bearing is known."""
    covariance_m2: FloatArray
    """(K, 2, 2) of x and y; NaN where unknown."""
    filled: npt.NDArray[np.bool_]
    """(K,) put into a gap by hindsight."""


@dataclass(frozen=True, slots=True, eq=False)
class RunTables:
    """What one run found."""

    path: Path
    """``OUT/<drive>``."""
    drive: str
    """Its name."""
    steps: tuple[RunStep, ...]
    """By time."""
    cameras: tuple[str, ...]
    """All cameras of the run."""
    asked_classes: frozenset[int]
    """Class numbers of `detect.classes`: what fusion works on."""

    @property
    def has_tracks(self) -> bool:
        """Whether any object has an identity over time."""
        return any((step.tracks >= 0).any() for step in self.steps)

    @property
    def has_positions(self) -> bool:
        """Whether any object has a position."""
        return any(np.isfinite(step.position_m).all(axis=1).any() for step in self.steps)


def read_manifest(run_dir: Path) -> dict[str, object]:
    """``run.json`` of a finished run.

    Raises:
        LogError: no run there, or not finished.
    """
    path = run_dir / "run.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise LogError(
            run_dir, f"no run here: run.json is missing; give the folder OUT/<drive>{_near(run_dir)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise LogError(path, f"is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise LogError(path, "is damaged: expected an object")
    if data.get("status") not in ("complete", "partial"):
        raise LogError(run_dir, f"the run is {printable(data.get('status'))}; start it again first")
    return data


def _near(run_dir: Path) -> str:
    names = sorted(printable(p.parent.name) for p in run_dir.glob("*/run.json"))[:5]
    return f"; it holds {', '.join(names)}" if names else ""


def read_run(
    run_dir: Path, manifest: dict[str, object], classes: Classes, asked: tuple[str, ...]
) -> RunTables:
    """The tables of a run.

    Raises:
        LogError: a table is missing, damaged, of a newer version, or the tables do not belong together.
    """
    steps = read_columns(
        run_dir / "timesteps.parquet", ("timestep", "stamp_ns", "camera", "status", "offset_ns")
    )
    boxes = read_columns(
        run_dir / "detections.parquet",
        ("timestep", "camera", "detection", "x1", "y1", "x2", "y2", "score", "label"),
    )
    seen = read_columns(run_dir / "observations.parquet", ("timestep", "camera", "detection", "object"))
    objects = read_columns(
        run_dir / "objects.parquet",
        ("timestep", "object", "track_id", "label", "x_m", "y_m", "z_m", *_COVARIANCE, "filled"),
    )
    if len(seen["object"]) != len(boxes["timestep"]) or not all(
        (seen[name] == boxes[name]).all() for name in ("timestep", "camera", "detection")
    ):
        raise LogError(
            run_dir / "observations.parquet", "does not agree with detections.parquet; run `fuse` again"
        )
    corners = np.stack([boxes[name] for name in ("x1", "y1", "x2", "y2")], axis=1)
    box_classes = _numbers(classes, boxes["label"])
    starts, ends = _runs(boxes["timestep"], boxes["camera"])
    place = {
        (int(boxes["timestep"][a]), str(boxes["camera"][a])): slice(a, b)
        for a, b in zip(starts, ends, strict=True)
    }
    pictures: dict[int, list[RunPicture]] = {}
    stamps: dict[int, int] = {}
    for index, stamp, camera, status, offset in zip(*(steps[name].tolist() for name in steps), strict=True):
        stamps[index] = stamp
        if status not in ("ok", "held"):
            continue
        part = place.pop((index, camera), slice(0, 0))
        pictures.setdefault(index, []).append(
            RunPicture(
                camera,
                stamp + offset,
                corners[part],
                boxes["score"][part],
                box_classes[part],
                seen["object"][part],
            )
        )
    if place:
        raise LogError(run_dir / "detections.parquet", "has boxes of timesteps that timesteps.parquet lacks")
    of_step = {
        int(objects["timestep"][a]): slice(a, b) for a, b in zip(*_runs(objects["timestep"]), strict=True)
    }
    positions = np.stack([objects[name] for name in ("x_m", "y_m", "z_m")], axis=1)
    xx, xy, yy = (objects[name] for name in _COVARIANCE)
    covariances = np.stack([xx, xy, xy, yy], axis=1).reshape(-1, 2, 2)
    object_classes = _numbers(classes, objects["label"])
    out = []
    for index in sorted(stamps):
        part = of_step.get(index, slice(0, 0))
        out.append(
            RunStep(
                index,
                stamps[index],
                tuple(sorted(pictures.get(index, []), key=lambda picture: picture.camera)),
                objects["object"][part],
                objects["track_id"][part],
                object_classes[part],
                positions[part],
                covariances[part],
                objects["filled"][part],
            )
        )
    return RunTables(
        run_dir,
        str(manifest.get("drive", run_dir.name)),
        tuple(out),
        tuple(sorted(set(steps["camera"].tolist()))),
        frozenset(classes.number(label) for label in asked) - {-1},
    )


def _numbers(classes: Classes, labels: npt.NDArray[np.object_]) -> IntArray:
    table = {label: classes.number(str(label)) for label in set(labels.tolist())}
    return np.array([table[label] for label in labels.tolist()], np.int64)


def _runs(*columns: npt.NDArray[np.generic]) -> tuple[list[int], list[int]]:
    """First row and end of each stretch of equal values."""
    count = len(columns[0])
    if count == 0:
        return [], []
    change = np.zeros(count - 1, bool)
    for column in columns:
        change |= np.asarray(column[1:] != column[:-1], bool)
    starts = [0, *(np.flatnonzero(change) + 1).tolist()]
    return starts, [*starts[1:], count]

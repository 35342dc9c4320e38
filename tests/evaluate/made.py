"""Truth and runs made by hand, in memory and as files, small enough to check by eye."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perception_batch.config import RunConfig
from perception_batch.evaluate.run_tables import RunPicture, RunStep, RunTables
from perception_batch.evaluate.truth import Classes, Truth, TruthFrame, TruthPicture
from perception_batch.ontology import Ontology

CLASSES = Classes(Ontology())
CAR, TRUCK, PERSON = (CLASSES.names.index(name) for name in ("car", "truck", "person"))
T0 = 1_700_000_000_000_000_000
STEP = 100_000_000


def truth_frame(stamp_ns: int, objects: Mapping[int, tuple[int, Sequence[float]]]) -> TruthFrame:
    """Objects by row: class and centre."""
    return TruthFrame(
        stamp_ns,
        np.array(list(objects), np.int64),
        np.array([c for c, _ in objects.values()], np.int64),
        np.array([p for _, p in objects.values()], np.float64).reshape(-1, 3),
    )


def truth_picture(
    frame: int,
    camera: str,
    boxes: Sequence[tuple[int, int, Sequence[float]]],
    *,
    stamp_ns: int | None = None,
    in_set: bool = True,
    visible: Sequence[float] | None = None,
) -> TruthPicture:
    """Boxes as (object row, class, corners)."""
    return TruthPicture(
        frame,
        camera,
        T0 + frame * STEP if stamp_ns is None else stamp_ns,
        in_set,
        np.array([i for i, _, _ in boxes], np.int64),
        np.array([c for _, c, _ in boxes], np.int64),
        np.array([b for _, _, b in boxes], np.float64).reshape(-1, 4),
        np.ones(len(boxes)) if visible is None else np.array(visible, np.float64),
    )


def truth_of(
    frames: Sequence[TruthFrame], pictures: Sequence[TruthPicture], *, knows_pictures: bool
) -> Truth:
    count = 1 + max(
        [int(i) for f in frames for i in f.ids] + [int(i) for p in pictures for i in p.ids], default=-1
    )
    return Truth(
        Path("truth"),
        tuple(frames),
        tuple(pictures),
        tuple(map(str, range(count))),
        ("car",) * count,
        knows_pictures=knows_pictures,
        unknown_labels={},
    )


def run_picture(
    camera: str, stamp_ns: int, rows: Sequence[tuple[Sequence[float], float, int, int]]
) -> RunPicture:
    """Rows as (corners, score, class, object)."""
    return RunPicture(
        camera,
        stamp_ns,
        np.array([r[0] for r in rows], np.float64).reshape(-1, 4),
        np.array([r[1] for r in rows], np.float64),
        np.array([r[2] for r in rows], np.int64),
        np.array([r[3] for r in rows], np.int64),
    )


def run_step(
    index: int,
    pictures: Sequence[RunPicture],
    objects: Sequence[tuple[int, int, int, Sequence[float]]] = (),
    *,
    sigma_m: float = 1.0,
    stamp_ns: int | None = None,
) -> RunStep:
    """Objects as (number, track, class, position)."""
    count = len(objects)
    return RunStep(
        index,
        T0 + index * STEP if stamp_ns is None else stamp_ns,
        tuple(pictures),
        np.array([o[0] for o in objects], np.int64),
        np.array([o[1] for o in objects], np.int64),
        np.array([o[2] for o in objects], np.int64),
        np.array([o[3] for o in objects], np.float64).reshape(-1, 3),
        np.tile(sigma_m**2 * np.eye(2), (count, 1, 1)),
        np.zeros(count, bool),
    )


def run_of(steps: Sequence[RunStep], cameras: Sequence[str] = ("a", "b")) -> RunTables:
    return RunTables(Path("run"), "drive", tuple(steps), tuple(cameras), frozenset({CAR, TRUCK, PERSON}))


@dataclass
class Box:
    """One row of a run on disk."""

    camera: str
    xyxy: tuple[float, float, float, float]
    label: str = "car"
    score: float = 0.9
    object: int | None = None


def write_run(
    directory: Path,
    steps: Sequence[tuple[int, Sequence[Box], Sequence[dict[str, Any]]]],
    cameras: Sequence[str] = ("a", "b"),
    status: str = "complete",
) -> Path:
    """A finished run as files: (stamp, boxes, objects) by timestep; objects are rows without the timestep."""
    directory.mkdir(parents=True)
    manifest = {"schema": 1, "drive": directory.name, "status": status, "config": RunConfig().model_dump(mode="json", exclude_none=True)}  # fmt: skip
    (directory / "run.json").write_text(json.dumps(manifest))
    timesteps, boxes, seen, objects = [], [], [], []
    for index, (stamp, found, made) in enumerate(steps):
        for camera in cameras:
            timesteps.append(
                {"timestep": index, "stamp_ns": stamp, "camera": camera, "status": "ok", "offset_ns": 0}
            )
            of_camera = sorted((b for b in found if b.camera == camera), key=lambda b: -b.score)
            for number, box in enumerate(of_camera):
                key = {"timestep": index, "camera": camera, "detection": number}
                corners = dict(zip(("x1", "y1", "x2", "y2"), box.xyxy, strict=True))
                boxes.append({**key, **corners, "score": box.score, "label": box.label})
                seen.append({**key, "object": box.object})
        objects += [{"timestep": index, **row} for row in made]
    i32, i64, f64, text = pa.int32(), pa.int64(), pa.float64(), pa.string()
    write_table(
        directory / "timesteps.parquet",
        timesteps,
        {"timestep": i32, "stamp_ns": i64, "camera": text, "status": text, "offset_ns": i64},
    )
    write_table(
        directory / "detections.parquet",
        boxes,
        {
            "timestep": i32,
            "camera": text,
            "detection": i32,
            **dict.fromkeys(("x1", "y1", "x2", "y2", "score"), pa.float32()),
            "label": text,
        },
    )
    write_table(
        directory / "observations.parquet",
        seen,
        {"timestep": i32, "camera": text, "detection": i32, "object": i32},
    )
    numbers = dict.fromkeys(("x_m", "y_m", "z_m", "cov_xx", "cov_xy", "cov_yy"), f64)
    write_table(
        directory / "objects.parquet",
        objects,
        {"timestep": i32, "object": i32, "track_id": i64, "label": text, **numbers, "filled": pa.bool_()},
    )
    return directory


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any]) -> None:
    schema = pa.schema(list(columns.items()), metadata={"schema": "1"})
    arrays = [pa.array([row.get(name) for row in rows], type_) for name, type_ in columns.items()]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


def write_truth_json(path: Path, frames: Sequence[tuple[int, Sequence[dict[str, Any]]]]) -> Path:
    path.write_text(
        json.dumps({"frames": [{"stamp_ns": stamp, "objects": list(objects)} for stamp, objects in frames]})
    )
    return path

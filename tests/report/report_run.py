"""Small runs as files, for the tests of the pages: every table as `write` would leave it, and a video of grey pictures."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perception_batch.write import schemas

T0 = 1_760_000_000_000_000_000
STEP_NS = 200_000_000
CAMERAS = ("front", "back")
GREY = (16, 12)
"""Grey of picture k: the first, plus k times the second."""


def write_table(directory: Path, name: str, columns: dict[str, Any], drive: str = "drive") -> None:
    """A table with the real schema; columns that are not given are 0, empty or, where they may be, null."""
    schema = getattr(schemas, name.upper()).arrow()
    count = len(next(iter(columns.values())))
    arrays = []
    for field in schema:
        if field.name in columns:
            values = columns[field.name]
        elif field.name == "drive":
            values = [drive] * count
        elif field.nullable:
            values = [None] * count
        else:
            empty: Any = (
                "" if pa.types.is_string(field.type) else False if pa.types.is_boolean(field.type) else 0
            )
            values = [empty] * count
        arrays.append(pa.array(values, type=field.type, from_pandas=True))
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), directory / f"{name}.parquet")


def write_run(
    directory: Path,
    *,
    drive: str = "drive",
    steps: int = 15,
    cameras: tuple[str, ...] = CAMERAS,
    missing: tuple[tuple[int, int], ...] = ((4, 1), (5, 1)),
    found: bool = True,
    labels: tuple[str, ...] = ("car",),
    video: bool = True,
    changes: dict[str, Any] | None = None,
) -> Path:
    """A run of a vehicle at 10 m/s, with one track that goes from 8 m ahead on, 2 m a timestep, and one that stands.

    `missing` are pairs (timestep, camera) without an image; `changes` go into ``run.json``.
    """
    directory.mkdir(parents=True)
    index = np.arange(steps)
    stamps = T0 + index * STEP_NS
    time_s = index * STEP_NS / 1e9
    count = len(cameras)
    status = np.full((steps, count), "ok", object)
    for step, camera in missing:
        if step < steps:
            status[step, camera] = "missing"
    offsets: list[int | None] = [
        (3_000_000 + step * 100_000) * camera if status[step, camera] == "ok" else None
        for step in range(steps)
        for camera in range(count)
    ]
    each_step, each_camera = np.repeat(index, count), np.tile(np.array(cameras, object), steps)
    timesteps = {
        "timestep": each_step, "stamp_ns": np.repeat(stamps, count), "time_s": np.repeat(time_s, count),
        "camera": each_camera, "status": status.ravel(), "offset_ns": offsets, "detections": np.full(steps * count, 3),
    }  # fmt: skip
    write_table(directory, "timesteps", timesteps, drive)
    used = status.ravel() == "ok"
    frames = {
        "camera": each_camera[used], "frame_stamp_ns": np.repeat(stamps, count)[used], "log_ns": np.repeat(stamps, count)[used],
        "time_s": np.repeat(time_s, count)[used], "timestep": each_step[used], "status": ["used"] * int(used.sum()),
        "width": np.full(int(used.sum()), 640), "height": np.full(int(used.sum()), 480), "encoding": ["jpeg"] * int(used.sum()),
    }  # fmt: skip
    write_table(directory, "frames", frames, drive)
    poses = np.arange(steps * 4)
    ego = {
        "stamp_ns": T0 + poses * STEP_NS // 4, "time_s": poses * STEP_NS / 4e9, "frame_id": ["odom"] * len(poses),
        "x_m": poses * 0.5, "qw": np.ones(len(poses)), "vx_mps": np.full(len(poses), 10.0), "vy_mps": np.zeros(len(poses)),
        "source": ["tf"] * len(poses),
    }  # fmt: skip
    write_table(directory, "ego", ego, drive)
    rows = [(s, 0, 8.0 + 2 * s, 0.0) for s in range(steps)] + [(s, 1, -5.0, 6.0) for s in range(2, steps)]
    rows = sorted(rows) if found else []
    objects = {
        "timestep": [r[0] for r in rows], "stamp_ns": [T0 + r[0] * STEP_NS for r in rows], "time_s": [r[0] * 0.2 for r in rows],
        "object": [r[1] for r in rows], "track_id": [r[1] + 7 for r in rows], "class_id": [2] * len(rows),
        "label": [labels[r[1] % len(labels)] for r in rows], "score": [0.9 - 0.3 * r[1] for r in rows],
        "x_m": [r[2] for r in rows], "y_m": [r[3] for r in rows], "z_m": [0.8] * len(rows),
        "length_m": [4.6] * len(rows), "width_m": [1.9] * len(rows), "filled": [False] * len(rows),
    }  # fmt: skip
    write_table(directory, "objects", objects, drive)
    tracks = [7, 8] if found else []
    write_table(directory, "tracks", {"track_id": tracks, "label": [labels[0]] * len(tracks)}, drive)
    (directory / "rig.json").write_text(json.dumps({"schema": 1, "base_frame": "base_link", "cameras": {}}))
    lost = len(missing)
    manifest: dict[str, Any] = {
        "schema": 1,
        "drive": drive,
        "status": "complete",
        "log": {"paths": ["drive.mcap"], "fingerprint": "ab", "start_ns": T0, "stop_ns": T0 + steps * STEP_NS},
        "config": {"ontology": {"car": {"color": "#3182bd"}}, "render": {"bird_eye_range_m": 50.0}},
        "model": {"path": "yolo11n.pt", "sha256": "cd", "backend": "torch", "precision": "fp32"},
        "versions": {"perception_batch": "0.1.0"},
        "device": "cpu",
        "argv": ["perception-batch", "run", "drive.mcap"],
        "counts": {
            "frames_in_log": int(used.sum()), "frames_used": int(used.sum()), "frames_unused": 0, "frames_undecodable": 0,
            "timesteps": steps, "timesteps_incomplete": int((status != "ok").any(axis=1).sum()), "detections": 30,
            "objects": len(rows), "tracks": len(tracks),
        },
        "sync": {"anchor": "reference", "reference": cameras[0], "tolerance_ns": 90_000_000, "spread_ns": {"p95": 4_000_000}, "cameras": {c: {"jitter_ns": 1000} for c in cameras}},
        "timing": {
            "wall_s": 4.0, "images_per_s": 7.5,
            "stages": {"read": {"busy_s": 0.1, "items": 15}, "detect": {"busy_s": 3.0, "items": 28}},
            "waits": {"read": {"put_s": 1.0, "get_s": 0.0}, "decode": {"put_s": 2.0, "get_s": 0.1}},
        },
        "losses": [{"topic": "/back", "start_ns": T0 + 4 * STEP_NS, "stop_ns": T0 + 6 * STEP_NS, "count": lost, "reason": "broken_jpeg"}] if lost else [],
    }  # fmt: skip
    manifest.update(changes or {})
    (directory / "run.json").write_text(json.dumps(manifest))
    if video:
        write_video(directory / "annotated.mp4", steps)
    return directory


def write_video(path: Path, pictures: int) -> None:
    """Grey pictures at the times of the timesteps, as `GREY` says."""
    import av

    with av.open(
        str(path), "w", options={"movflags": "faststart", "video_track_timescale": "90000"}
    ) as container:
        stream = container.add_stream("libx264", rate=Fraction(5))
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)
        for number in range(pictures):
            picture = np.full((192, 320, 3), GREY[0] + GREY[1] * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number * 18_000, Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

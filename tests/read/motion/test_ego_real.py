"""Ego motion of real and simulated drives, and of Foxglove's messages."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from log_writer import START_NS

from perception_batch.cli import main
from perception_batch.config import ReadConfig
from perception_batch.read import open_log
from perception_batch.read.containers.logfile import Channel, Message
from perception_batch.read.motion.ego import EgoTracker
from perception_batch.read.motion.head import MotionMessage
from perception_batch.read.motion.report import EgoReport
from perception_batch.read.rigs.transforms import TransformTree
from perception_batch.types import EgoPose


def read(path: Path, **config: Any) -> tuple[list[EgoPose], EgoReport]:
    with open_log([path], ReadConfig(**config)) as log:
        names = log.select(None)
        log.rig(names)
        poses = [x for x in log.stream(names) if isinstance(x, EgoPose)]
        return poses, log.ego_report


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "source", "kind", "count"),
    [
        ("ddad_surround", "tf", "tf", 6),
        ("nuscenes_sample.bag", "tf", "tf", 1),
        ("odd/t265_stereo_fisheye.bag", "/camera/odom/sample", "odometry", 19),
        ("kitti_0926", "", "", 0),
    ],
)
def test_real_drives(recordings: Path, name: str, source: str, kind: str, count: int) -> None:
    poses, report = read(recordings / name)
    assert (report.source, report.kind, report.poses, len(poses)) == (source, kind, count, count)
    assert (report.jumps, report.bad, report.restamped, report.notes) == (0, 0, 0, ())
    assert report.clock_offset_ns is None or abs(report.clock_offset_ns) < 100_000_000


def test_a_simulated_drive_from_each_source(tmp_path: Path) -> None:
    """tf, Odometry and a TUM file of the simulator's truth give the same path."""
    out = tmp_path / "sim"
    words = [
        "simulate",
        str(out),
        "--duration",
        "0.6",
        "--no-noise",
        "--preset",
        "front",
        "--size",
        "64x48",
        "--seed",
        "3",
    ]
    assert main(words) == 0
    truth = pq.read_table(out / "truth" / "ego.parquet").to_pylist()  # type: ignore[no-untyped-call]
    tum = tmp_path / "truth.tum"
    with tum.open("w") as file:
        for row in truth:
            stamp = row["cycle_ns"]
            numbers = (row[key] for key in ("x_m", "y_m", "z_m", "qx", "qy", "qz", "qw"))
            file.write(f"{stamp // 10**9}.{stamp % 10**9:09d} {' '.join(map(repr, numbers))}\n")
    by_source = {
        "tf": read(out / "drive"),
        "odometry": read(out / "drive", ego="odometry"),
        "file": read(out / "drive", trajectory=str(tum)),
    }
    paths = {}
    for kind, (poses, report) in by_source.items():
        assert (report.kind, report.jumps, report.dropped, report.notes) == (kind, 0, 0, ())
        paths[kind] = {pose.stamp_ns: pose for pose in poses}
    for kind, least in (("odometry", 30), ("file", 6)):  # the truth has one row a picture
        both = paths["tf"].keys() & paths[kind].keys()
        assert len(both) >= least
        for stamp in both:
            a, b = paths["tf"][stamp].odom_SE3_base, paths[kind][stamp].odom_SE3_base
            assert a.translation_m == pytest.approx(b.translation_m, abs=1e-6)
            assert a.rotation == pytest.approx(b.rotation, abs=1e-6)


# ---------------------------------------------------------------------- Foxglove


def namespace(fields: dict[str, Any] | str) -> Any:
    text = fields if isinstance(fields, str) else json.dumps(fields)
    return json.loads(text, object_hook=lambda own: SimpleNamespace(**own))


def fox(msgtype: str, content: Any, log_ns: int = START_NS) -> MotionMessage:
    channel = Channel(1, "/x", msgtype, "json", "", False)
    return MotionMessage.of(Message(log_ns, channel, b""), content)


def timed(stamp_ns: int = START_NS, **fields: Any) -> dict[str, Any]:
    return {"timestamp": {"sec": stamp_ns // 10**9, "nsec": stamp_ns % 10**9}, "frame_id": "map", **fields}


def test_foxglove_poses_and_fixes() -> None:
    tracker = EgoTracker("base_link", TransformTree())
    pose = {"position": {"x": 1, "y": 2, "z": 3}, "orientation": {"x": 0, "y": 0, "z": 0, "w": 1}}
    made = tracker.take(fox("foxglove.PoseInFrame", namespace(timed(pose=pose))))
    assert made is not None
    assert (made.stamp_ns, made.frame_id, tracker.kind) == (START_NS, "map", "pose")
    assert made.odom_SE3_base.translation_m.tolist() == [1, 2, 3]
    east = EgoTracker("base_link", TransformTree())
    found = []
    for i in range(10):
        at = START_NS + i * 10**8
        fix = namespace(timed(at, latitude=0.0, longitude=10 + i * 1e-5, altitude=5))
        if (one := east.take(fox("foxglove.LocationFix", fix, at))) is not None:
            found.append(one)
    assert (east.kind, east.path.waited, len(found)) == ("gnss", 2, 8)  # 2 m are driven after two steps
    assert found[-1].odom_SE3_base.translation_m[0] == pytest.approx(9e-5 * math.pi / 180 * 6378142, rel=1e-3)
    assert np.allclose(found[-1].odom_SE3_base.rotation, np.eye(3), atol=1e-6), "east is yaw 0"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        timed(),
        {**timed(latitude=1, longitude=1, altitude=1), "timestamp": {"sec": math.inf, "nsec": 0}},
        timed(latitude=math.inf, longitude=1, altitude=1),
        timed(latitude="x", longitude=1, altitude=1),
        timed(latitude=10**400, longitude=1, altitude=1),
        timed(pose={"position": 1, "orientation": 2}),
        timed(pose={"position": {"x": "a", "y": 0, "z": 0}, "orientation": {}}),
        timed(
            pose={"position": {"x": 10**400, "y": 0, "z": 0}, "orientation": {"x": 0, "y": 0, "z": 0, "w": 1}}
        ),
    ],
)
@pytest.mark.parametrize("msgtype", ["foxglove.PoseInFrame", "foxglove.LocationFix"])
def test_hostile_json_makes_no_pose(fields: dict[str, Any], msgtype: str) -> None:
    tracker = EgoTracker("base_link", TransformTree())
    try:
        assert tracker.take(fox(msgtype, namespace(fields))) is None
    except (ValueError, AttributeError, TypeError):
        return  # counted by who asks

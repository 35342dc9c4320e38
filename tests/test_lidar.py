"""A lidar in the log, from its messages to the objects' ranges, and again without pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lidar_clouds import Array, beams, cast, cloud
from log_writer import START_NS, CameraSpec, Container, Extra, Image, message_types, write_log
from motion_messages import header
from patch_detector import PatchDetector

from perception_batch.config import RunConfig, load_config
from perception_batch.errors import ConfigError
from perception_batch.job import Job, Outcome
from perception_batch.pipeline import run_drive
from perception_batch.replay import fuse_again, redo

DERIVED = ("objects.parquet", "observations.parquet", "tracks.parquet", "timesteps.jsonl")
LIDAR_AT = np.array([0.5, 0.3, 2.0])
TOPIC = "/lidar_top/points"
CAR_M, SIZE = (
    18.0,
    np.array([4.6, 1.9, 2.3]),
)  # of the car's centre before the vehicle; far higher than cars are
EGO_MPS = 8.0


def scene(camera: CameraSpec, index: int) -> Image:
    """A car ahead that keeps its distance, drawn where the camera sees its rear."""
    w, h = camera.size
    image = np.full((h, w, 3), 90, np.uint8)
    k = camera.k()
    near = CAR_M - SIZE[0] / 2 - camera.position_m[0]
    x = [k[2] + 0.5 + k[0] * y / near for y in (-SIZE[1] / 2, SIZE[1] / 2)]
    y = [k[5] + 0.5 + k[4] * (camera.position_m[2] - z) / near for z in (SIZE[2], 0.0)]
    image[round(y[0]) : round(y[1]), round(x[0]) : round(x[1])] = (30, 250, 30)
    return image


def sweep_points(seconds: float) -> Array:
    """What the lidar sees in its own frame: the car, the ground, and a wall that stands still 60 m on."""
    car = (np.array([CAR_M, 0.0, SIZE[2] / 2]), SIZE, 0.0)
    wall = (np.array([60.0 - EGO_MPS * seconds, 0.0, 5.0]), np.array([1.0, 80.0, 10.0]), 0.0)
    return cast([car, wall], LIDAR_AT, beams(30, 900)) - LIDAR_AT


def clouds(
    container: Container, *, late_ms: float = 20.0, frames: int = 12, frame_id: str = "lidar_top"
) -> list[Extra]:
    store = message_types(container)
    out = []
    for index in range(frames):
        stamp = START_NS + round((index * 100 + late_ms) * 1e6)
        head = header(stamp, frame_id)
        if container == "bag1":
            head = store.types["std_msgs/msg/Header"](
                index, store.types["builtin_interfaces/msg/Time"](stamp // 10**9, stamp % 10**9), frame_id
            )
        message = cloud(store.types, head, sweep_points((stamp - START_NS) * 1e-9))
        out.append(Extra(TOPIC, stamp + 60_000_000, message))
    return out


def written(
    folder: Path, extra: Sequence[Extra], container: Container = "mcap", *, link: bool = True
) -> Path:
    camera = CameraSpec("cam_front", size=(320, 200), encoding="png", draw=scene)
    edges = [("base_link", "lidar_top", (0.5, 0.3, 2.0), (0.0, 0.0, 0.0, 1.0))] if link else []
    return write_log(
        folder, container, [camera], frames=12, ego_speed_mps=EGO_MPS, tf_edges=edges, extra=extra
    )


def settings(*overrides: str) -> RunConfig:
    return load_config(None, ["detect.image_size=320", "render.video=false", *overrides])


def run(log: Path, out: Path, *overrides: str, **changes: Any) -> Outcome:
    job = replace(Job("drive", (log,), out, settings(*overrides)), **changes)
    return run_drive(job, redo=redo, open_with=PatchDetector)


def distance(directory: Path) -> Array:
    objects = pd.read_parquet(directory / "objects.parquet")
    return np.asarray(objects[objects.label == "car"].x_m.to_numpy(), np.float64)


@pytest.mark.parametrize("container", ["mcap", "sqlite3", "bag1"])
def test_the_lidar_tells_the_range_and_fuse_repeats_it_to_the_byte(
    tmp_path: Path, container: Container
) -> None:
    """A van-high car: its height says that it is near, the ground cue is vague; the lidar knows better."""
    log = written(tmp_path / "in", clouds(container), container)
    plain = run(log, tmp_path / "plain").directory
    done = run(log, tmp_path / "lidar", "fuse.lidar=auto")
    directory = done.directory
    assert not (plain / "lidar.parquet").exists()
    table = pd.read_parquet(directory / "lidar.parquet")
    near = CAR_M - SIZE[0] / 2 - 1.5  # from the camera
    assert len(table) == 12
    assert set(table.camera) == {"cam_front"}
    assert table.range_m.to_numpy() == pytest.approx(near + 0.02 * EGO_MPS, abs=0.05)  # it drives along
    assert (table.sigma_m > 0.05).all()
    assert (table.sigma_m < 0.6).all()
    with_lidar, without = np.abs(distance(directory) - CAR_M), np.abs(distance(plain) - CAR_M)
    assert np.median(with_lidar) < 0.35
    assert np.median(with_lidar) < 0.4 * np.median(without)
    assert (directory / "detections.parquet").read_bytes() == (plain / "detections.parquet").read_bytes()

    before = {name: (directory / name).read_bytes() for name in DERIVED}
    fuse_again(directory, ["fuse.pitch_sigma_deg=1.5"])
    other = run(log, tmp_path / "other", "fuse.lidar=auto", "fuse.pitch_sigma_deg=1.5").directory
    for name in DERIVED:
        assert (directory / name).read_bytes() == (other / name).read_bytes(), name
    assert any((directory / name).read_bytes() != data for name, data in before.items())

    fuse_again(directory, ["fuse.lidar=null", "fuse.pitch_sigma_deg=0.5"])
    assert not (directory / "lidar.parquet").exists()
    for name in DERIVED:
        assert (directory / name).read_bytes() == (plain / name).read_bytes(), name


def test_fuse_refuses_what_the_points_would_be_needed_for(tmp_path: Path) -> None:
    log = written(tmp_path / "in", clouds("mcap"))
    plain, directory = (
        run(log, tmp_path / "plain").directory,
        run(log, tmp_path / "a", "fuse.lidar=auto").directory,
    )
    with pytest.raises(ConfigError, match=r"cannot change fuse\.lidar"):
        fuse_again(plain, ["fuse.lidar=auto"])
    mount = (
        "cameras.cam_front.base_SE3_camera={position_m: [1, 0, 1], quaternion_xyzw: [0.5, -0.5, 0.5, -0.5]}"
    )
    with pytest.raises(ConfigError, match=r"cannot change cameras\.cam_front\.base_SE3_camera"):
        fuse_again(directory, [mount])
    fuse_again(directory, ["fuse.lidar=null", mount])


def test_clouds_that_cannot_be_used_are_counted_with_the_reason(tmp_path: Path) -> None:
    extra = clouds("mcap")
    store = message_types("mcap")
    data = bytes(store.serialize_cdr(extra[3].message, "sensor_msgs/msg/PointCloud2"))
    extra[3] = Extra(TOPIC, extra[3].log_ns, data[: len(data) // 2], "sensor_msgs/msg/PointCloud2")
    extra[5].message.header = header(0, "lidar_top")
    extra[7].message.header.frame_id = "unheard_of"
    done = run(written(tmp_path / "in", extra), tmp_path / "out", "fuse.lidar=" + TOPIC)
    losses = {loss["reason"]: loss["count"] for loss in done.manifest.losses if loss["topic"] == TOPIC}
    assert losses == {
        "point clouds that cannot be read (cut off)": 1,
        "point clouds without a plausible stamp": 1,
        "point clouds: no transform from their frame unheard_of to base_link": 1,
    }
    table = pd.read_parquet(done.directory / "lidar.parquet")
    assert sorted(set(range(12)) - set(table.timestep)) == [3, 5, 7]


def test_a_lidar_that_nothing_connects_is_refused_by_name_and_left_out_by_auto(tmp_path: Path) -> None:
    log = written(tmp_path / "in", clouds("mcap"), link=False)
    with pytest.raises(ConfigError, match="no transform from their frame lidar_top to base_link"):
        run(log, tmp_path / "out", f"fuse.lidar={TOPIC}")
    done = run(log, tmp_path / "auto", "fuse.lidar=auto")
    assert any("no transform from their frame lidar_top" in note for note in done.notes)
    assert len(pd.read_parquet(done.directory / "lidar.parquet")) == 0


def test_a_log_without_a_lidar(tmp_path: Path) -> None:
    log = written(tmp_path / "in", [])
    with pytest.raises(ConfigError, match="no topic of sensor_msgs/msg/PointCloud2 in this log; it has none"):
        run(log, tmp_path / "out", "fuse.lidar=/points")
    done = run(log, tmp_path / "auto", "fuse.lidar=auto")
    assert any("no point clouds" in note for note in done.notes)
    plain = run(log, tmp_path / "plain")
    for name in DERIVED:
        assert (done.directory / name).read_bytes() == (plain.directory / name).read_bytes(), name


def test_sweeps_beyond_the_tolerance_belong_to_no_picture(tmp_path: Path) -> None:
    log = written(tmp_path / "in", clouds("mcap", late_ms=30.0))
    done = run(log, tmp_path / "out", "fuse.lidar=auto", "fuse.lidar_tolerance_ms=20")
    assert len(pd.read_parquet(done.directory / "lidar.parquet")) == 0


def test_a_stored_lidar_of_another_run_is_refused(tmp_path: Path) -> None:
    from perception_batch.errors import LogError

    log = written(tmp_path / "in", clouds("mcap"))
    directory = run(log, tmp_path / "a", "fuse.lidar=auto").directory
    short = run(log, tmp_path / "b", "fuse.lidar=auto", stop="0.5").directory
    (short / "lidar.parquet").write_bytes((directory / "lidar.parquet").read_bytes())
    with pytest.raises(LogError, match="does not agree"):
        fuse_again(short, ["fuse.pitch_sigma_deg=1"])


def test_the_walls_place_does_not_depend_on_the_sweeps_stamp() -> None:
    """The drawn world is one: the wall stands still while the vehicle drives on."""
    walls = []
    for seconds in (0.0, 0.5):
        points = sweep_points(seconds) + LIDAR_AT
        ahead = points[(np.abs(points[:, 1]) > 5) & (points[:, 2] > 0.5)]
        walls.append(float(np.median(ahead[:, 0])) + EGO_MPS * seconds)
    assert math.isclose(*walls, abs_tol=0.1)

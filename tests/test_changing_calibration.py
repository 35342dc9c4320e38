"""Calibration that changes while a drive is recorded, through a whole run of a written log and through `fuse`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from log_writer import (
    START_NS,
    CameraSpec,
    Container,
    Extra,
    Image,
    message_types,
    optical_quaternion,
    write_log,
)
from patch_detector import PatchDetector

from perception_batch.config import load_config
from perception_batch.job import Job, Outcome
from perception_batch.pipeline import run_drive
from perception_batch.replay import fuse_again

CONTAINERS: tuple[Container, ...] = ("mcap", "bag1")
SIZE = (320, 200)
CAR = (30, 250, 30)
FRAMES, CHANGE = 8, 4
RESULTS = ("objects.parquet", "observations.parquet", "tracks.parquet")
FOCAL_PX = 288.0  # of `CameraSpec.k`


def car(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image:
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    left, top, right, bottom = box
    image[top:bottom, left:right] = CAR
    return image


def ahead(spec: CameraSpec, index: int) -> Image:
    return car(SIZE, (180, 90, 220, 130))


def zoomed(spec: CameraSpec, index: int) -> Image:
    """The same thing, twice as large from `CHANGE` on."""
    return car(SIZE, (180, 90, 220, 130) if index < CHANGE else (201, 81, 281, 161))


def panned(spec: CameraSpec, index: int) -> Image:
    """The same thing before a camera that looks ten degrees further to the left from `CHANGE` on."""
    return car(SIZE, (180, 90, 220, 130) if index < CHANGE else (234, 90, 274, 130))


def camera(**changes: Any) -> CameraSpec:
    return CameraSpec("cam", **{"size": SIZE, "encoding": "png", "draw": ahead, "info": False, **changes})


def run(
    tmp_path: Path,
    container: Container,
    cameras: Sequence[CameraSpec],
    *overrides: str,
    frames: int = FRAMES,
    start: str | None = None,
    **log: Any,
) -> Outcome:
    path = write_log(tmp_path / "in", container, cameras, frames=frames, **log)
    config = load_config(None, ["detect.image_size=320", "render.video=false", "track.lag_s=0", *overrides])
    return run_drive(Job("drive", (path,), tmp_path / "out", config, start=start), open_with=PatchDetector)


def header(types: Any, container: Container, stamp_ns: int, frame: str) -> Any:
    stamp = types["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
    args = (0, stamp, frame) if container == "bag1" else (stamp, frame)
    return types["std_msgs/msg/Header"](*args)


def infos(
    container: Container,
    spec: CameraSpec,
    focal_px: Callable[[int], float],
    *,
    frames: int = FRAMES,
    late_ms: float = 1.0,
    at: Sequence[int] | None = None,
    size: Callable[[int], tuple[int, int]] = lambda _: SIZE,
    **fields: Any,
) -> list[Extra]:
    """CameraInfo with the stamp of each picture, recorded just after it, as ROS drivers do."""
    types = message_types(container).types
    out = []
    for i in range(frames) if at is None else at:
        f, (w, h) = focal_px(i), size(i)
        k = [f, 0, w / 2 - 0.5, 0, f, h / 2 - 0.5, 0, 0, 1]
        values: dict[str, Any] = {"d": [0.0] * 5, "k": k, "r": np.eye(3).ravel(), "p": np.zeros(12), **fields}
        values = {
            key.upper() if container == "bag1" else key: np.array(v, np.float64) for key, v in values.items()
        }
        message = types["sensor_msgs/msg/CameraInfo"](
            header=header(types, container, spec.stamp_ns(i), spec.optical_frame),
            height=h,
            width=w,
            distortion_model="plumb_bob",
            binning_x=0,
            binning_y=0,
            roi=types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
            **values,
        )
        log_ns = spec.stamp_ns(i) + round((3.0 + late_ms) * 1e6)
        out.append(Extra(spec.camera_info_topic, log_ns, message))
    return out


def transforms(
    container: Container,
    child: str,
    poses: Sequence[tuple[float, tuple[float, float, float], tuple[float, float, float, float]]],
    topic: str,
) -> list[Extra]:
    """One TFMessage a pose in base_link: milliseconds after the start, position, quaternion."""
    types = message_types(container).types
    out = []
    for at_ms, position, quaternion in poses:
        stamp = START_NS + round(at_ms * 1e6)
        moved = types["geometry_msgs/msg/Transform"](
            types["geometry_msgs/msg/Vector3"](*position), types["geometry_msgs/msg/Quaternion"](*quaternion)
        )
        stamped = types["geometry_msgs/msg/TransformStamped"](
            header(types, container, stamp, "base_link"), child, moved
        )
        out.append(Extra(topic, stamp + 1_000_000, types["tf2_msgs/msg/TFMessage"]([stamped])))
    return out


def assert_stands_still(outcome: Outcome, *, m: float = 0.5) -> None:
    """Every timestep has the one thing, which stands where the first picture shows it."""
    rows = pd.read_parquet(outcome.directory / "objects.parquet").sort_values("timestep")
    assert rows.timestep.tolist() == list(range(FRAMES))
    assert rows.x_m.to_numpy() == pytest.approx(np.full(FRAMES, rows.x_m.iloc[0]), abs=m)
    bearing = np.degrees(np.arctan2(rows.y_m, rows.x_m - 1.5)).to_numpy()
    assert bearing == pytest.approx(np.full(FRAMES, -math.degrees(math.atan(40 / FOCAL_PX))), abs=0.5)


def lenses(outcome: Outcome) -> pd.DataFrame:
    return pd.read_parquet(outcome.directory / "lenses.parquet")


def assert_fuse_repeats(done: Outcome, again: Callable[[str], Outcome], tmp_path: Path) -> None:
    """`fuse` gives the same bytes, and with another setting those of a whole run with it."""
    kept = {name: (done.directory / name).read_bytes() for name in RESULTS}
    fuse_again(done.directory, [])
    assert {name: (done.directory / name).read_bytes() for name in RESULTS} == kept
    clean = again("detect.score=0.4")
    fused = fuse_again(done.directory, ["detect.score=0.4"], out=tmp_path / "fused")
    for name in RESULTS:
        assert (fused.directory / name).read_bytes() == (clean.directory / name).read_bytes(), name
    assert fused.manifest.calibration["changes"] == clean.manifest.calibration["changes"] != []


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_lens_that_changes_is_that_of_the_frames_stamp_and_fuse_repeats_it(
    tmp_path: Path, container: Container
) -> None:
    """The zoom doubles; what stands still is seen to stand still, in that very frame too."""
    spec = camera(draw=zoomed)
    told = infos(container, spec, lambda i: FOCAL_PX * (1 if i < CHANGE else 2))

    def again(*overrides: str) -> Outcome:
        return run(tmp_path / "-".join(["run", *overrides]), container, [spec], *overrides, extra=told)

    done = again()
    table = lenses(done)
    assert table.timestep.tolist() == list(range(CHANGE, FRAMES))
    assert set(table.fx_px) == {2 * FOCAL_PX}
    assert_stands_still(done)
    said = [note for note in done.notes if "CameraInfo changes" in note]
    assert said == list(done.manifest.calibration["changes"])
    assert len(said) == 1
    assert "cam" in said[0]
    assert "once, first at 0.4 s" in said[0]
    assert_fuse_repeats(done, again, tmp_path)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_chain_that_is_static_at_first_and_moves_later_is_followed_and_fuse_repeats_it(
    tmp_path: Path, container: Container
) -> None:
    """The mount stands in /tf_static; then a gimbal begins to tell it on /tf, ten degrees further to the left."""
    spec = camera(info=True, draw=panned)
    turned = [(10.0 * k, spec.position_m, optical_quaternion(10.0)) for k in range(35, 90)]
    moved = transforms(container, spec.optical_frame, turned, "/tf")

    def again(*overrides: str) -> Outcome:
        folder = tmp_path / "-".join(["run", *overrides])
        settings = "read.head_s=0.3", *overrides  # the head ends before the change
        return run(folder, container, [spec], *settings, extra=moved, ego_speed_mps=0.0)

    done = again()
    mounts = pd.read_parquet(done.directory / "mounts.parquet")
    assert mounts.timestep.tolist() == list(range(CHANGE, FRAMES))
    for row in mounts.itertuples():
        q = np.array([row.qx, row.qy, row.qz, row.qw])
        assert abs(abs(float(q @ np.array(optical_quaternion(10.0)))) - 1) < 1e-9
    assert_stands_still(done, m=1.0)
    assert any("move it on the vehicle (once" in note for note in done.notes)
    assert_fuse_repeats(done, again, tmp_path)


def test_a_mount_that_moves_within_the_head_is_where_it_was_before_too(tmp_path: Path) -> None:
    """The rig has what the head told last; what was before it is in the table."""
    spec = camera(info=True, draw=panned)
    turned = [(10.0 * k, spec.position_m, optical_quaternion(10.0)) for k in range(35, 90)]
    done = run(tmp_path, "mcap", [spec], extra=transforms("mcap", spec.optical_frame, turned, "/tf"))
    mounts = pd.read_parquet(done.directory / "mounts.parquet")
    assert mounts.timestep.tolist() == list(range(CHANGE))
    assert_stands_still(done, m=1.0)


def test_lens_and_mount_change_together(tmp_path: Path) -> None:
    def both(spec: CameraSpec, index: int) -> Image:
        return car(SIZE, (180, 90, 220, 130)) if index < CHANGE else car(SIZE, (278, 80, 320, 160))

    spec = camera(draw=both)
    told = infos("mcap", spec, lambda i: FOCAL_PX * (1 if i < CHANGE else 2))
    told += transforms(
        "mcap", spec.optical_frame, [(350, spec.position_m, optical_quaternion(10.0))], "/tf_static"
    )

    def again(*overrides: str) -> Outcome:
        return run(tmp_path / "-".join(["run", *overrides]), "mcap", [spec], *overrides, extra=told)

    done = again()
    assert len(lenses(done)) == FRAMES - CHANGE
    assert len(done.manifest.calibration["changes"]) == 2
    assert_fuse_repeats(done, again, tmp_path)


def test_noise_in_repeated_camera_info_is_no_change(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    spec = camera()
    done = run(tmp_path, "mcap", [spec], extra=infos("mcap", spec, lambda _: FOCAL_PX + rng.normal() * 1e-3))
    assert not (done.directory / "lenses.parquet").exists()
    assert done.manifest.calibration["changes"] == []


def test_a_lens_that_is_none_is_counted_and_the_one_before_it_stays(tmp_path: Path) -> None:
    spec = camera()
    done = run(tmp_path, "mcap", [spec], extra=infos("mcap", spec, lambda i: FOCAL_PX if i < CHANGE else 0.0))
    assert not (done.directory / "lenses.parquet").exists()
    rows = pd.read_parquet(done.directory / "objects.parquet")
    assert rows.x_m.notna().all()
    lost = [x for x in done.manifest.losses if x["topic"] == spec.camera_info_topic]
    assert [(x["count"], x["reason"]) for x in lost] == [
        (1, "CameraInfo that is no lens (the one before it is used)")  # the others repeat it to the byte
    ]
    assert done.exit_status == 0


@pytest.mark.parametrize("d", [[0.0] * 5, [-0.1, 0.02, 0.0, 0.0, 0.0]], ids=["pinhole", "bent"])
def test_a_lens_that_changes_with_every_frame_is_followed_in_bounded_memory(
    tmp_path: Path, d: list[float]
) -> None:
    spec = camera(rate_hz=100.0, draw=lambda s, i: car((64, 40), (40, 18, 48, 26)), size=(64, 40))
    told = infos("mcap", spec, lambda i: 60.0 + 0.1 * i, frames=150, size=lambda _: (64, 40), d=d)
    done = run(tmp_path, "mcap", [spec], frames=150, extra=told)
    table = lenses(done)
    assert len(table) == 149
    # Told in steps of 0.1 px, each above the noise.
    assert table.fx_px.to_numpy() == pytest.approx(60.0 + 0.1 * np.arange(1, 150), abs=1e-9)
    assert "149 times" in done.manifest.calibration["changes"][0]
    kept = (done.directory / "objects.parquet").read_bytes()
    fuse_again(done.directory, [])
    assert (done.directory / "objects.parquet").read_bytes() == kept


@pytest.mark.parametrize("new_size", [(640, 400), (400, 200)], ids=["twice", "other_aspect"])
def test_a_resolution_that_is_switched_with_its_camera_info(
    tmp_path: Path, new_size: tuple[int, int]
) -> None:
    """The images grow half-way; boxes are of each image as it is, and the things stay where they are."""
    grown = new_size == (640, 400)
    focal = 2 * FOCAL_PX if grown else FOCAL_PX

    def size(index: int) -> tuple[int, int]:
        return SIZE if index < CHANGE else new_size

    def draw(spec: CameraSpec, index: int) -> Image:
        if index < CHANGE:
            return car(SIZE, (180, 90, 220, 130))
        return car(new_size, (360, 180, 440, 260) if grown else (220, 90, 260, 130))

    spec = camera(draw=draw)
    done = run(
        tmp_path,
        "mcap",
        [spec],
        extra=infos("mcap", spec, lambda i: FOCAL_PX if i < CHANGE else focal, size=size),
    )
    boxes = pd.read_parquet(done.directory / "detections.parquet")
    steps = pd.read_parquet(done.directory / "timesteps.parquet")
    assert list(zip(steps.width, steps.height, strict=True)) == [size(i) for i in range(FRAMES)]
    assert boxes[["x1", "y1"]].iloc[-1].tolist() == pytest.approx([360, 180] if grown else [220, 90], abs=2)
    assert (boxes.x2.to_numpy() <= [size(i)[0] for i in boxes.timestep]).all()
    assert_stands_still(done)
    assert {tuple(hw) for hw in done.manifest.model["input_hw"]} >= {(224, 320)}


def test_images_that_change_their_aspect_without_camera_info_get_no_position(tmp_path: Path) -> None:
    def draw(spec: CameraSpec, index: int) -> Image:
        return car(SIZE if index < CHANGE else (200, 200), (80, 90, 120, 130))

    done = run(tmp_path, "mcap", [camera(info=True, draw=draw)])
    rows = pd.read_parquet(done.directory / "objects.parquet")
    assert rows[rows.timestep < CHANGE].x_m.notna().all()
    assert (rows.timestep >= CHANGE).any()
    seen = pd.read_parquet(done.directory / "observations.parquet")
    assert len(seen) == FRAMES


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_part_of_the_log_takes_over_what_was_corrected_before_it(
    tmp_path: Path, container: Container
) -> None:
    """With --start far beyond the correction: lens and mount are those that hold by then."""
    spec = camera(rate_hz=1.0)
    told = infos(container, spec, lambda i: FOCAL_PX * (1 if i < 6 else 2), at=[0, 6])
    told += transforms(
        container, spec.optical_frame, [(6100, spec.position_m, optical_quaternion(10.0))], "/tf_static"
    )
    done = run(
        tmp_path,
        container,
        [spec],
        "read.head_s=2",
        frames=30,
        start="20",
        extra=told,
    )
    assert lenses(done).fx_px.tolist() == [2 * FOCAL_PX] * 10
    assert len(pd.read_parquet(done.directory / "mounts.parquet")) == 10
    first = pd.read_parquet(done.directory / "objects.parquet").iloc[0]
    bearing = math.degrees(math.atan2(first.y_m, first.x_m - 1.5))
    assert bearing == pytest.approx(10 - math.degrees(math.atan(40 / 576)), abs=0.5)


def test_a_lens_of_the_config_does_not_change_but_the_mount_does(tmp_path: Path) -> None:
    spec = camera()
    told = infos("mcap", spec, lambda i: FOCAL_PX * (1 if i < CHANGE else 2))
    told += transforms(
        "mcap", spec.optical_frame, [(350, spec.position_m, optical_quaternion(10.0))], "/tf_static"
    )
    lens = {
        "model": "pinhole",
        "width_px": 320,
        "height_px": 200,
        "fx_px": 300.0,
        "fy_px": 300.0,
        "cx_px": 159.5,
        "cy_px": 99.5,
    }
    own = f"cameras.cam.intrinsics={json.dumps(lens)}"
    plain = run(tmp_path / "plain", "mcap", [spec], extra=told)
    clean = run(tmp_path / "own", "mcap", [spec], own, extra=told)
    assert not (clean.directory / "lenses.parquet").exists()
    assert (clean.directory / "mounts.parquet").exists()
    fused = fuse_again(plain.directory, [own], out=tmp_path / "fused")
    for name in RESULTS:
        assert (fused.directory / name).read_bytes() == (clean.directory / name).read_bytes(), name


def test_a_pose_of_the_config_keeps_the_logs_lenses(tmp_path: Path) -> None:
    spec = camera()
    told = infos("mcap", spec, lambda i: FOCAL_PX * (1 if i < CHANGE else 2))
    q = list(optical_quaternion(5.0))
    own = f"cameras.cam.base_SE3_camera={{position_m: [1.5, 0, 1.6], quaternion_xyzw: {q}}}"
    plain = run(tmp_path / "plain", "mcap", [spec], extra=told)
    clean = run(tmp_path / "own", "mcap", [replace(spec)], own, extra=told)
    assert len(lenses(clean)) == FRAMES - CHANGE
    fused = fuse_again(plain.directory, [own], out=tmp_path / "fused")
    for name in RESULTS:
        assert (fused.directory / name).read_bytes() == (clean.directory / name).read_bytes(), name

"""Calibration: CameraInfo, transforms, rig files, config; and ego motion."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from log_writer import START_NS, CameraSpec, Container, Extra, message_types, ring, write_log

from perception_batch.calibration import Rig
from perception_batch.config import CameraConfig, PoseConfig, ReadConfig
from perception_batch.errors import CalibrationError, ConfigError
from perception_batch.read import open_log, write_rig
from perception_batch.read.rigs.rig_file import read_rig_file
from perception_batch.types import EgoPose

IDENTITY = (0.0, 0.0, 0.0, 1.0)


def rig_of(path: Path, cameras: dict[str, CameraConfig] | None = None, **kwargs: Any) -> Rig:
    with open_log([path], ReadConfig(), cameras) as log:
        return log.rig(log.select(None), **kwargs)


@pytest.mark.parametrize("container", ["mcap", "sqlite3", "bag1"])
def test_a_ring_of_cameras(tmp_path: Path, container: Container) -> None:
    cameras = ring(4, position_m=(1.0, 2.0, 3.0))
    rig = rig_of(write_log(tmp_path, container, cameras, ego_speed_mps=3.0))
    assert rig.base_frame == "base_link"
    assert dict(rig.uncalibrated) == {}
    for spec in cameras:
        camera = rig.cameras[spec.name]
        assert camera.source == "camera_info+tf"
        assert camera.intrinsics.model == "pinhole"
        assert (camera.intrinsics.fx_px, camera.intrinsics.cy_px) == (spec.k()[0], spec.k()[5])
        # what lies 10 m ahead on the optical axis lies 10 m along the camera's yaw
        yaw = math.radians(spec.yaw_deg)
        ahead = camera.base_SE3_camera.apply(np.array([0.0, 0.0, 10.0]))
        assert ahead == pytest.approx([1 + 10 * math.cos(yaw), 2 + 10 * math.sin(yaw), 3.0])
        below = camera.base_SE3_camera.apply(np.array([0.0, 1.0, 0.0]))
        assert below == pytest.approx([1.0, 2.0, 2.0])


def info(tmp_path: Path, topic: str | None = None, size: tuple[int, int] = (64, 48), **fields: Any) -> Rig:
    spec = CameraSpec("a", topic=topic, size=size, info_fields=fields, info_topic="/a/camera_info")
    return rig_of(write_log(tmp_path, "mcap", [spec], frames=2))


K = [100.0, 0, 31.0, 0, 110.0, 20.0, 0, 0, 1]
P = [90.0, 0, 30.0, 0, 0, 95.0, 19.0, 0, 0, 0, 1, 0]
D5 = [0.1, -0.2, 0.001, 0.002, 0.05]


def test_raw_images_take_k_and_d_rectified_ones_p(tmp_path: Path) -> None:
    fields = {"k": K, "p": P, "d": D5, "distortion_model": "plumb_bob"}
    raw = info(tmp_path / "1", "/a/image_raw/compressed", **fields).cameras["a"].intrinsics
    assert (raw.model, raw.fx_px, raw.cx_px, raw.distortion) == ("plumb_bob", 100.0, 31.0, tuple(D5))
    rect = info(tmp_path / "2", "/a/image_rect_color/compressed", **fields).cameras["a"].intrinsics
    assert (rect.model, rect.fx_px, rect.fy_px, rect.cx_px, rect.cy_px) == ("pinhole", 90.0, 95.0, 30.0, 19.0)


@pytest.mark.parametrize(
    ("model", "d", "ours"),
    [
        ("plumb_bob", D5, "plumb_bob"),
        ("plumb_bob", [], "pinhole"),
        ("rational_polynomial", [0.1] * 8, "rational_polynomial"),
        ("equidistant", [0.1, 0.0, 0.0, 0.0], "equidistant"),
        ("fisheye", [0.0] * 4, "equidistant"),
        ("", [0.0] * 5, "pinhole"),
    ],
)
def test_lens_models(tmp_path: Path, model: str, d: list[float], ours: str) -> None:
    assert info(tmp_path, k=K, d=d, distortion_model=model).cameras["a"].intrinsics.model == ours


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"k": [0.0] * 9}, "uncalibrated"),
        ({"distortion_model": "thin_prism", "d": [0.1] * 3}, "unknown distortion model 'thin_prism'"),
        ({"distortion_model": "plumb_bob", "d": [0.1] * 3}, "coefficients"),
        ({"k": [math.nan] * 9}, "not finite"),
        ({"width": 64, "height": 64}, "aspect"),
        ({"k": [-5.0, 0, 1, 0, 5, 1, 0, 0, 1]}, "positive"),
    ],
)
def test_what_is_wrong_with_a_calibration_is_said(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    rig = info(tmp_path, **fields)
    assert says in rig.uncalibrated["a"]
    assert rig.cameras == {}


def test_scale_binning_and_region(tmp_path: Path) -> None:
    """Against the definition: a ray hits the full sensor's pixel; cropping and binning move that pixel."""
    full = {"k": [400.0, 0, 159.5, 0, 400.0, 119.5, 0, 0, 1], "width": 320, "height": 240, "d": []}
    points = np.array([[0.1, 0.05, 1.0], [-0.05, -0.07, 1.0]])
    on_sensor = np.stack([400 * points[:, 0] + 159.5, 400 * points[:, 1] + 119.5], axis=1)
    cases = [
        ((160, 120), {}, (on_sensor + 0.5) / 2 - 0.5),  # resized by the driver
        ((160, 120), {"binning_x": 2, "binning_y": 2}, (on_sensor + 0.5) / 2 - 0.5),
        ((200, 100), {"roi": (30, 60, 100, 200, False)}, on_sensor - (30, 60)),
        ((100, 50), {"roi": (30, 60, 100, 200, False), "binning_x": 2, "binning_y": 2},
         (on_sensor - (30, 60) + 0.5) / 2 - 0.5),
        ((320, 240), {"binning_x": 2, "binning_y": 2}, on_sensor),  # stated, but not applied
    ]  # fmt: skip
    for i, (size, fields, expected) in enumerate(cases):
        lens = info(tmp_path / str(i), size=size, **{**full, **fields}).cameras["a"].intrinsics
        assert (lens.width_px, lens.height_px) == size
        assert lens.project(points) == pytest.approx(expected)


def test_info_by_frame_id_and_info_that_comes_late(tmp_path: Path) -> None:
    cameras = [
        CameraSpec("a", info_topic="/elsewhere/a_info"),
        CameraSpec("b", info_at=[25]),
    ]
    path = write_log(tmp_path, "mcap", cameras, frames=30)
    with open_log([path], ReadConfig(head_s=0.5)) as log:
        assert sorted(log.rig(["a", "b"]).cameras) == ["a", "b"]


def edge(parent: str, child: str, x: float = 0.0, z: float = 0.0) -> Any:
    return (parent, child, (x, 0.0, z), IDENTITY)


def test_base_frame_is_the_topmost_below_the_world(tmp_path: Path) -> None:
    edges = [edge("map", "odom"), edge("odom", "base_footprint"), edge("base_footprint", "base_link", z=0.3)]
    path = write_log(tmp_path, "mcap", [CameraSpec("a")], tf_edges=edges)
    rig = rig_of(path)
    assert (rig.base_frame, rig.ground_z_m) == ("base_footprint", 0.0)
    assert rig.cameras["a"].base_SE3_camera.translation_m == pytest.approx([1.5, 0, 1.9])
    named = rig_of(path, base_frame="base_link")
    assert (named.base_frame, named.ground_z_m) == ("base_link", pytest.approx(-0.3))
    assert named.cameras["a"].base_SE3_camera.translation_m == pytest.approx([1.5, 0, 1.6])
    with pytest.raises(ConfigError, match=r"fuse.base_frame: nope.*base_footprint, base_link, map, odom"):
        rig_of(path, base_frame="nope")


def test_the_larger_of_two_trees_wins(tmp_path: Path) -> None:
    cameras = [*ring(3), CameraSpec("lone", tf=False), CameraSpec("none", tf=False, frame_id="")]
    path = write_log(tmp_path, "mcap", cameras, tf_edges=[edge("trailer", "lone_optical")])
    rig = rig_of(path)
    assert sorted(rig.cameras) == ["cam_0", "cam_1", "cam_2"]
    assert "no transform between 'trailer'" in rig.uncalibrated["lone"]
    assert "frame_id" in rig.uncalibrated["none"]
    path = write_log(
        tmp_path / "2", "mcap", [CameraSpec("a", tf=False)], tf_edges=[edge("odom", "a_optical")]
    )
    assert "no vehicle frame" in rig_of(path).uncalibrated["a"]


def test_a_loop_in_the_tree_ends(tmp_path: Path) -> None:
    edges = [edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("x", "x"), edge("c", "a_optical")]
    path = write_log(tmp_path, "mcap", [CameraSpec("a", tf=False)], tf_edges=edges)
    assert len(rig_of(path).cameras) == 1


def test_our_rig_file_round_trip_and_conflicts(tmp_path: Path) -> None:
    path = write_log(tmp_path, "mcap", ring(2))
    rig = rig_of(path)
    for name in ("rig.yaml", "rig.json"):
        file = tmp_path / name
        if name.endswith("json"):
            file.write_text(json.dumps(rig.to_dict()))
        else:
            write_rig(rig, file)
        again = rig_of(path, rig_file=file)
        assert again.notes == ()
        assert {c.source for c in again.cameras.values()} == {name}
        for camera, other in zip(rig.cameras.values(), again.cameras.values(), strict=True):
            assert camera.intrinsics == other.intrinsics
            assert camera.base_SE3_camera.rotation == pytest.approx(other.base_SE3_camera.rotation)
    data = rig.to_dict()
    data["cameras"]["cam_0"]["base_SE3_camera"]["position_m"][0] += 0.5
    data["cameras"]["cam_1"]["intrinsics"]["fx_px"] += 5
    file.write_text(json.dumps(data))
    changed = rig_of(path, rig_file=file)
    assert changed.cameras["cam_0"].base_SE3_camera.translation_m[0] == pytest.approx(2.0)
    assert "0.500 m" in changed.notes[0]
    assert "focal length" in changed.notes[1]


CV_YAML = """%YAML:1.0
---
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 50., 0., 31., 0., 51., 23., 0., 0., 1. ]
dist_coeffs: !!opencv-matrix
   rows: 4
   cols: 1
   dt: d
   data: [ 0.01, 0.02, 0.03, 0.04 ]
resolution: !!opencv-matrix
   rows: 2
   cols: 1
   dt: i
   data: [ 64, 48 ]
"""
ROS_YAML = """
image_width: 64
image_height: 48
camera_name: a
camera_matrix: {rows: 3, cols: 3, data: [50, 0, 31, 0, 51, 23, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.01, 0.02, 0.03, 0.04, 0.05]}
"""
KALIBR_YAML = """
cam0:
  camera_model: pinhole
  distortion_model: equidistant
  distortion_coeffs: [0.01, 0.02, 0.03, 0.04]
  intrinsics: [50.0, 51.0, 31.0, 23.0]
  resolution: [64, 48]
  rostopic: /a/image_raw
"""


@pytest.mark.parametrize(
    ("name", "text", "model"),
    [
        ("a.yaml", CV_YAML, "equidistant"),
        ("any.yaml", ROS_YAML, "plumb_bob"),
        ("camchain.yaml", KALIBR_YAML, "equidistant"),
    ],
)
def test_intrinsics_files(tmp_path: Path, name: str, text: str, model: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    rig = rig_of(write_log(tmp_path, "mcap", [CameraSpec("a", info=False)]), rig_file=file)
    lens = rig.cameras["a"].intrinsics
    assert (lens.model, lens.fx_px, lens.fy_px, lens.cx_px, lens.cy_px) == (model, 50, 51, 31, 23)
    assert lens.distortion[:4] == (0.01, 0.02, 0.03, 0.04)
    assert rig.cameras["a"].source == f"{name}+tf"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello", "known form"),
        ("{a: 1}", "known form"),
        ("a: [", "not YAML"),
        ("x: !!python/object/apply:os.system ['true']", "not YAML"),
        ("cameras: {a: {intrinsics: {}}}", "a"),
        (CV_YAML.replace("50.", "x"), "50|float"),
        (ROS_YAML.replace("camera_name: a", "camera_name: other"), "fits no selected camera; these are a"),
        (ROS_YAML.replace("48", "64"), "aspect"),
        (KALIBR_YAML.replace("pinhole", "omni"), "omni"),
    ],
)
def test_bad_rig_files(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    path = write_log(tmp_path, "mcap", [CameraSpec("a")])
    with pytest.raises(CalibrationError, match=says) as caught:
        rig_of(path, rig_file=file)
    assert "\n" not in str(caught.value)
    with pytest.raises(CalibrationError, match="no such"):
        read_rig_file(tmp_path / "nope.yaml")


def test_config_over_file_over_log(tmp_path: Path) -> None:
    spec = CameraSpec("a", tf=False)
    path = write_log(tmp_path, "mcap", [spec])
    lens = {
        "model": "pinhole",
        "width_px": 64,
        "height_px": 48,
        "fx_px": 70,
        "fy_px": 70,
        "cx_px": 31,
        "cy_px": 23,
    }
    pose = PoseConfig(position_m=(1, 2, 3), quaternion_xyzw=(-0.5, 0.5, -0.5, 0.5))
    config = {"a": CameraConfig(intrinsics=lens, base_SE3_camera=pose)}
    file = tmp_path / "a.yaml"
    file.write_text(ROS_YAML)
    rig = rig_of(path, config, rig_file=file)
    assert (rig.base_frame, rig.cameras["a"].source) == ("base_link", "config")
    assert rig.cameras["a"].intrinsics.fx_px == 70
    assert rig.cameras["a"].base_SE3_camera.translation_m.tolist() == [1, 2, 3]
    with pytest.raises(CalibrationError, match=r"cameras\.a\.intrinsics: focal"):
        rig_of(path, {"a": CameraConfig(intrinsics={**lens, "fy_px": -1})})


# ---------------------------------------------------------------------- ego motion


def poses_of(path: Path) -> tuple[list[EgoPose], int]:
    with open_log([path], ReadConfig(head_s=0.4)) as log:
        names = log.select(None)
        log.rig(names)
        poses = [x for x in log.stream(names) if isinstance(x, EgoPose)]
        return poses, log.ego_dropped


@pytest.mark.parametrize("container", ["mcap", "sqlite3", "bag1"])
@pytest.mark.parametrize("source", ["tf", "/odom"])
def test_ego_motion(tmp_path: Path, container: Container, source: str) -> None:
    speed = 7.0 if source == "tf" else None
    path = write_log(tmp_path, container, [CameraSpec("a")], ego_speed_mps=speed, odometry=source != "tf")
    poses, dropped = poses_of(path)
    assert dropped == 0
    assert len(poses) > 40
    assert {(p.source, p.frame_id) for p in poses} == {(source, "odom")}
    stamps = [p.stamp_ns for p in poses]
    assert stamps == sorted(set(stamps))
    for pose in poses:
        x = (speed or 5.0) * (pose.stamp_ns - START_NS) / 1e9
        assert pose.odom_SE3_base.translation_m == pytest.approx([x, 0, 0], abs=1e-6)
    assert np.isnan(poses[0].velocity_mps).all() == (source == "tf")
    for pose in poses[1:]:
        assert pose.velocity_mps == pytest.approx([speed or 5.0, 0, 0], abs=1e-4)


def test_ego_poses_do_not_need_a_rig_and_never_go_back(tmp_path: Path) -> None:
    types = message_types("mcap").types
    time, vec = types["builtin_interfaces/msg/Time"], types["geometry_msgs/msg/Vector3"]

    def moved(stamp_ns: int, x: float, parent: str = "odom", child: str = "base_link") -> Any:
        header = types["std_msgs/msg/Header"](time(stamp_ns // 10**9, stamp_ns % 10**9), parent)
        transform = types["geometry_msgs/msg/Transform"](
            vec(x, 0.0, 0.0), types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 2**-0.5, 2**-0.5)
        )
        return types["geometry_msgs/msg/TransformStamped"](header, child, transform)

    stamps = [0, 100, 200, 150, 200, 300]
    tf = types["tf2_msgs/msg/TFMessage"]
    extra = [
        Extra("/tf", START_NS + (i + 1) * 10**8, tf([moved(START_NS + s * 10**6, s / 100), moved(START_NS, 9.0, "map", "odom")]))
        for i, s in enumerate(stamps)
    ]  # fmt: skip
    path = write_log(tmp_path, "mcap", [CameraSpec("a", info=False, tf=False)], extra=extra)
    poses, dropped = poses_of(path)
    assert [p.stamp_ns - START_NS for p in poses] == [0, 100_000_000, 200_000_000, 300_000_000]
    assert dropped == 2
    assert {p.frame_id for p in poses} == {"odom"}, "odom before map"
    # 10 m/s along odom x, the vehicle looks along odom y: to its right
    assert poses[1].velocity_mps == pytest.approx([0, -10, 0], abs=1e-3)


def test_odometry_of_another_frame_of_the_vehicle(tmp_path: Path) -> None:
    """A sensor 2 m ahead of base_link, turning at 1 rad/s: base_link itself moves sideways otherwise."""
    types = message_types("mcap").types
    store = types
    vec, point = store["geometry_msgs/msg/Vector3"], store["geometry_msgs/msg/Point"]
    quat = store["geometry_msgs/msg/Quaternion"]

    def odometry(stamp_ns: int) -> Any:
        stamp = store["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
        pose = store["geometry_msgs/msg/Pose"](point(10.0, 0.0, 0.0), quat(0.0, 0.0, 0.0, 1.0))
        twist = store["geometry_msgs/msg/Twist"](vec(3.0, 0.0, 0.0), vec(0.0, 0.0, 1.0))
        return store["nav_msgs/msg/Odometry"](
            store["std_msgs/msg/Header"](stamp, "odom"),
            "imu",
            store["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
            store["geometry_msgs/msg/TwistWithCovariance"](twist, np.zeros(36)),
        )

    extra = [Extra("/o", START_NS + i * 10**8, odometry(START_NS + i * 10**8)) for i in range(5)]
    path = write_log(
        tmp_path, "mcap", [CameraSpec("a")], extra=extra, tf_edges=[edge("base_link", "imu", x=2.0)]
    )
    poses, _ = poses_of(path)
    assert len(poses) == 5
    assert poses[0].odom_SE3_base.translation_m == pytest.approx([8.0, 0, 0])
    assert poses[0].velocity_mps == pytest.approx([3.0, -2.0, 0])

"""Satellite fixes as poses: the plane, the heading, bad fixes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_writer import START_NS, CameraSpec, Extra, write_log
from motion_messages import every, fix, imu, yaw_quaternion

from perception_batch.config import ReadConfig
from perception_batch.read import open_log
from perception_batch.read.motion.gnss import LocalPlane, ecef_m
from perception_batch.read.motion.report import EgoReport
from perception_batch.types import EgoPose

ORIGIN = (48.137, 11.575, 519.0)
Array = npt.NDArray[np.float64]


def test_the_ellipsoid() -> None:
    """WGS-84's own axes, and a place: NGS's example values to the millimetre are not needed, the axes are."""
    assert ecef_m(0, 0, 0) == pytest.approx([6378137, 0, 0], abs=1e-6)
    assert ecef_m(0, 90, 10) == pytest.approx([0, 6378147, 0], abs=1e-6)
    assert ecef_m(90, 0, 0) == pytest.approx([0, 0, 6356752.314245], abs=1e-5)
    assert ecef_m(-90, 33, 5) == pytest.approx([0, 0, -6356757.314245], abs=1e-5)


def slow_enu(origin: tuple[float, float, float], place: tuple[float, float, float]) -> Array:
    """East, north and up as the directions in which a point moves when its longitude, latitude, height grow."""
    lat, lon, alt = origin
    step = 1e-4
    axes = [
        ecef_m(lat, lon + step, alt) - ecef_m(lat, lon - step, alt),
        ecef_m(lat + step, lon, alt) - ecef_m(lat - step, lon, alt),
        ecef_m(lat, lon, alt + 1) - ecef_m(lat, lon, alt - 1),
    ]
    away = ecef_m(*place) - ecef_m(*origin)
    return np.array([away @ axis / np.linalg.norm(axis) for axis in axes])


@given(
    st.floats(-85, 85), st.floats(-180, 180), st.floats(-400, 8000),
    st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.floats(-200, 200),
)  # fmt: skip
@settings(max_examples=200)
def test_the_plane_against_a_slow_one(
    lat: float, lon: float, alt: float, dlat: float, dlon: float, dalt: float
) -> None:
    place = (lat + dlat, lon + dlon, alt + dalt)
    assert LocalPlane(lat, lon, alt).enu_m(*place) == pytest.approx(
        slow_enu((lat, lon, alt), place), abs=1e-3
    )
    assert LocalPlane(lat, lon, alt).enu_m(lat, lon, alt) == pytest.approx(np.zeros(3), abs=1e-9)


def geodetic(enu: Array) -> tuple[float, float, float]:
    """Latitude, longitude and height of a point in the plane about ORIGIN, by iteration."""
    plane, guess = LocalPlane(*ORIGIN), np.array(ORIGIN)
    scale = np.array([111_000.0, 111_000.0 * math.cos(math.radians(ORIGIN[0])), 1.0])
    for _ in range(30):
        missing = enu - plane.enu_m(*guess)
        guess = guess + missing[[1, 0, 2]] / scale
    return float(guess[0]), float(guess[1]), float(guess[2])


def read(path: Path, **config: Any) -> tuple[list[EgoPose], EgoReport]:
    with open_log([path], ReadConfig(max_pose_gap_s=1.0, **config)) as log:
        names = log.select(None)
        log.rig(names)
        return [x for x in log.stream(names) if isinstance(x, EgoPose)], log.ego_report


def log_of(tmp_path: Path, extra: list[Extra], **kwargs: Any) -> Path:
    return write_log(tmp_path, "mcap", [CameraSpec("a", size=(16, 12))], frames=30, extra=extra, **kwargs)


TURN_RADPS = 0.2
SPEED_MPS = 8.0


def true_pose(t: float) -> tuple[Array, float]:
    """Position of base_link in the plane and its yaw: a circle that begins northwards, rising by 0.5 m/s."""
    yaw = math.pi / 2 + TURN_RADPS * t
    radius = SPEED_MPS / TURN_RADPS
    x = radius * (math.sin(yaw) - math.sin(math.pi / 2))
    y = -radius * (math.cos(yaw) - math.cos(math.pi / 2))
    return np.array([x, y, 0.5 * t]), yaw


LEVER = np.array([-1.0, 0.4, 1.5])
TF = [
    ("base_link", "gps", (-1.0, 0.4, 1.5), (0.0, 0.0, 0.0, 1.0)),
    ("base_link", "imu", (0.0, 0.0, 0.0), yaw_quaternion(math.pi / 2)),  # looks to the left of the vehicle
]


def antenna(t: float) -> Array:
    position, yaw = true_pose(t)
    c, s = math.cos(yaw), math.sin(yaw)
    place: Array = position + np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ LEVER
    return place


def circle(imu_error_rad: float = 0.0, *, stated: bool = True) -> list[Extra]:
    extra = every("/gps/fix", lambda ns, t: fix(ns, *geodetic(antenna(t) - antenna(0))), START_NS, 3.0, 10.0)
    return extra + every(
        "/imu",
        lambda ns, t: imu(ns, yaw_quaternion(true_pose(t)[1] + math.pi / 2 + imu_error_rad), stated=stated),
        START_NS - 20_000_000,
        3.1,
        100.0,
    )


def test_fixes_with_an_absolute_imu(tmp_path: Path) -> None:
    """Antenna and Imu are mounted elsewhere and turned: base_link must come out."""
    poses, report = read(log_of(tmp_path, circle(), tf_edges=TF))
    assert len(poses) == 30
    assert (report.kind, report.source, report.bad, report.waited) == ("gnss", "/gps/fix", 0, 0)
    for i, pose in enumerate(poses):
        position, yaw = true_pose(i / 10)
        assert pose.frame_id == "enu"
        # the Imu's newest message is up to 10 ms old
        got = math.atan2(pose.odom_SE3_base.rotation[1, 0], pose.odom_SE3_base.rotation[0, 0])
        assert math.remainder(got - yaw, math.tau) == pytest.approx(0, abs=TURN_RADPS * 0.011)
        assert pose.odom_SE3_base.translation_m == pytest.approx(position - antenna(0), abs=0.01)
    (note,) = report.notes
    assert "taken as absolute (yaw 0 is east" in note
    assert "degrees from the course" in note


@pytest.mark.parametrize("stated", [True, False])
def test_an_imu_that_is_not_absolute_gives_way_to_the_course(tmp_path: Path, stated: bool) -> None:
    poses, report = read(log_of(tmp_path, circle(2.0, stated=stated), tf_edges=TF))
    assert 20 <= len(poses) == 30 - report.waited
    assert report.waited > 0
    for pose in poses:
        _, yaw = true_pose((pose.stamp_ns - START_NS) / 1e9)
        got = math.atan2(pose.odom_SE3_base.rotation[1, 0], pose.odom_SE3_base.rotation[0, 0])
        # of the antenna's way over the last 2 to 3 m: it lags, and the antenna slips sideways
        assert math.remainder(got - yaw, math.tau) == pytest.approx(0, abs=0.12)
    assert ("contradicts" in report.notes[0]) == stated
    assert "course over ground" in report.notes[0]
    assert "drive forwards" in report.notes[0]


def test_the_heading_can_be_forced(tmp_path: Path) -> None:
    path = log_of(tmp_path, circle(2.0), tf_edges=TF)
    poses, report = read(path, gnss_heading="imu")
    assert len(poses) == 30
    assert "read.gnss_heading: course would take the latter" in report.notes[1]
    assert read(log_of(tmp_path / "2", circle(), tf_edges=TF), gnss_heading="course")[1].waited > 0


def test_standing_before_moving_has_no_heading_and_stopping_keeps_it(tmp_path: Path) -> None:
    def message(ns: int, t: float) -> Any:
        east = 6.0 * min(max(t - 1, 0), 1)  # stands for a second, drives for one, stands
        noise = 0.03 * math.sin(77 * t)
        return fix(ns, *geodetic(np.array([east, noise, 0.0])))

    poses, report = read(log_of(tmp_path, every("/fix", message, START_NS, 3.0, 10.0)))
    assert report.waited == 30 - len(poses)
    assert 12 <= report.waited <= 15
    for pose in poses:
        assert math.atan2(*pose.odom_SE3_base.rotation[[1, 0], [0, 0]]) == pytest.approx(0, abs=0.05)
    assert "fixes before the vehicle moved" in report.notes[1]


def test_bad_fixes_are_dropped_and_counted(tmp_path: Path) -> None:
    bad = {
        3: {"status": -1}, 5: {"latitude": math.nan}, 7: {"longitude": math.inf}, 9: {"latitude": 91.0},
        11: {"latitude": 0.0, "longitude": 0.0}, 13: {"altitude": 1e9}, 15: {"altitude": math.inf},
    }  # fmt: skip

    def message(ns: int, t: float) -> Any:
        lat, lon, alt = geodetic(np.array([10 * t, 0.0, 1.0]))
        return fix(ns, **{"latitude": lat, "longitude": lon, "altitude": alt, **bad.get(round(t * 10), {})})  # type: ignore[arg-type]

    extra = every("/fix", message, START_NS, 2.0, 10.0)
    extra += every("/imu", lambda ns, t: imu(ns, yaw_quaternion(0)), START_NS - 10**7, 2.0, 50.0)
    poses, report = read(log_of(tmp_path, extra))
    assert (len(poses), report.bad, report.jumps) == (13, 7, 0)
    assert "7 fixes without a position" in report.notes[-1]


def test_a_fix_without_height_keeps_the_one_before(tmp_path: Path) -> None:
    def message(ns: int, t: float) -> Any:
        lat, lon, alt = geodetic(np.array([10 * t, 0.0, 20.0 * (t > 0.55)]))
        return fix(ns, lat, lon, math.nan if round(t * 10) in (3, 8) else alt)

    extra = every("/fix", message, START_NS, 1.0, 10.0)
    extra += every("/imu", lambda ns, t: imu(ns, yaw_quaternion(0)), START_NS - 10**7, 1.0, 50.0)
    poses, _ = read(log_of(tmp_path, extra))
    heights = [p.odom_SE3_base.translation_m[2] for p in poses]
    assert heights == pytest.approx([0.0] * 6 + [20.0] * 4, abs=1e-3)

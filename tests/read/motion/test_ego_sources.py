"""Which topic becomes the ego motion, and what is said of it: jumps, clocks, stamps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from log_writer import START_NS, CameraSpec, Container, Extra, write_log
from motion_messages import every, fix, imu, pose_covariance, pose_stamped, yaw_quaternion

from perception_batch.config import ReadConfig, load_config
from perception_batch.errors import ConfigError
from perception_batch.read import open_log
from perception_batch.read.motion.report import EgoReport
from perception_batch.types import EgoPose

S = 1_000_000_000


def read(path: Path, **settings: Any) -> tuple[list[EgoPose], EgoReport, EgoReport]:
    """All poses, and the reports before and after streaming."""
    with open_log([path], ReadConfig(**settings)) as log:
        names = log.select(None)
        log.rig(names)
        before = log.ego_report
        poses = [x for x in log.stream(names) if isinstance(x, EgoPose)]
        assert log.ego_source == (log.ego_report.source or None)
        assert log.ego_dropped == log.ego_report.dropped
        return poses, before, log.ego_report


def drive(topic: str = "/pose", speed: float = 5.0, **kwargs: Any) -> list[Extra]:
    """A vehicle that drives along x of `map`, from START_NS on, for 2 s at 20 Hz."""
    frame = kwargs.pop("frame", "map")
    return every(
        topic,
        lambda ns, t: pose_stamped(ns, (speed * t, 2.0, 0.0), frame=frame),
        START_NS,
        2.0,
        20.0,
        **kwargs,
    )


def log_of(tmp_path: Path, extra: list[Extra], **kwargs: Any) -> Path:
    return write_log(tmp_path, "mcap", [CameraSpec("a", size=(16, 12))], frames=20, extra=extra, **kwargs)


@pytest.mark.parametrize("make", [pose_stamped, pose_covariance])
def test_poses_are_the_base_frames_in_their_headers_frame(tmp_path: Path, make: Any) -> None:
    def message(ns: int, t: float) -> Any:
        return make(ns, (3.0 * t, -1.0, 0.5), yaw_quaternion(0.1 * t), "utm")

    poses, before, after = read(log_of(tmp_path, every("/p", message, START_NS, 2.0, 20.0)))
    assert len(poses) == 40 == after.poses == before.poses
    assert (after.source, after.kind, after.sampled, before.sampled) == ("/p", "pose", False, True)
    assert after.rate_hz == pytest.approx(20)
    assert after.notes == ()
    assert after.found == ("/p (pose)",)
    for i, pose in enumerate(poses):
        t = i / 20
        assert (pose.stamp_ns, pose.frame_id, pose.source) == (START_NS + i * S // 20, "utm", "/p")
        assert pose.odom_SE3_base.translation_m == pytest.approx([3 * t, -1, 0.5])
        assert pose.odom_SE3_base.quaternion_xyzw() == pytest.approx(yaw_quaternion(0.1 * t))
        if i:
            expected = 3 * np.array([np.cos(0.1 * t), -np.sin(0.1 * t), 0])
            assert pose.velocity_mps == pytest.approx(expected, abs=1e-6)


def everything(tmp_path: Path) -> Path:
    """tf, odometry, poses and fixes, all at once."""
    extra = drive("/b_pose") + drive("/goal_pose", 9.0)
    extra += every("/fix", lambda ns, t: fix(ns, 48 + 1e-4 * t, 11.0, 500.0), START_NS, 2.0, 10.0)
    extra += every("/imu", lambda ns, t: imu(ns, yaw_quaternion(1.57)), START_NS, 2.0, 50.0)
    return log_of(tmp_path, extra, ego_speed_mps=4.0, odometry=True)


@pytest.mark.parametrize(
    ("ego", "source", "frame"),
    [
        ("auto", "tf", "odom"),
        ("tf", "tf", "odom"),
        ("/tf", "tf", "odom"),
        ("odometry", "/odom", "odom"),
        ("/odom", "/odom", "odom"),
        ("pose", "/b_pose", "map"),
        ("/goal_pose", "/goal_pose", "map"),
        ("gnss", "/fix", "enu"),
        ("none", "", ""),
    ],
)
def test_the_source_is_as_asked_or_in_the_order_of_preference(
    tmp_path: Path, ego: str, source: str, frame: str
) -> None:
    poses, before, after = read(everything(tmp_path), ego=ego)
    assert before.source == after.source == source
    assert {p.source for p in poses} == ({source} if source else set())
    assert {p.frame_id for p in poses} == ({frame} if source else set())
    assert [entry.split(" ")[0] for entry in after.found] == ["/tf", "/odom", "/b_pose", "/goal_pose", "/fix"]
    assert ("wanted pose" in after.found[3]) and after.why


@pytest.mark.parametrize(
    ("left_out", "source"), [((), "/odom"), (("odometry",), "/a_pose"), (("odometry", "pose"), "/fix")]
)
def test_auto_goes_down_the_list(tmp_path: Path, left_out: tuple[str, ...], source: str) -> None:
    extra = every("/fix", lambda ns, t: fix(ns, 48 + 1e-4 * t, 11.0, 500.0), START_NS, 2.0, 10.0)
    extra += [] if "pose" in left_out else drive("/z_pose", frame="utm") + drive("/a_pose")
    path = log_of(tmp_path, extra, odometry="odometry" not in left_out)
    assert read(path)[2].source == source


def test_goals_and_poses_on_the_vehicle_are_not_its_motion(tmp_path: Path) -> None:
    extra = drive("/move_base_simple/goal") + drive("/initialpose") + drive("/trailer", frame="base_link")
    extra += drive("/in_camera", frame="a_optical")
    poses, _, report = read(log_of(tmp_path, extra))
    assert (poses, report.source) == ([], "")
    assert "no ego motion" in report.notes[0]
    assert "/trailer (pose)" in report.notes[0]


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    path = log_of(tmp_path, drive("/p"))
    with pytest.raises(
        ConfigError, match=r"read.ego: /nope is no topic of motion in this log; it has: /p \(pose\)"
    ):
        read(path, ego="/nope")
    with pytest.raises(ConfigError, match="/a/camera_info is no topic of motion"):
        read(path, ego="/a/camera_info")
    poses, _, report = read(path, ego="odometry")
    assert poses == []
    assert "read.ego is odometry" in report.notes[0]
    with pytest.raises(ConfigError, match="allowed are auto, tf, odometry, pose, gnss, none, or a topic"):
        load_config(None, ["read.ego=odom"])


def test_a_source_that_begins_after_the_head(tmp_path: Path) -> None:
    late = [e for e in drive("/p") if e.log_ns > START_NS + S]
    poses, before, after = read(log_of(tmp_path, late), head_s=0.3)
    assert before.source == ""
    assert (after.source, after.poses) == ("/p", len(late)) == ("/p", len(poses))


@pytest.mark.parametrize(
    ("ahead_s", "hint"), [(18.0, "GPS time"), (-3600.0, "-1 h"), (7200.0, "+2 h"), (-2.5, "")]
)
def test_a_clock_that_is_ahead_is_found_and_can_be_set_right(
    tmp_path: Path, ahead_s: float, hint: str
) -> None:
    path = log_of(tmp_path, drive("/p", ahead_ns=round(ahead_s * S)))
    poses, before, after = read(path)
    assert poses[0].stamp_ns == START_NS + round(ahead_s * S), "nothing is corrected silently"
    for report in (before, after):
        assert report.clock_offset_ns == pytest.approx(ahead_s * S, abs=0.01 * S)
        (note,) = (n for n in report.notes if "the cameras" in n)
        assert hint in note
        assert ("ahead of" if ahead_s > 0 else "behind") in note
    advised = float(note.split("read.ego_offset_ms: ")[1].split(" ")[0])
    assert advised == pytest.approx(-ahead_s * 1e3, abs=10)
    assert advised == -ahead_s * 1e3 or not hint
    mended, _, right = read(path, ego_offset_ms=advised)
    assert mended[0].stamp_ns == pytest.approx(START_NS, abs=10_000_000)
    assert right.notes == ()
    assert (right.offset_ms, abs(right.clock_offset_ns or 0) < 10_000_000) == (advised, True)


def test_latencies_are_no_offset_of_clocks(tmp_path: Path) -> None:
    camera = CameraSpec("a", size=(16, 12), log_delay_ms=300.0)
    path = write_log(tmp_path, "mcap", [camera], frames=10, extra=drive("/p"))
    report = read(path)[2]
    assert report.clock_offset_ns == pytest.approx(299_000_000)
    assert report.notes == ()


def test_stamps_of_another_decade_take_the_log_time(tmp_path: Path) -> None:
    gps_epoch = 315_964_800 * S
    path = log_of(tmp_path, drive("/p", ahead_ns=-gps_epoch))
    poses, _, report = read(path)
    assert [p.stamp_ns for p in poses[:2]] == [START_NS + 1_000_000, START_NS + 51_000_000]
    assert (report.restamped, report.clock_offset_ns) == (40, None)
    assert "40 poses have a stamp of zero or more than a day" in report.notes[0]
    mended, _, right = read(path, ego_offset_ms=gps_epoch / 1e6)
    assert (mended[0].stamp_ns, right.restamped) == (START_NS, 0)


def test_a_jump_splits_the_path_and_is_counted(tmp_path: Path) -> None:
    """Localised anew after 1 s: 40 m to the side."""

    def message(ns: int, t: float) -> Any:
        return pose_stamped(ns, (5 * t, 0.0 if t < 1 else 40.0, 0.0))

    poses, before, after = read(log_of(tmp_path, every("/p", message, START_NS, 2.0, 20.0)))
    assert (len(poses), before.jumps, after.jumps) == (40, 1, 1)
    assert "1 jumps" in after.notes[0]
    assert np.isnan(poses[20].velocity_mps).all(), "no vehicle has the velocity of a jump"
    assert poses[21].velocity_mps == pytest.approx([5, 0, 0], abs=1e-6)


def test_poses_that_come_too_seldom_are_told(tmp_path: Path) -> None:
    extra = every("/p", lambda ns, t: pose_stamped(ns, (t, 0, 0)), START_NS, 2.0, 1.0)
    report = read(log_of(tmp_path, extra))[2]
    assert "poses come every 1.00 s" in report.notes[0]
    assert read(log_of(tmp_path / "2", extra), max_pose_gap_s=1.5)[2].notes == ()


@pytest.mark.parametrize("container", ["mcap", "sqlite3"])
def test_damaged_poses_are_counted(tmp_path: Path, container: Container) -> None:
    extra = drive("/p")
    extra[3] = Extra("/p", extra[3].log_ns, b"\x00\x01\x00\x00xx", "geometry_msgs/msg/PoseStamped")
    extra[5] = Extra("/p", extra[5].log_ns, pose_stamped(START_NS + S // 4, (float("nan"), 0, 0)))
    extra[7] = Extra("/p", extra[7].log_ns, pose_stamped(START_NS + 7 * S // 20, (1, 0, 0), (0, 0, 0, 0)))
    extra[9] = Extra("/p", extra[9].log_ns, pose_stamped(START_NS, (2, 0, 0)))
    path = write_log(tmp_path, container, [CameraSpec("a", size=(16, 12))], frames=20, extra=extra)
    with open_log([path]) as log:
        names = log.select(None)
        poses = [x for x in log.stream(names) if isinstance(x, EgoPose)]
        assert len(poses) == 36
        assert (log.ego_report.bad, log.ego_report.dropped) == (2, 1)
        assert [(loss.topic, loss.count) for loss in log.losses] == [("/p", 1)]

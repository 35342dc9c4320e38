"""Which CameraInfo is a new lens, and which lens holds at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.geometry import SE3
from perception_batch.lenses import CameraLens, LensWindow, rig_with_lenses
from perception_batch.read.containers.logfile import Channel, Message, Serialization
from perception_batch.read.rigs.changing_lenses import FollowedLens, LensFollower, same_lens

T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def pinhole(focal_px: float) -> Intrinsics:
    return Intrinsics("pinhole", 640, 480, focal_px, focal_px, 319.5, 239.5)


def info(focal_px: float, stamp_ns: int, size: tuple[int, int] = (640, 480)) -> Any:
    w, h = size
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)),
        width=w,
        height=h,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[focal_px, 0, w / 2 - 0.5, 0, focal_px, h / 2 - 0.5, 0, 0, 1],
        p=[0.0] * 12,
        roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
        binning_x=0,
        binning_y=0,
    )


def message(log_ns: int, data: bytes = b"", encoding: Serialization = "cdr") -> Message:
    channel = Channel(1, "/cam/camera_info", "sensor_msgs/msg/CameraInfo", encoding, "", False)
    return Message(log_ns, channel, data, log_ns - 1)


def follower(**changes: Any) -> LensFollower:
    told = {
        "camera": "cam",
        "info_topic": "/cam/camera_info",
        "rectified": False,
        "size_px": (640, 480),
        "clock": "header",
        "offset_ns": 7,
        "lens": pinhole(500.0),
    }
    return LensFollower([FollowedLens(**{**told, **changes})])


def told(follower: LensFollower, content: Any, log_ns: int) -> list[CameraLens]:
    return list(follower.take(content, message(log_ns)))


def test_only_changes_are_told() -> None:
    follows = follower()
    assert told(follows, info(500.001, T0), T0 + 5) == []
    assert told(follows, info(499.999, T0 + SECOND), T0 + SECOND) == []
    changed = told(follows, info(600.0, T0 + 2 * SECOND), T0 + 2 * SECOND + 5)
    assert [(c.stamp_ns, c.intrinsics.fx_px) for c in changed] == [(T0 + 2 * SECOND + 7, 600.0)]
    assert follows.changes == {"cam": 1}
    assert follows.first_ns == {"cam": T0 + 2 * SECOND + 7}


def test_a_slow_drift_is_followed_in_steps() -> None:
    follows = follower()
    seen = [c for i in range(1000) for c in told(follows, info(500 + i * 1e-3, T0 + i), T0 + i)]
    focal = [c.intrinsics.fx_px for c in seen]
    assert 15 <= len(focal) <= 20
    assert np.diff(focal).min() > 0.05


def test_stamps_by_the_clock_of_the_images() -> None:
    late = T0 + 3
    assert told(follower(clock="log"), info(1, T0), late)[0].stamp_ns == late + 7
    assert told(follower(clock="publish"), info(1, T0), late)[0].stamp_ns == late - 1 + 7
    assert told(follower(), info(1, 0), late)[0].stamp_ns == late + 7  # nobody set it


def test_one_lens_at_two_resolutions_is_one_and_another_aspect_is_another() -> None:
    follows = follower()
    twice = info(1000.0, T0, (1280, 960))
    assert told(follows, twice, T0) == []
    other = told(follows, info(500.0, T0, (640, 400)), T0)[0].intrinsics
    assert (other.width_px, other.height_px) == (640, 400)


def test_what_is_no_lens_is_counted() -> None:
    follows = follower()
    bad = [info(0.0, T0), info(float("nan"), T0), info(-1.0, T0), SimpleNamespace(), info(500.0, T0, (-4, 3))]
    assert [c for content in bad for c in told(follows, content, T0)] == []
    assert [(loss.topic, loss.count) for loss in follows.losses] == [("/cam/camera_info", 5)]


def test_what_is_repeated_to_the_byte_needs_no_parsing() -> None:
    follows = follower()
    assert not follows.is_repeated(message(T0, b"headstamp123same"))
    assert follows.is_repeated(message(T0, b"HEADSTAMP456same"))
    assert not follows.is_repeated(message(T0, b"HEADSTAMP456else"))
    assert not follows.is_repeated(message(T0, b"x", "protobuf"))
    assert not follows.is_repeated(message(T0, b"x", "protobuf"))


def test_noise_of_coefficients_goes_by_their_size() -> None:
    def lens(k1: float, k2: float) -> Intrinsics:
        return Intrinsics("plumb_bob", 640, 480, 500, 500, 320, 240, (k1, k2, 0.0, 0.0))

    assert same_lens(lens(30.0, 0.1), lens(30.0002, 0.1))
    assert not same_lens(lens(30.0, 0.1), lens(30.0, 0.1002))
    assert not same_lens(lens(0.1, 0.1), pinhole(500))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=20),
    st.lists(st.integers(-2, 35), min_size=1, max_size=8),
)
def test_a_lens_holds_until_the_next(told: list[tuple[int, int]], asked: list[int]) -> None:
    rig = {"cam": Camera("cam", pinhole(500.0), SE3.identity(), "camera_info+tf")}
    window = LensWindow()
    known: list[tuple[int, Intrinsics]] = []
    for at, focal in told:
        lens = pinhole(100.0 * focal)
        window.add(CameraLens("cam", at, at, lens))
        after = known[-1][0] + 1 if known else at
        known.append((max(at, after), lens))
    for stamp in asked:
        expected = pinhole(500.0)
        for at, lens in known:
            if at <= stamp:
                expected = lens
        out = window.at(rig, {"cam": stamp, "stranger": stamp})
        assert out == ({} if expected == pinhole(500.0) else {"cam": expected})


def test_the_window_is_bounded() -> None:
    window = LensWindow()
    for i in range(5000):
        window.add(CameraLens("cam", i, i, pinhole(100.0 + i)))
    assert len(window._lenses["cam"]) <= 256


def test_a_rig_with_other_lenses() -> None:
    camera = Camera("cam", pinhole(500.0), SE3.identity(), "camera_info+tf")
    rig = Rig("base_link", {"cam": camera}, {})
    assert rig_with_lenses(rig, {}) is rig
    changed = rig_with_lenses(rig, {"cam": pinhole(600.0)})
    assert changed.cameras["cam"].intrinsics == pinhole(600.0)
    assert changed.cameras["cam"].base_SE3_camera is camera.base_SE3_camera

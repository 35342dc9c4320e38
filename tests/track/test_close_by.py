"""Known things whose feet the image's border cuts off: what the quick answer refuses is what the whole one refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.calibration import Camera, Intrinsics
from perception_batch.geometry import SE3
from perception_batch.track import close_by as room
from perception_batch.types import Observation

WIDTH_PX, HEIGHT_PX = 800, 600
LENSES = {
    "pinhole": Intrinsics("pinhole", WIDTH_PX, HEIGHT_PX, 500.0, 500.0, 400.0, 300.0),
    "plumb_bob": Intrinsics(
        "plumb_bob", WIDTH_PX, HEIGHT_PX, 500.0, 500.0, 400.0, 300.0, (-0.25, 0.06, 1e-4, 1e-4, 0.0)
    ),
    "fisheye": Intrinsics(
        "equidistant", WIDTH_PX, HEIGHT_PX, 260.0, 260.0, 400.0, 300.0, (0.01, 0.0, 0.0, 0.0)
    ),
    "a hand's breadth": Intrinsics("pinhole", WIDTH_PX, HEIGHT_PX, 90.0, 90.0, 400.0, 300.0),
}


def turn(axis: int, angle_rad: float) -> np.ndarray:
    """A rotation about one axis."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    out = np.eye(3)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    out[i, i], out[i, j], out[j, i], out[j, j] = c, -s, s, c
    return out


def camera_of(lens: str, down_rad: float, roll_rad: float, height_m: float) -> Camera:
    """Looks ahead and down."""
    ahead = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # optical axes in the base frame
    rotation = turn(1, down_rad) @ ahead @ turn(2, roll_rad)
    return Camera("front", LENSES[lens], SE3(rotation, np.array([1.0, 0.0, height_m])), "test")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(LENSES)),
    st.floats(-0.3, 1.6),
    st.floats(-3.2, 3.2),
    st.floats(0.5, 4.0),
    st.floats(-0.3, 0.3),
    st.floats(-0.3, 0.3),
    st.floats(-15.0, 3.0),
    st.floats(0.0, 760.0),
    st.floats(5.0, 400.0),
    st.floats(597.7, 600.0),
)
def test_what_is_refused_at_once_is_too_far_away(
    lens: str,
    down_rad: float,
    roll_rad: float,
    height_m: float,
    pitch_rad: float,
    bank_rad: float,
    foot_m: float,
    left_px: float,
    width_px: float,
    bottom_px: float,
) -> None:
    camera = camera_of(lens, down_rad, roll_rad, height_m)
    pose = SE3(turn(1, pitch_rad) @ turn(0, bank_rad), np.array([3.0, 4.0, 0.2]))
    boxes = {"front": np.array([[left_px, 200.0, min(left_px + width_px, 800.0), bottom_px]], np.float32)}

    def answer() -> room.CloseBy | None:
        return room.close_by([Observation("front", 0)], foot_m, boxes, {"front": camera}, pose)

    quick = answer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_below_rad", lambda _: math.pi)  # no image is known to look anywhere
        slow = answer()
    assert (quick is None) == (slow is None)
    if quick is not None and slow is not None:
        assert quick.polar.tobytes() == slow.polar.tobytes()
        assert quick.noise.tobytes() == slow.noise.tobytes()


def test_some_are_close_and_what_stands_far_below_is_not() -> None:
    camera = camera_of("plumb_bob", 0.1, 0.0, 1.5)
    boxes = {"front": np.array([[300.0, 200.0, 500.0, 600.0]], np.float32)}
    seen = [Observation("front", 0)]
    found = room.close_by(seen, 0.0, boxes, {"front": camera}, SE3.identity())
    assert found is not None
    assert abs(found.polar[1]) < 0.01  # straight ahead
    assert 0.5 < math.exp(found.polar[0]) < 6.0
    for foot_m in (-4.0, -12.0, math.nan):
        assert room.close_by(seen, foot_m, boxes, {"front": camera}, SE3.identity()) is None

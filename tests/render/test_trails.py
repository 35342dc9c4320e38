"""Trails lie on the ground, not on the vehicle, and end after their time."""

from __future__ import annotations

import numpy as np
import pytest

from perception_batch.geometry import SE3
from perception_batch.render.trails import TRAIL_NS, Trails
from perception_batch.types import EgoPose, FusedObject, Fusion, TimestepResult

MS = 1_000_000
NAN = np.full(3, np.nan)


def thing(track: int, xyz: tuple[float, float, float] | None) -> FusedObject:
    place = NAN if xyz is None else np.array(xyz)
    return FusedObject(2, "car", 0.9, place, np.eye(3), NAN, "unknown", float("nan"), (), track_id=track)


def step(
    stamp_ns: int, objects: list[FusedObject], ego_x_m: float | None, frame: str = "odom"
) -> TimestepResult:
    pose = None
    if ego_x_m is not None:
        turned = SE3.from_quaternion((0.0, 0.0, np.sin(0.35), np.cos(0.35)), (ego_x_m, 2.0, 0.0))
        pose = EgoPose(stamp_ns, frame, turned, NAN, "tf")
    return TimestepResult(0, stamp_ns, {}, {}, {}, Fusion(tuple(objects), {}, {}), pose)


def test_a_standing_object_has_no_length_while_the_vehicle_drives() -> None:
    trails = Trails()
    parked = np.array([30.0, 5.0, 0.5])
    for i in range(20):
        result = step(i * 100 * MS, [], 1.0 * i)
        assert result.ego is not None
        seen = result.ego.odom_SE3_base.inverse().apply(parked)
        shown = trails.add(step(i * 100 * MS, [thing(4, tuple(seen))], 1.0 * i))
    np.testing.assert_allclose(shown[4], np.tile(seen[:2], (20, 1)), atol=1e-9)


def test_without_ego_motion_positions_stay_as_they_were_seen() -> None:
    trails = Trails()
    for i in range(5):
        shown = trails.add(step(i * 100 * MS, [thing(1, (float(i), 0.0, 0.0)), thing(-1, (0, 0, 0))], None))
    assert list(shown) == [1]
    np.testing.assert_allclose(shown[1][:, 0], [0, 1, 2, 3, 4])


def test_trails_end_after_their_time_and_are_forgotten() -> None:
    trails = Trails()
    for i in range(100):
        shown = trails.add(step(i * 100 * MS, [thing(1, (float(i), 0, 0))], 0.0))
    assert len(shown[1]) == TRAIL_NS // (100 * MS) + 1
    assert trails.add(step(101 * 100 * MS, [thing(2, (0, 0, 0)), thing(1, None)], 0.0)) == {}
    assert trails.add(step(200 * 100 * MS, [], 0.0)) == {}
    assert not trails._past


@pytest.mark.parametrize("frame", ["map", None])
def test_another_fixed_frame_begins_anew(frame: str | None) -> None:
    trails = Trails()
    trails.add(step(0, [thing(1, (1, 0, 0))], 0.0))
    after = step(100 * MS, [thing(1, (2, 0, 0))], None if frame is None else 0.0, frame or "")
    assert trails.add(after) == {}

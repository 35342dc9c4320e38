"""The vehicle's path: interpolation, gaps, and the equality of a streaming window and the stored whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.geometry import SE3
from perception_batch.trajectory import JumpFinder, Trajectory
from perception_batch.types import EgoPose

MS = 1_000_000
T0 = 1_700_000_000_123_456_789


def pose(ms: float, x: float = 0.0, *, yaw: float = 0.0, frame: str = "odom", v: float = math.nan) -> EgoPose:
    turn = (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
    place = SE3.from_quaternion(turn, (x, 2.0, 0.5))
    return EgoPose(T0 + round(ms * MS), frame, place, np.array([v, 0.0, 0.0]), "tf")


def path(*poses: EgoPose, max_gap_s: float = 0.5) -> Trajectory:
    out = Trajectory(max_gap_s)
    for one in poses:
        assert out.add(one)
    return out


def same(a: EgoPose | None, b: EgoPose | None) -> bool:
    if a is None or b is None:
        return a is b
    return (
        (a.stamp_ns, a.frame_id, a.source) == (b.stamp_ns, b.frame_id, b.source)
        and a.odom_SE3_base.rotation.tobytes() == b.odom_SE3_base.rotation.tobytes()
        and a.odom_SE3_base.translation_m.tobytes() == b.odom_SE3_base.translation_m.tobytes()
        and a.velocity_mps.tobytes() == b.velocity_mps.tobytes()
    )


def test_between_two_poses_it_is_a_line_and_a_turn() -> None:
    whole = path(pose(0, 0.0, v=10.0), pose(100, 1.0, yaw=0.4, v=12.0))
    at = whole.pose_at(T0 + 25 * MS)
    assert at is not None
    assert at.stamp_ns == T0 + 25 * MS
    assert np.allclose(at.odom_SE3_base.translation_m, [0.25, 2.0, 0.5])
    assert np.allclose(at.velocity_mps, [10.5, 0, 0])
    assert math.isclose(
        math.atan2(at.odom_SE3_base.rotation[1, 0], at.odom_SE3_base.rotation[0, 0]), 0.1, abs_tol=1e-9
    )


def test_on_a_pose_it_is_that_pose() -> None:
    first, last = pose(0, 0.0), pose(100, 1.0)
    whole = path(first, last)
    assert whole.pose_at(first.stamp_ns) is first
    assert whole.pose_at(last.stamp_ns) is last


def test_nothing_is_known_before_after_and_without_poses() -> None:
    whole = path(pose(0), pose(100))
    assert whole.pose_at(T0 - 1) is None
    assert whole.pose_at(T0 + 100 * MS + 1) is None
    assert Trajectory(0.5).pose_at(T0) is None
    assert Trajectory(0.5).newest_ns is None
    assert whole.newest_ns == T0 + 100 * MS


def test_a_gap_is_unknown_and_the_longest_allowed_is_not() -> None:
    assert path(pose(0), pose(500)).pose_at(T0 + 250 * MS) is not None
    assert path(pose(0), pose(500.001)).pose_at(T0 + 250 * MS) is None


def test_an_unknown_first_velocity_takes_the_next() -> None:
    at = path(pose(0, v=math.nan), pose(100, v=7.0)).pose_at(T0 + 50 * MS)
    assert at is not None
    assert at.velocity_mps[0] == 7.0


def test_two_fixed_frames_are_not_mixed() -> None:
    """A log that starts with map and goes on with odom: the numbers of the two have nothing in common."""
    whole = path(pose(0, 4000.0, frame="map"), pose(100, 0.0, frame="odom"), pose(200, 1.0, frame="odom"))
    assert whole.pose_at(T0 + 50 * MS) is None
    assert whole.motion(T0 + 150 * MS, T0) is None
    at = whole.pose_at(T0 + 150 * MS)
    assert at is not None
    assert at.odom_SE3_base.translation_m[0] == 0.5


def test_poses_out_of_order_are_refused_and_counted() -> None:
    whole = path(pose(0), pose(100))
    assert not whole.add(pose(100))
    assert not whole.add(pose(50))
    assert whole.refused == 2
    assert whole.add(pose(101))


def test_motion_takes_points_from_one_base_to_the_other() -> None:
    whole = path(pose(0, 0.0), pose(100, 1.0), pose(200, 2.0, yaw=math.pi / 2))
    # What stood 10 m ahead is 9 m ahead after driving 1 m.
    forward = whole.motion(T0 + 100 * MS, T0)
    assert forward is not None
    assert np.allclose(forward.apply(np.array([10.0, 0, 0])), [9, 0, 0])
    # After another metre and a quarter turn to the left it is on the right.
    turned = whole.motion(T0 + 200 * MS, T0)
    assert turned is not None
    assert np.allclose(turned.apply(np.array([10.0, 0, 0])), [0, -8, 0])


def test_motion_from_a_time_to_itself_is_known_without_poses() -> None:
    nothing = Trajectory(0.5).motion(T0, T0)
    assert nothing is not None
    assert np.array_equal(nothing.rotation, np.eye(3))
    assert Trajectory(0.5).motion(T0, T0 + 1) is None


def test_motions_from_several_times_are_those_from_each() -> None:
    whole = path(pose(0), pose(100, 1.0, yaw=0.2), pose(200, 2.0, yaw=0.5), pose(900, 3.0))
    times = [T0 + ms * MS for ms in (-1, 0, 33, 150, 200, 700, 1000)]
    for to_ns in times:
        together = whole.motions(to_ns, [t for t in times if t != to_ns])
        assert len(together) == len(times) - 1
        for from_ns, found in together.items():
            to, origin = whole.pose_at(to_ns), whole.pose_at(from_ns)
            alone = whole.motion(to_ns, from_ns)
            if to is None or origin is None:
                assert found is None
                assert alone is None
            else:
                assert found is not None
                assert alone is not None
                slow = np.linalg.inv(matrix(to.odom_SE3_base)) @ matrix(origin.odom_SE3_base)
                np.testing.assert_allclose(matrix(found), slow, atol=1e-12)
                assert matrix(alone).tobytes() == matrix(found).tobytes()


def matrix(transform: SE3) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = transform.rotation, transform.translation_m
    return out


def test_an_answer_is_no_longer_true_when_the_next_pose_comes() -> None:
    window = path(pose(0), pose(100))
    assert window.pose_at(T0 + 150 * MS) is None
    assert window.add(pose(200, 0.5))
    assert window.pose_at(T0 + 150 * MS) is not None


def test_what_was_answered_with_unknown_stays_unknown() -> None:
    window = path(pose(0))
    assert window.pose_at(T0 + 100 * MS) is None
    window.settle(T0 + 100 * MS)
    assert not window.add(pose(150))  # would have been a neighbour
    assert not window.add(pose(600))  # ... even with the largest gap
    assert window.add(pose(600.001))
    assert window.pose_at(T0 + 100 * MS) is None
    assert window.refused == 2


def test_a_known_answer_refuses_nothing() -> None:
    window = path(pose(0), pose(100))
    window.settle(T0 + 100 * MS)
    assert window.add(pose(100.001))


def test_the_window_stays_short() -> None:
    window = Trajectory(0.5)
    for i in range(20_000):
        assert window.add(pose(i, 0.03 * i))
        window.forget_before(T0 + (i - 100) * MS)
        assert len(window._stamps) == len(window._poses) <= 400
    assert window.pose_at(T0 + round(19_900.5 * MS)) is not None


@given(
    st.lists(st.tuples(st.sampled_from("pppq"), st.integers(0, 1500), st.integers(-40, 160)), max_size=120),
    st.sampled_from([0.03, 0.25, 0.5]),
    st.booleans(),
)
@settings(max_examples=200)
def test_a_window_answers_as_the_whole_of_what_it_accepted(
    events: list[tuple[str, int, int]], max_gap_s: float, crowded: bool
) -> None:
    """Promise 1a: what fusion asked while the log went by, it gets again from the stored poses.

    Poses arrive with jitter, late and out of order; questions are asked ahead of them and behind.
    """
    window = Trajectory(max_gap_s)
    accepted: list[EgoPose] = []
    asked: dict[int, EgoPose | None] = {}
    clock, last_asked = 0, 0
    for i, (kind, step, lead) in enumerate(events):
        clock += step % 50 if crowded else step
        if kind == "p":
            frame = "odom" if i % 29 else "map"
            one = pose(clock - lead, x=i * 0.7, yaw=i * 0.13, v=i / 3 if i % 5 else math.nan, frame=frame)
            if window.add(one):
                accepted.append(one)
        else:
            last_asked = max(last_asked, clock + lead)  # timesteps go forward, their frames lie about them
            needed = T0 + last_asked * MS
            window.settle(needed)
            for back in (0, 1, 37, 180, 2000):
                asked[needed - back * MS] = window.pose_at(needed - back * MS)
            window.forget_before(needed - 2000 * MS)
    whole = path(*accepted, max_gap_s=max_gap_s)
    for stamp_ns, answer in asked.items():
        assert same(answer, whole.pose_at(stamp_ns)), stamp_ns - T0


def test_forgetting_changes_no_answer_that_is_still_asked() -> None:
    window, whole = Trajectory(0.5), Trajectory(0.5)
    rng = np.random.default_rng(0)
    clock = 0.0
    for i in range(3000):
        clock += float(rng.uniform(0.1, 20))
        for one in (window, whole):
            assert one.add(pose(clock, i * 0.1))
        low = T0 + round((clock - 2000) * MS)
        window.forget_before(low)
        for stamp_ns in (low, low + 1, low + 1000 * MS, T0 + round(clock * MS) - 1):
            assert same(window.pose_at(stamp_ns), whole.pose_at(stamp_ns))
    assert len(window._stamps) < 600 < len(whole._stamps)


@pytest.mark.parametrize("answers", ["before", "after"])
def test_stamps_near_zero_settle_too(answers: str) -> None:
    """A log of a simulation starts at 0; nothing may depend on stamps being large."""

    def at(ns: int) -> EgoPose:
        return EgoPose(ns, "odom", SE3.identity(), np.zeros(3), "tf")

    window = Trajectory(1e-6)
    if answers == "before":
        window.settle(0)
        assert not window.add(at(1000))
    assert window.add(at(1001))


# ---------------------------------------------------------------------- jumps


def test_nothing_is_interpolated_across_a_jump() -> None:
    """Localised anew: 40 m to the side between two poses."""
    whole = path(*(pose(50 * i, 0.5 * i + (40.0 if i >= 4 else 0.0)) for i in range(8)))
    assert whole.jumps == 1
    assert whole.pose_at(T0 + 149 * MS) is not None
    assert whole.pose_at(T0 + 175 * MS) is None
    at = whole.pose_at(T0 + 200 * MS)
    assert at is not None
    assert at.odom_SE3_base.translation_m[0] == 42.0
    assert whole.pose_at(T0 + 225 * MS) is not None
    # both ends are known, but not the way from one to the other
    assert whole.motion(T0 + 225 * MS, T0 + 125 * MS) is None
    assert whole.motion(T0 + 225 * MS, T0 + 200 * MS) is not None
    assert whole.motion(T0 + 125 * MS, T0 + 25 * MS) is not None


@pytest.mark.parametrize(
    ("poses", "jumps"),
    [
        ([pose(0, 0), pose(100, 9.9)], 0),  # 99 m/s
        ([pose(0, 0), pose(100, 10.6)], 1),
        ([pose(0, 0), pose(1, 0.5)], 0),  # 500 m/s, but half a metre: stamps jitter
        ([pose(0, 0), pose(1, 0.7)], 1),
        ([pose(0, 0), pose(100, 3), pose(200, 6), pose(300, 7.1), pose(400, 8.2)], 0),  # braking with 19 g
        ([pose(0, 0), pose(100, 3), pose(200, 6), pose(300, 6.9)], 1),  # 21 g
        ([pose(0, 0), pose(20, 0.2), pose(40, 1.3)], 0),  # less than a metre off the way
        ([pose(0, 0), pose(20, 0.2), pose(40, 1.5)], 1),
        (
            [pose(0, 0), pose(100, 1), pose(200, 90), pose(300, 91), pose(400, 92)],
            1,
        ),  # once, not on the way out too
        ([pose(0, 0), pose(100, 50), pose(200, 2)], 2),  # one bad pose
        ([pose(0, yaw=0), pose(100, yaw=1.9)], 0),
        ([pose(0, yaw=0), pose(100, yaw=2.1)], 1),
        ([pose(0, yaw=3.0), pose(100, yaw=-3.0)], 0),  # the short way round
        ([pose(0, yaw=0), pose(50, yaw=math.pi)], 1),  # a heading that flips
        ([pose(0, 0), pose(100, 0, frame="map"), pose(200, 500, frame="odom")], 0),  # frames are no jumps
        ([pose(0, 0), pose(60_000, 3000)], 0),  # a gap in which it drove on
        ([pose(0, 0), pose(2000, 20), pose(4000, 140)], 0),  # long steps tell no acceleration
    ],
)
def test_what_is_a_jump(poses: list[EgoPose], jumps: int) -> None:
    finder = JumpFinder()
    assert sum(finder.jumps(one) for one in poses) == finder.count == path(*poses).jumps == jumps


@given(st.floats(0, 40), st.floats(-9, 9), st.floats(5, 200), st.integers(0, 1000))
@settings(max_examples=60)
def test_driving_never_jumps(speed_mps: float, acceleration: float, rate_hz: float, seed: int) -> None:
    """Up to a g along and 5 m/s2 to the side, 5 cm of noise, 1 ms of jitter."""
    rng = np.random.default_rng(seed)
    finder = JumpFinder()
    last_ms = -math.inf
    for i in range(min(60, round(4 * rate_hz))):  # 4 s: below the largest speed
        t = i / rate_hz
        x = speed_mps * t + acceleration * t * t / 2
        place = SE3.from_quaternion(
            (0.0, 0.0, math.sin(t / 2), math.cos(t / 2)),
            rng.normal(0, 0.05, 3) + np.array([x, 5 * t * t / 2, 0]),
        )
        ms = max(last_ms + 0.01, 1e3 * t + float(rng.uniform(0, 1)))
        last_ms = ms
        finder.jumps(EgoPose(T0 + round(ms * MS), "odom", place, np.full(3, np.nan), "tf"))
    assert finder.count == 0

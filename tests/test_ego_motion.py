"""Timesteps wait for the vehicle's pose, but not for ever; and replaying what was stored gives the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.config import SyncConfig
from perception_batch.ego_motion import Step, moved_cameras, steps
from perception_batch.geometry import SE3
from perception_batch.sync import Synchronizer, plan_sync
from perception_batch.trajectory import Trajectory
from perception_batch.types import EgoPose, EncodedFrame, FrameSet, StillPayload, Trigger, UnusedFrame

MS = 1_000_000
T0 = 1_700_000_000_123_456_789
LENS = Intrinsics("pinhole", 640, 480, 500.0, 500.0, 319.5, 239.5)
MOUNT = SE3.from_quaternion([-0.5, 0.5, -0.5, 0.5], [1.5, 0.0, 1.6])
RIG = Rig("base_link", {n: Camera(n, LENS, MOUNT, "test") for n in ("a", "b")}, {"c": "no CameraInfo"})


def frame(camera: str, ms: float, log_ms: float | None = None, size: int = 100) -> EncodedFrame:
    stamp = T0 + round(ms * MS)
    log = T0 + round((ms + 5 if log_ms is None else log_ms) * MS)
    return EncodedFrame(camera, stamp, log, StillPayload(b"x" * size), "jpeg", 0, 4, 4, stamp)


def pose(ms: float, *, speed: float = 10.0) -> EgoPose:
    at = SE3.from_quaternion([0, 0, 0, 1], [speed * ms / 1e3, 0, 0])
    return EgoPose(T0 + round(ms * MS), "odom", at, np.array([speed, 0, 0]), "tf")


class EachAlone:
    """A synchronizer that makes a timestep of every frame, or of all frames at the end of the log."""

    def __init__(self, *, at_end: bool = False) -> None:
        self.at_end = at_end
        self.kept: list[EncodedFrame] = []
        self.count = 0

    def push(self, item: EncodedFrame) -> list[FrameSet]:
        self.kept.append(item)
        return [] if self.at_end else self.flush()

    def flush(self) -> list[FrameSet]:
        taken, self.kept = self.kept, []
        out = []
        for item in taken:
            out.append(FrameSet(self.count, item.stamp_ns, {item.camera: item}, {item.camera: "ok"}))
            self.count += 1
        return out


def released(
    items: Iterable[EncodedFrame | EgoPose],
    synchronizer: Any = None,
    *,
    patience_ms: float = 1000,
    limit_bytes: int = 1 << 30,
    trajectory: Trajectory | None = None,
    tail: list[EgoPose] | None = None,
) -> Iterator[Step]:
    return steps(
        items,
        EachAlone() if synchronizer is None else synchronizer,
        RIG,
        Trajectory(0.5) if trajectory is None else trajectory,
        patience_ns=round(patience_ms * MS),
        limit_bytes=limit_bytes,
        tail=[] if tail is None else tail,
    )


def played(
    items: Iterable[EncodedFrame | EgoPose], **options: Any
) -> list[tuple[EncodedFrame | EgoPose | None, Step]]:
    """Each timestep with the item of the log at which it came out; None: at the end."""
    now: list[EncodedFrame | EgoPose | None] = [None]

    def watched() -> Iterator[EncodedFrame | EgoPose]:
        for item in items:
            now[0] = item
            yield item
        now[0] = None

    return [(now[0], step) for step in released(watched(), **options)]


def test_a_timestep_waits_for_a_pose_at_or_after_it() -> None:
    log = [pose(0), frame("a", 50), pose(40), frame("a", 90), pose(50), pose(100)]
    first, second = played(log)
    assert first[0] is log[4]
    assert second[0] is log[5]
    assert first[1].ego is log[4]
    assert second[1].ego is not None
    assert np.allclose(second[1].ego.odom_SE3_base.translation_m, [0.9, 0, 0])


def test_without_poses_it_comes_when_patience_ends() -> None:
    log = [frame("a", i * 100) for i in range(30)]
    out = played(log, patience_ms=1000)
    assert [step.frame_set.index for _, step in out] == list(range(30))
    assert all(step.ego is None for _, step in out)
    # Log time is 5 ms after the stamp, so a second of log time has passed with the tenth frame after it.
    at, _ = out[0]
    assert at is log[10]
    assert [at for at, _ in out[-10:]] == [None] * 10


def test_a_pose_does_not_tell_that_patience_has_ended() -> None:
    """An old pose may come late; only frames tell what time it is in the log."""
    log = [pose(0), frame("a", 100), pose(20), pose(40), frame("a", 200, log_ms=1100)]
    (at, step), _ = played(log)
    assert at is log[4]
    assert step.ego is None


def test_too_many_bytes_end_the_waiting() -> None:
    log = [frame("a", i * 10, size=1000) for i in range(8)]
    out = played(log, limit_bytes=3000)
    assert [at for at, _ in out] == [*log[3:], None, None, None]
    assert all(step.ego is None for _, step in out)


def test_one_timestep_larger_than_the_limit_still_comes_out() -> None:
    assert len(played([frame("a", 0, size=5000)], limit_bytes=10)) == 1


def test_at_the_end_of_the_log_all_that_waits_comes_out() -> None:
    log = [pose(0), frame("a", 50), frame("a", 80), pose(60)]
    out = played(log, synchronizer=EachAlone(at_end=True))
    assert [at for at, _ in out] == [None, None]
    assert out[0][1].ego is not None
    assert out[1][1].ego is None


def test_every_pose_goes_with_one_timestep_or_the_tail() -> None:
    poses = [pose(i * 10.0) for i in range(100)]
    frames = [frame("a", i * 100.0) for i in range(9)]
    log = sorted([*poses, *frames], key=lambda i: (i.stamp_ns, isinstance(i, EgoPose)))
    tail: list[EgoPose] = []
    out = played(log, tail=tail)
    assert [p for _, step in out for p in step.poses] + tail == poses
    assert tail[0].stamp_ns == T0 + 810 * MS


def test_a_refused_pose_is_not_stored() -> None:
    """What came too late to be used must not be there when the run is fused again."""
    trajectory, tail = Trajectory(0.5), []
    late = pose(110)
    log = [pose(0), frame("a", 100), frame("a", 1300), late, pose(1500), pose(1490)]
    out = played(log, trajectory=trajectory, tail=tail)
    stored = [p for _, step in out for p in step.poses] + tail
    assert late not in stored
    assert stored == [log[0], log[4]]
    assert trajectory.refused == 2


def test_a_frame_after_its_timestep_needs_a_pose_after_itself() -> None:
    class Both(EachAlone):
        def push(self, item: EncodedFrame) -> list[FrameSet]:
            self.kept.append(item)
            if len(self.kept) < 2:
                return []
            frames = {f.camera: f for f in self.kept}
            self.kept = []
            return [FrameSet(0, T0 + 100 * MS, frames, dict.fromkeys(frames, "ok"))]

    log = [pose(0), frame("a", 100), frame("b", 140), pose(120), pose(150), pose(200)]
    ((at, step),) = played(log, synchronizer=Both())
    assert at is log[4]
    assert np.allclose(step.base_now_SE3_camera["a"].translation_m, [1.5, 0, 1.6])
    # 40 ms later the vehicle was 0.4 m further: there the camera stood, seen from where it was.
    assert np.allclose(step.base_now_SE3_camera["b"].translation_m, [1.9, 0, 1.6])


def test_cameras_stay_as_mounted_where_the_motion_is_unknown() -> None:
    out = moved_cameras(RIG, Trajectory(0.5), T0, {"a": T0, "b": T0 + MS, "c": T0})
    assert set(out) == {"a", "b"}  # c has no calibration
    assert all(np.array_equal(out[n].translation_m, MOUNT.translation_m) for n in out)


class Source:
    """Items of a log, and whether it was closed."""

    def __init__(self, items: Iterable[EncodedFrame | EgoPose], fail: bool = False) -> None:
        self._items, self._fail, self.closed = iter(items), fail, False

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> EncodedFrame | EgoPose:
        try:
            return next(self._items)
        except StopIteration:
            if self._fail:
                raise OSError("the disk is gone") from None
            raise

    def close(self) -> None:
        self.closed = True


def test_the_log_is_closed_however_it_ends() -> None:
    log = [frame("a", i * 10, size=1000) for i in range(8)]
    whole = Source(log)
    assert len(list(released(whole))) == 8
    assert whole.closed
    left = Source(log)
    out = released(left, limit_bytes=3000)
    next(out)
    out.close()  # type: ignore[attr-defined]
    assert left.closed
    broken = Source(log, fail=True)
    with pytest.raises(OSError, match="disk is gone"):
        list(released(broken))
    assert broken.closed


@given(st.integers(0, 10_000), st.floats(0, 300), st.floats(0, 0.5), st.sampled_from([50, 400, 2000]))
@settings(max_examples=60, deadline=None)
def test_stored_poses_give_the_same_steps_again(
    seed: int, pose_delay_ms: float, drop: float, patience_ms: int
) -> None:
    """Promise 1a, through the real synchronizer: late and lost poses do not make a replay differ."""
    rng = np.random.default_rng(seed)
    items: list[tuple[float, EncodedFrame | EgoPose]] = []
    for i in range(40):
        for camera, phase in (("a", 0.0), ("b", 21.0)):
            ms = i * 100 + phase + float(rng.uniform(-2, 2))
            log_ms = ms + float(rng.uniform(3, 30))
            items.append((log_ms, frame(camera, ms, log_ms)))
    for i in range(200):
        if rng.uniform() >= drop:
            ms = i * 20.0 + float(rng.uniform(-5, 5))
            items.append((ms + pose_delay_ms * float(rng.uniform(0.3, 3)), pose(ms, speed=20.0)))
    items.sort(key=lambda item: item[0])
    samples = {
        name: [(f.stamp_ns, f.log_ns) for _, f in items if isinstance(f, EncodedFrame) and f.camera == name]
        for name in ("a", "b")
    }
    config = SyncConfig()
    tail: list[EgoPose] = []
    out = list(
        released(
            (item for _, item in items),
            Synchronizer(plan_sync(samples, config), config),
            patience_ms=patience_ms,
            limit_bytes=3000,
            tail=tail,
        )
    )
    assert [step.frame_set.index for step in out] == list(range(len(out)))
    whole = Trajectory(0.5)
    for one in [p for step in out for p in step.poses] + tail:
        assert whole.add(one)
    for step in out:
        stamps = {n: f.stamp_ns for n, f in step.frame_set.frames.items()}
        again = moved_cameras(RIG, whole, step.frame_set.stamp_ns, stamps)
        for name, moved in step.base_now_SE3_camera.items():
            assert moved.rotation.tobytes() == again[name].rotation.tobytes()
            assert moved.translation_m.tobytes() == again[name].translation_m.tobytes()
        ego = whole.pose_at(step.frame_set.stamp_ns)
        assert (ego is None) == (step.ego is None)
        if ego is not None and step.ego is not None:
            assert ego.odom_SE3_base.translation_m.tobytes() == step.ego.odom_SE3_base.translation_m.tobytes()


# ---------------------------------------------------------------------- only where the vehicle moves


def travelled(
    items: Iterable[EncodedFrame | EgoPose | Trigger], min_distance_m: float, config: SyncConfig | None = None
) -> tuple[list[Step], list[UnusedFrame]]:
    """Steps with `min_distance_m`, and all records of unused frames."""
    config = config or SyncConfig()
    listed = list(items)
    frames = [item for item in listed if isinstance(item, EncodedFrame)]
    samples = {n: [(f.stamp_ns, f.log_ns) for f in frames if f.camera == n] for n in ("a", "b")}
    triggers = [(t.stamp_ns, t.log_ns) for t in listed if isinstance(t, Trigger)]
    synchronizer = Synchronizer(plan_sync(samples, config, triggers=triggers), config)
    out = list(
        steps(
            iter(listed),
            synchronizer,
            RIG,
            Trajectory(0.5),
            patience_ns=500 * MS,
            limit_bytes=10**9,
            tail=[],
            min_distance_m=min_distance_m,
        )
    )
    unused = [u for step in out for u in step.frame_set.unused] + list(synchronizer.take_unused())
    return out, unused


def halting(speed: float = 10.0) -> list[EncodedFrame | EgoPose | Trigger]:
    """Ten seconds at 10 Hz; the vehicle stands from 3 s to 6 s."""
    items: list[EncodedFrame | EgoPose | Trigger] = []
    for i in range(100):
        items += [frame("a", i * 100.0), frame("b", i * 100.0 + 3)]
        if i == 0:
            items.append(Trigger(T0, T0))
        else:
            items.append(Trigger(T0 + i * 100 * MS, T0 + i * 100 * MS))
    for i in range(0, 10_000, 20):
        moved_ms = min(i, 3000) + max(0, i - 6000)
        at = SE3.from_quaternion([0, 0, 0, 1], [speed * moved_ms / 1e3, 0, 0])
        items.append(EgoPose(T0 + i * MS, "odom", at, np.full(3, np.nan), "tf"))
    return sorted(items, key=lambda item: item.stamp_ns)


@pytest.mark.parametrize("anchor", ["reference", "trigger"])
def test_timesteps_are_used_where_the_vehicle_has_moved_on(anchor: Any) -> None:
    items = halting()
    config = SyncConfig(anchor=anchor, trigger_topic="/t", reference="a")
    out, unused = travelled(items, 1.95, config)
    at = [(step.frame_set.stamp_ns - T0) // (100 * MS) for step in out]
    assert at == [*range(0, 31, 2), *range(62, 99, 2), 99][: len(at)]
    assert {31 <= x < 62 for x in at} == {False}
    assert [step.frame_set.index for step in out] == list(range(len(out)))
    frames = [item for item in items if isinstance(item, EncodedFrame)]
    used = [f for step in out for f in step.frame_set.frames.values()]
    assert len(used) + len(unused) == len(frames)
    assert {u.reason for u in unused} == {"resampled"}
    poses = sum(isinstance(item, EgoPose) for item in items)
    assert sum(len(step.poses) for step in out) <= poses


def test_without_poses_every_timestep_is_used() -> None:
    items = [item for item in halting() if not isinstance(item, EgoPose)]
    out, unused = travelled(items, 5.0)
    assert len(out) == 100
    assert not unused


def test_a_frame_of_a_timestep_that_was_passed_over_is_not_held() -> None:
    items = [
        item
        for item in halting()
        if not (
            isinstance(item, EncodedFrame)
            and item.camera == "b"
            and item.stamp_ns in {T0 + (i * 100 + 3) * MS for i in (4, 9)}
        )
    ]
    out, unused = travelled(items, 1.95, SyncConfig(policy="hold", reference="a"))
    status = {(s.frame_set.stamp_ns - T0) // (100 * MS): s.frame_set.status["b"] for s in out}
    assert status[4] == "missing"
    frames = [item for item in items if isinstance(item, EncodedFrame)]
    used = [f for s in out for n, f in s.frame_set.frames.items() if s.frame_set.status[n] != "held"]
    assert len(used) + len(unused) == len(frames)

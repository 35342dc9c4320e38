"""Timesteps joined with the vehicle's motion: where each camera was at its own exposure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from perception_batch import flow
from perception_batch.calibration import Intrinsics, Rig
from perception_batch.geometry import SE3
from perception_batch.lenses import LensWindow
from perception_batch.mounts import MountWindow
from perception_batch.sync import Synchronizer
from perception_batch.trajectory import Trajectory
from perception_batch.types import (
    CameraLens,
    CameraMount,
    EgoPose,
    FrameSet,
    FrameStatus,
    LidarSweep,
    LogItem,
    MovedSweep,
    Trigger,
    UnusedFrame,
)

if TYPE_CHECKING:
    from perception_batch.runs import DetectedTimestep

_LENS_WAIT_NS = 20_000_000  # drivers give an image first and then, with the same stamp, its CameraInfo
_SWEEPS_KEPT = 32  # 3 s of a usual lidar, 40 MB at most: more than a timestep ever waits for one


@dataclass(frozen=True, slots=True)
class Step:
    """A timestep on its way, with the vehicle's motion at it."""

    frame_set: FrameSet
    """Its encoded frames."""
    ego: EgoPose | None
    """The vehicle at the timestep's stamp."""
    base_now_SE3_camera: Mapping[str, SE3]
    """Pose of each calibrated camera at its own stamp, in the base frame at the timestep's."""
    poses: tuple[EgoPose, ...]
    """Poses of the log that were read since the timestep before."""
    sweeps: Mapping[str, MovedSweep] = field(default_factory=dict)
    """By camera: the lidar sweep nearest to its frame; empty without a lidar."""
    mounts: Mapping[str, SE3] = field(default_factory=dict)
    """By camera, for those that are not where the rig has them: ``base_SE3_camera`` at the frame's stamp."""
    lenses: Mapping[str, Intrinsics] = field(default_factory=dict)
    """By camera, for those whose lens is not as in the rig: the lens at the frame's stamp."""
    stored: DetectedTimestep | None = None
    """What an earlier run has detected; None where it has not."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the frames and of the sweeps."""
        return self.frame_set.size_bytes + self.sweep_bytes

    @property
    def sweep_bytes(self) -> int:
        """Bytes of the sweeps; cameras share them."""
        shared = {id(moved.sweep): moved.sweep.size_bytes for moved in self.sweeps.values()}
        return sum(shared.values())


def steps(
    source: Iterable[LogItem],
    synchronizer: Synchronizer,
    rig: Rig,
    trajectory: Trajectory,
    *,
    patience_ns: int,
    limit_bytes: int,
    tail: list[EgoPose],
    min_distance_m: float | None = None,
    sweeps: SweepWindow | None = None,
    wait_for_lenses: bool = False,
) -> Iterator[Step]:
    """Timesteps with ego motion: each waits until a later pose is known, or log time says none will come.

    Args:
        source: frames, triggers, poses, mounts, lenses and sweeps in log order.
        synchronizer: groups the frames.
        rig: the cameras' poses on the vehicle.
        trajectory: takes the poses.
        patience_ns: log time after a frame's stamp at which no pose for it is expected any more.
        limit_bytes: most that may wait.
        tail: receives the poses after the last timestep.
        min_distance_m: see `Travel`; None: every timestep.
        sweeps: takes the lidar's sweeps; a timestep then also waits for a later one of these.
        wait_for_lenses: wait until the CameraInfo of a timestep's frames, if any, has come.
    """
    mounts, lenses = MountWindow(trajectory.max_gap_ns), LensWindow()
    newest_ns: int | None = None  # log time
    waiting: deque[FrameSet] = deque()
    waiting_bytes = 0
    poses: list[EgoPose] = []
    travel = None if min_distance_m is None else Travel(min_distance_m)

    def release() -> Iterator[Step]:
        nonlocal waiting_bytes, poses
        frame_set = waiting.popleft()
        waiting_bytes -= frame_set.size_bytes
        needed = _needed_ns(frame_set)
        trajectory.settle(needed)
        ego = trajectory.pose_at(frame_set.stamp_ns)
        chosen = frame_set if travel is None else travel.choose(frame_set, ego)
        if chosen is not None:
            stamps = {name: frame.stamp_ns for name, frame in chosen.frames.items()}
            mounted = mounts.at(rig.cameras, stamps)
            moved = moved_cameras(rig, trajectory, chosen.stamp_ns, stamps, mounted)
            taken, poses = tuple(poses), []
            seen = {} if sweeps is None else sweeps.nearest(chosen.stamp_ns, stamps, trajectory)
            yield Step(chosen, ego, moved, taken, seen, mounted, lenses=lenses.at(rig.cameras, stamps))
        trajectory.forget_before(frame_set.stamp_ns - 2_000_000_000)

    with flow.closed(source):
        for item in source:
            if isinstance(item, EgoPose):
                if trajectory.add(item):
                    poses.append(item)
                log_ns = None
            elif isinstance(item, CameraMount):
                mounts.add(item)
                log_ns = item.log_ns
            elif isinstance(item, CameraLens):
                lenses.add(item)
                log_ns = item.log_ns
            elif isinstance(item, LidarSweep):
                if sweeps is not None:
                    sweeps.add(item)
                log_ns = item.log_ns
            else:
                new = (
                    synchronizer.push_trigger(item) if isinstance(item, Trigger) else synchronizer.push(item)
                )
                waiting.extend(new)
                waiting_bytes += sum(frame_set.size_bytes for frame_set in new)
                log_ns = item.log_ns
            newest_ns = log_ns if log_ns is not None else newest_ns
            while waiting:
                needed = _needed_ns(waiting[0])
                with_sweep = needed if sweeps is None else sweeps.wants_pose_of(waiting[0], needed)
                known = trajectory.newest_ns is not None and trajectory.newest_ns >= with_sweep
                known = known and (sweeps is None or sweeps.has_passed(needed))
                if wait_for_lenses:
                    known = known and newest_ns is not None and newest_ns >= _lens_told_ns(waiting[0])
                given_up = log_ns is not None and log_ns >= needed + patience_ns
                if not (known or given_up or waiting_bytes > limit_bytes):
                    break
                yield from release()
    waiting.extend(synchronizer.flush())
    while waiting:
        yield from release()
    if travel is not None:
        synchronizer.give_back(travel.unused)
    tail.extend(poses)


class SweepWindow:
    """The lidar's last sweeps, for the timesteps that still wait.

    Args:
        tolerance_ns: a sweep belongs to a frame where their stamps are so near.
    """

    def __init__(self, tolerance_ns: int) -> None:
        self._tolerance_ns = tolerance_ns
        self._sweeps: deque[LidarSweep] = deque(maxlen=_SWEEPS_KEPT)
        self._newest_ns: int | None = None

    def add(self, sweep: LidarSweep) -> None:
        """Take the next sweep of the log."""
        self._sweeps.append(sweep)
        self._newest_ns = max(sweep.stamp_ns, sweep.stamp_ns if self._newest_ns is None else self._newest_ns)

    def has_passed(self, stamp_ns: int) -> bool:
        """Whether a sweep of that time or a later one is there, so that the nearest one is known."""
        return self._newest_ns is not None and self._newest_ns >= stamp_ns

    def wants_pose_of(self, frame_set: FrameSet, needed_ns: int) -> int:
        """The last time at which the vehicle's pose is asked for, the sweeps of this timestep included."""
        found = (self._nearest(frame.stamp_ns) for frame in frame_set.frames.values())
        return max([needed_ns, *(sweep.stamp_ns for sweep in found if sweep is not None)])

    def nearest(
        self, stamp_ns: int, frame_stamps_ns: Mapping[str, int], trajectory: Trajectory
    ) -> dict[str, MovedSweep]:
        """By camera, where one is within the tolerance: the sweep, and where the vehicle was at it."""
        out: dict[str, MovedSweep] = {}
        for name, at_ns in sorted(frame_stamps_ns.items()):
            sweep = self._nearest(at_ns)
            if sweep is not None:
                motion = trajectory.motion(stamp_ns, sweep.stamp_ns)
                apart_s = (at_ns - sweep.stamp_ns) * 1e-9
                out[name] = MovedSweep(
                    sweep, SE3.identity() if motion is None else motion, apart_s, motion is not None
                )
        return out

    def _nearest(self, stamp_ns: int) -> LidarSweep | None:
        """The nearest sweep within the tolerance; of two that are equally near the earlier."""
        best = min(self._sweeps, key=lambda s: (abs(s.stamp_ns - stamp_ns), s.stamp_ns), default=None)
        if best is None or abs(best.stamp_ns - stamp_ns) > self._tolerance_ns:
            return None
        return best


class Travel:
    """Chooses timesteps by how far the vehicle went: one is used where it is so far from where the last one was used.

    Where the vehicle is unknown, or its fixed frame changed, the timestep is used. The frames of the others become
    unused (``resampled``), and the timesteps that are used count from 0 without gaps.

    Args:
        min_distance_m: straight distance, metres.
    """

    def __init__(self, min_distance_m: float) -> None:
        self._min_m = min_distance_m
        self._last: EgoPose | None = None
        self._count = 0
        self._used_ns: dict[str, int] = {}
        self.unused: list[UnusedFrame] = []
        """Records of frames that no later timestep has taken along yet."""

    def choose(self, frame_set: FrameSet, ego: EgoPose | None) -> FrameSet | None:
        """The timestep as it is used; None where the vehicle is too near to the last one's place."""
        self.unused += frame_set.unused
        if ego is not None and self._last is not None and ego.frame_id == self._last.frame_id:
            way = ego.odom_SE3_base.translation_m - self._last.odom_SE3_base.translation_m
            if math.hypot(*way) < self._min_m:
                self.unused += [
                    UnusedFrame.of(frame, "resampled")
                    for name, frame in frame_set.frames.items()
                    if frame_set.status[name] != "held"
                ]
                return None
        self._last = ego if ego is not None else self._last
        status: dict[str, FrameStatus] = dict(frame_set.status)
        frames = dict(frame_set.frames)
        for name, frame in frame_set.frames.items():
            if status[name] != "held":
                self._used_ns[name] = frame.stamp_ns
            elif self._used_ns.get(name) != frame.stamp_ns:  # held from a timestep that was passed over
                status[name] = "missing"
                del frames[name]
        unused, self.unused = tuple(self.unused), []
        chosen = replace(frame_set, index=self._count, frames=frames, status=status, unused=unused)
        self._count += 1
        return chosen


def _needed_ns(frame_set: FrameSet) -> int:
    """The last time at which the vehicle's pose is asked for a timestep."""
    return max(frame_set.stamp_ns, max((f.stamp_ns for f in frame_set.frames.values()), default=0))


def _lens_told_ns(frame_set: FrameSet) -> int:
    """Log time at which the CameraInfo of each of its frames has come."""
    return max((frame.log_ns for frame in frame_set.frames.values()), default=0) + _LENS_WAIT_NS


def moved_cameras(
    rig: Rig,
    trajectory: Trajectory,
    stamp_ns: int,
    frame_stamps_ns: Mapping[str, int],
    mounts: Mapping[str, SE3] = MappingProxyType({}),
) -> dict[str, SE3]:
    """Each calibrated camera at its frame's stamp, in the base frame at `stamp_ns`.

    Where the motion is unknown the camera stays where it is mounted: as `mounts` say, else as the rig does.
    """
    out: dict[str, SE3] = {}
    motions = trajectory.motions(stamp_ns, set(frame_stamps_ns.values()) - {stamp_ns})
    for name, frame_stamp_ns in frame_stamps_ns.items():
        camera = rig.cameras.get(name)
        if camera is not None:
            motion = motions.get(frame_stamp_ns)
            mounted = mounts.get(name, camera.base_SE3_camera)
            out[name] = mounted if motion is None else motion @ mounted
    return out

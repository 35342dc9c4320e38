"""Timesteps joined with the vehicle's motion: where each camera was at its own exposure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from perception_batch import flow
from perception_batch.calibration import Rig
from perception_batch.geometry import SE3
from perception_batch.sync import Synchronizer
from perception_batch.trajectory import Trajectory
from perception_batch.types import EgoPose, EncodedFrame, FrameSet


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


def steps(
    source: Iterable[EncodedFrame | EgoPose],
    synchronizer: Synchronizer,
    rig: Rig,
    trajectory: Trajectory,
    *,
    patience_ns: int,
    limit_bytes: int,
    tail: list[EgoPose],
) -> Iterator[Step]:
    """Timesteps with ego motion: each waits until a later pose is known, or log time says none will come.

    Args:
        source: frames and poses in log order.
        synchronizer: groups the frames.
        rig: the cameras' poses on the vehicle.
        trajectory: takes the poses.
        patience_ns: log time after a frame's stamp at which no pose for it is expected any more.
        limit_bytes: most that may wait.
        tail: receives the poses after the last timestep.
    """
    waiting: deque[FrameSet] = deque()
    waiting_bytes = 0
    poses: list[EgoPose] = []

    def release() -> Step:
        nonlocal waiting_bytes, poses
        frame_set = waiting.popleft()
        waiting_bytes -= frame_set.size_bytes
        needed = _needed_ns(frame_set)
        trajectory.settle(needed)
        ego = trajectory.pose_at(frame_set.stamp_ns)
        moved = moved_cameras(
            rig, trajectory, frame_set.stamp_ns, {n: f.stamp_ns for n, f in frame_set.frames.items()}
        )
        trajectory.forget_before(frame_set.stamp_ns - 2_000_000_000)
        taken, poses = tuple(poses), []
        return Step(frame_set, ego, moved, taken)

    with flow.closed(source):
        for item in source:
            if isinstance(item, EgoPose):
                if trajectory.add(item):
                    poses.append(item)
                log_ns = None
            else:
                new = synchronizer.push(item)
                waiting.extend(new)
                waiting_bytes += sum(frame_set.size_bytes for frame_set in new)
                log_ns = item.log_ns
            while waiting:
                needed = _needed_ns(waiting[0])
                known = trajectory.newest_ns is not None and trajectory.newest_ns >= needed
                given_up = log_ns is not None and log_ns >= needed + patience_ns
                if not (known or given_up or waiting_bytes > limit_bytes):
                    break
                yield release()
    waiting.extend(synchronizer.flush())
    while waiting:
        yield release()
    tail.extend(poses)


def _needed_ns(frame_set: FrameSet) -> int:
    """The last time at which the vehicle's pose is asked for a timestep."""
    return max(frame_set.stamp_ns, max((f.stamp_ns for f in frame_set.frames.values()), default=0))


def moved_cameras(
    rig: Rig, trajectory: Trajectory, stamp_ns: int, frame_stamps_ns: Mapping[str, int]
) -> dict[str, SE3]:
    """Each calibrated camera at its frame's stamp, in the base frame at `stamp_ns`.

    Where the motion is unknown the camera stays where it is mounted.
    """
    out: dict[str, SE3] = {}
    for name, frame_stamp_ns in frame_stamps_ns.items():
        camera = rig.cameras.get(name)
        if camera is not None:
            motion = trajectory.motion(stamp_ns, frame_stamp_ns)
            out[name] = camera.base_SE3_camera if motion is None else motion @ camera.base_SE3_camera
    return out

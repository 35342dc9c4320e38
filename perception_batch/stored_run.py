"""What a finished run stored, read as its stages had it: facts of the drive, and its timesteps fused again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from perception_batch.calibration import Rig
from perception_batch.config import RunConfig
from perception_batch.ego_motion import moved_cameras
from perception_batch.objects import STEPS_AT_ONCE, Detected, ObjectMaker, make_objects
from perception_batch.trajectory import Trajectory
from perception_batch.types import EgoPose, TimestepResult
from perception_batch.write import DriveFacts, Manifest, read_ego, read_stored_timesteps


def facts_of(manifest: Manifest, rig: Rig) -> DriveFacts:
    """What the tables of a stored run need."""
    labels = {int(key): str(value) for key, value in dict(manifest.model.get("labels", {})).items()}
    first = int(manifest.log.get("first_stamp_ns", 0))
    has_ego = manifest.ego.get("source") is not None
    return DriveFacts(manifest.drive, first, labels, rig.base_frame if rig.cameras else "", has_ego)


def frame_ids_of(manifest: Manifest) -> dict[str, str]:
    """``frame_id`` of the log's images, by camera; empty for a run of a version that did not keep them."""
    stored = manifest.log.get("frame_ids")
    return {str(k): str(v) for k, v in stored.items()} if isinstance(stored, dict) else {}


def stored_results(
    directory: Path, manifest: Manifest, config: RunConfig, rig: Rig
) -> Iterator[TimestepResult]:
    """The fusion of every stored timestep, in order."""
    yield from fused_again(directory, config, rig, make_objects(config, rig, facts_of(manifest, rig).labels))


def fused_again(
    directory: Path, config: RunConfig, rig: Rig, objects: ObjectMaker
) -> Iterator[TimestepResult]:
    """The same, with the caller's own maker of objects, which then knows of ended tracks and of the ground."""
    source = _moved(directory, config, rig)
    while some := list(islice(source, STEPS_AT_ONCE)):
        yield from objects.push(some)
    yield from objects.flush()


def _moved(directory: Path, config: RunConfig, rig: Rig) -> Iterator[Detected]:
    """Every stored timestep with the vehicle's motion."""
    trajectory = Trajectory(config.read.max_pose_gap_s)
    poses: Iterator[EgoPose] = read_ego(directory)
    more = True
    for step in read_stored_timesteps(directory, lidar=config.fuse.lidar is not None):
        needed = max([step.stamp_ns, *step.frame_stamps_ns.values()])
        while more and (trajectory.newest_ns is None or trajectory.newest_ns < needed):
            pose = next(poses, None)
            more = pose is not None
            if pose is not None:
                trajectory.add(pose)
        # A pose or lens that config or rig file gives does not change: it goes over what the log says.
        cameras = rig.cameras
        mounts = {n: pose for n, pose in step.mounts.items() if n in cameras and cameras[n].pose_from_log}
        lenses = {n: lens for n, lens in step.lenses.items() if n in cameras and cameras[n].lens_from_log}
        moved = moved_cameras(rig, trajectory, step.stamp_ns, step.frame_stamps_ns, mounts)
        ego = trajectory.pose_at(step.stamp_ns)
        trajectory.forget_before(step.stamp_ns - 2_000_000_000)
        yield Detected(
            step.index,
            step.stamp_ns,
            step.status,
            step.frame_stamps_ns,
            step.detections,
            step.image_hw,
            moved,
            ego,
            step.lidar,
            mounts,
            lenses,
        )

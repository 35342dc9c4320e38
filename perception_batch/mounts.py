"""Cameras that move on the vehicle: a sprung cab, or a calibration that is corrected while the drive is recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from perception_batch.calibration import Camera
from perception_batch.geometry import SE3

_KEPT = 1024
"""Poses of one camera that are kept: 10 s at 100 Hz, more than a timestep ever waits."""


@dataclass(frozen=True, slots=True)
class CameraMount:
    """Where a camera is on the vehicle from a time on, as the log's transforms say."""

    camera: str
    """Name of the camera."""
    stamp_ns: int
    """Time of the transform, ns."""
    log_ns: int
    """When the recorder received it, ns."""
    base_SE3_camera: SE3
    """Pose of the optical frame in the base frame."""
    is_step: bool
    """A correction (of a static transform), which holds from then on; else the camera moved there gradually."""


class MountWindow:
    """The last poses of the cameras that move, by time.

    Between two poses that are near in time it interpolates, unless one is a step; else the earlier one holds until the next.

    Args:
        max_gap_ns: largest distance of two poses to interpolate between, ns.
    """

    def __init__(self, max_gap_ns: int) -> None:
        self._max_gap_ns = max_gap_ns
        self._poses: dict[str, deque[CameraMount]] = {}

    def add(self, mount: CameraMount) -> None:
        """Take the next pose; one that is not later than the last of its camera is left out."""
        poses = self._poses.setdefault(mount.camera, deque(maxlen=_KEPT))
        if not poses or mount.stamp_ns > poses[-1].stamp_ns:
            poses.append(mount)

    def at(self, cameras: Mapping[str, Camera], frame_stamps_ns: Mapping[str, int]) -> dict[str, SE3]:
        """Poses at the cameras' exposures, for those that are not where the rig has them."""
        out: dict[str, SE3] = {}
        for name, stamp_ns in sorted(frame_stamps_ns.items()):
            poses, camera = self._poses.get(name), cameras.get(name)
            if not poses or camera is None:
                continue
            pose = self._pose(poses, stamp_ns)
            if pose is not None:
                pose = pose.storable()  # what is stored must read back as the same numbers
                mounted = camera.base_SE3_camera
                same = (pose.rotation == mounted.rotation).all()
                if not (same and (pose.translation_m == mounted.translation_m).all()):
                    out[name] = pose
        return out

    def _pose(self, poses: deque[CameraMount], stamp_ns: int) -> SE3 | None:
        """The pose at a time; None before the first."""
        after: CameraMount | None = None
        for mount in reversed(poses):
            if mount.stamp_ns <= stamp_ns:
                stands = after is None or mount.is_step or after.is_step
                if stands or after is None or after.stamp_ns - mount.stamp_ns > self._max_gap_ns:
                    return mount.base_SE3_camera
                share = (stamp_ns - mount.stamp_ns) / (after.stamp_ns - mount.stamp_ns)
                return mount.base_SE3_camera.interpolate(after.base_SE3_camera, share)
            after = mount
        return None

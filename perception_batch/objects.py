"""Fusion and tracking of a drive, timestep after timestep: the loop that neither room may know of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from perception_batch.calibration import Intrinsics, Rig
from perception_batch.config import RunConfig
from perception_batch.fusion import Fuser, open_fuser
from perception_batch.geometry import SE3
from perception_batch.track import Tracker, open_tracker
from perception_batch.types import (
    Detections,
    EgoPose,
    FrameStatus,
    LidarRanges,
    TimestepResult,
    TrackSummary,
)

_NOTHING: Mapping[str, LidarRanges] = MappingProxyType({})
_FIXED: Mapping[str, SE3] = MappingProxyType({})
_AS_IN_RIG: Mapping[str, Intrinsics] = MappingProxyType({})


class ObjectMaker:
    """Makes the objects of a drive's timesteps; each comes out when the tracker's lag has passed, in order.

    What comes out is a function of what went in since the drive's first timestep, so it can be made again from
    stored detections, to the byte.
    """

    def __init__(self, fuser: Fuser, tracker: Tracker) -> None:
        self.fuser = fuser
        """What is known of the ground."""
        self._tracker = tracker

    def push(
        self,
        index: int,
        stamp_ns: int,
        status: Mapping[str, FrameStatus],
        frame_stamps_ns: Mapping[str, int],
        detections: Mapping[str, Detections],
        image_hw: Mapping[str, tuple[int, int]],
        base_now_SE3_camera: Mapping[str, SE3],
        ego: EgoPose | None,
        lidar: Mapping[str, LidarRanges] = _NOTHING,
        mounts: Mapping[str, SE3] = _FIXED,
        lenses: Mapping[str, Intrinsics] = _AS_IN_RIG,
    ) -> list[TimestepResult]:
        """Take the next timestep; arguments as in `TimestepResult` and `Fuser.fuse`."""
        fusion = self.fuser.fuse(
            detections,
            image_hw,
            base_now_SE3_camera,
            self._tracker.predictions(stamp_ns, ego),
            stamp_ns=stamp_ns,
            frame_stamps_ns=frame_stamps_ns,
            lidar=lidar,
            lenses=lenses,
        )
        return self._tracker.push(
            TimestepResult(
                index,
                stamp_ns,
                status,
                frame_stamps_ns,
                detections,
                fusion,
                ego,
                image_hw,
                lidar,
                mounts,
                lenses,
            )
        )

    def flush(self) -> list[TimestepResult]:
        """The timesteps that still wait, at the end of the drive."""
        return self._tracker.flush()

    def take_finished(self) -> list[TrackSummary]:
        """Tracks that have ended since the last call."""
        return self._tracker.take_finished()


def make_objects(config: RunConfig, rig: Rig, labels: Mapping[int, str]) -> ObjectMaker:
    """What makes the objects of a drive, from its first timestep."""
    ontology = config.build_ontology()
    fuser = open_fuser(
        rig,
        ontology,
        labels,
        config.fuse,
        detect_score=config.detect.score,
        detect_classes=config.detect.classes,
        cameras=config.cameras_by_name(),
    )
    return ObjectMaker(fuser, open_tracker(rig, ontology, config.track))

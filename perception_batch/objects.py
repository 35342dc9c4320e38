"""Fusion and tracking of a drive, timestep after timestep: the loop that neither room may know of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perception_batch.calibration import Intrinsics, Rig
from perception_batch.config import RunConfig
from perception_batch.fusion import Fuser, Seen, open_fuser
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

STEPS_AT_ONCE = 8
"""Timesteps that fusion looks at together: more would only need more memory."""


@dataclass(frozen=True, slots=True)
class Detected:
    """A timestep as fusion finds it; the fields are those of `TimestepResult` and `Seen`."""

    index: int
    stamp_ns: int
    status: Mapping[str, FrameStatus]
    frame_stamps_ns: Mapping[str, int]
    detections: Mapping[str, Detections]
    image_hw: Mapping[str, tuple[int, int]]
    base_now_SE3_camera: Mapping[str, SE3]
    ego: EgoPose | None
    lidar: Mapping[str, LidarRanges] = field(default_factory=dict)
    mounts: Mapping[str, SE3] = field(default_factory=dict)
    lenses: Mapping[str, Intrinsics] = field(default_factory=dict)


class ObjectMaker:
    """Makes the objects of a drive's timesteps; each comes out when the tracker's lag has passed, in order.

    What comes out is a function of what went in since the drive's first timestep, so it can be made again from
    stored detections, to the byte; how many timesteps went in together makes no difference.
    """

    def __init__(self, fuser: Fuser, tracker: Tracker) -> None:
        self.fuser = fuser
        """What is known of the ground."""
        self._tracker = tracker

    def push(self, steps: Sequence[Detected]) -> list[TimestepResult]:
        """Take the next timesteps: several at once cost less than one after the other."""
        seen = [
            Seen(
                step.detections,
                step.image_hw,
                step.base_now_SE3_camera,
                step.stamp_ns,
                step.frame_stamps_ns,
                step.lidar,
                step.lenses,
            )
            for step in steps
        ]
        out: list[TimestepResult] = []
        for step, join in zip(steps, self.fuser.look(seen), strict=True):
            out += self._tracker.push(
                TimestepResult(
                    step.index,
                    step.stamp_ns,
                    step.status,
                    step.frame_stamps_ns,
                    step.detections,
                    join(self._tracker.predictions(step.stamp_ns, step.ego)),
                    step.ego,
                    step.image_hw,
                    step.lidar,
                    step.mounts,
                    step.lenses,
                )
            )
        return out

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

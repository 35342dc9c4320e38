"""A log grouped into timesteps for those who look at it beside a run: nothing is detected, fused or kept."""

from __future__ import annotations

from collections.abc import Iterator

from perception_batch.calibration import Rig
from perception_batch.chain import decodable
from perception_batch.config import RunConfig
from perception_batch.drive_plan import patience_ns
from perception_batch.ego_motion import Step, steps
from perception_batch.job import OpenDrive
from perception_batch.trajectory import Trajectory


def grouped_log(opened: OpenDrive, config: RunConfig, rig: Rig | None = None) -> Iterator[Step]:
    """The timesteps of an open drive, as a run with the same settings groups them.

    Args:
        opened: the drive.
        config: the run's settings.
        rig: the cameras; None: as the drive was opened with.
    """
    return steps(
        decodable(opened.log, opened.selected, opened.span_ns, config),
        opened.synchronizer(),
        opened.rig if rig is None else rig,
        Trajectory(config.read.max_pose_gap_s),
        patience_ns=patience_ns(opened.plan, config),
        limit_bytes=round(config.sync.window_mb * 1e6),
        tail=[],
        min_distance_m=config.sync.min_distance_m,
    )

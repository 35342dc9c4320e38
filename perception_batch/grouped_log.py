"""A log grouped into timesteps for those who look at it beside a run: nothing is detected, fused or kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from perception_batch.calibration import Rig
from perception_batch.config import RunConfig
from perception_batch.drive_plan import patience_ns
from perception_batch.ego_motion import Step, steps
from perception_batch.job import OpenDrive
from perception_batch.log_pictures import decodable
from perception_batch.trajectory import Trajectory
from perception_batch.types import EncodedFrame


def grouped_log(
    opened: OpenDrive,
    config: RunConfig,
    rig: Rig | None = None,
    on_other: Callable[[EncodedFrame], None] = lambda _: None,
) -> Iterator[Step]:
    """The timesteps of an open drive, as a run with the same settings groups them.

    Args:
        opened: the drive.
        config: the run's settings.
        rig: the cameras; None: as the drive was opened with.
        on_other: hears of frames of a video that are not what their packets said (`decode.pictures`).
    """
    return steps(
        decodable(opened.log, opened.selected, opened.span_ns, config, on_other=on_other),
        opened.synchronizer(),
        opened.rig if rig is None else rig,
        Trajectory(config.read.max_pose_gap_s),
        patience_ns=patience_ns(opened.plan, config),
        limit_bytes=round(config.sync.window_mb * 1e6),
        tail=[],
        min_distance_m=config.sync.min_distance_m,
    )

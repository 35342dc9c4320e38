"""The stages of a run and how they are joined, from the log to what the writers take.

::

    read -> sync -> | decode -> | detect -> | fuse -> track -> draw -> | write
                    one thread  N threads   one thread        the caller's

Every bar is a bounded queue of `flow`. Without threads the same generators run in one, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from perception_batch import flow
from perception_batch.calibration import Rig
from perception_batch.config import RunConfig
from perception_batch.detect import Detector
from perception_batch.detected_steps import detected, detected_steps
from perception_batch.ego_motion import SweepWindow, steps
from perception_batch.fused_steps import Draw, FusedStep, fused_steps
from perception_batch.log_pictures import decodable
from perception_batch.objects import ObjectMaker
from perception_batch.resume import RunningSegments
from perception_batch.shots import Preparer, shots
from perception_batch.stages import Threads
from perception_batch.sync import Synchronizer
from perception_batch.trajectory import Trajectory
from perception_batch.types import EgoPose

if TYPE_CHECKING:
    from perception_batch.read import FrameSource


def chain(
    source: FrameSource,
    selected: tuple[str, ...],
    span_ns: tuple[int | None, int | None],
    *,
    config: RunConfig,
    synchronizer: Synchronizer,
    rig: Rig,
    trajectory: Trajectory,
    detectors: Sequence[Detector],
    objects: ObjectMaker,
    preparer: Preparer,
    draw: Draw | None,
    threads: Threads,
    segments: RunningSegments,
    patience_ns: int,
    tail: list[EgoPose],
    lanes: int = 1,
) -> Iterator[FusedStep]:
    """The whole chain of one drive, from the log to what the writers take."""
    profile, batch = threads.profile, detectors[0].info.batch_size * len(detectors)
    queue_bytes = round(config.decode.queue_mb * 1e6)
    window = None
    if source.lidar_topic is not None:
        window = SweepWindow(round(config.fuse.lidar_tolerance_ms * 1e6))
    grouped = flow.timed(
        steps(
            decodable(
                source,
                selected,
                span_ns,
                config,
                sweeps=window is not None,
                is_stored=lambda: segments.stored_video(preparer.wants_tile),
                on_other=segments.note_video,
            ),
            synchronizer,
            rig,
            trajectory,
            patience_ns=patience_ns,
            limit_bytes=round(config.sync.window_mb * 1e6),
            tail=tail,
            min_distance_m=config.sync.min_distance_m,
            sweeps=window,
            wait_for_lenses=source.calibration.follows_lenses,
        ),
        profile.stage("read"),
    )
    read = threads.ahead(
        grouped,
        "read",
        depth=16,
        limit_bytes=queue_bytes,
        size_of=lambda step: step.size_bytes,
    )
    ready = threads.ahead(
        threads.map(preparer, shots(segments.recalled(read)), "decode"),
        "decode",
        depth=2 * batch,
        limit_bytes=queue_bytes,
        size_of=lambda item: item.size_bytes,
    )
    boxes = detected(ready, detectors, config, segments.segment_of, profile, lanes)
    found = threads.ahead(
        segments.landing(detected_steps(boxes, tiles=draw is not None)),
        "detect",
        depth=max(4, -(-2 * batch // max(len(selected), 1))),  # timesteps
        limit_bytes=queue_bytes,
        size_of=lambda item: item.size_bytes,
    )
    return threads.ahead(
        fused_steps(found, objects, draw, profile, rig),
        "fuse",
        depth=4,
        limit_bytes=queue_bytes,
        size_of=lambda item: 0 if item.picture is None else item.picture.nbytes,
    )

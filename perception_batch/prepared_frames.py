"""A drive's frames as the detector wants them, without detecting: for those who measure and compare detectors."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence

from perception_batch import flow
from perception_batch.config import RunConfig
from perception_batch.detect import Detector
from perception_batch.detected_steps import detected
from perception_batch.ego_motion import Step
from perception_batch.grouped_log import grouped_log
from perception_batch.job import OpenDrive
from perception_batch.looks import Crops
from perception_batch.shots import Preparer, ReadyShot, shots
from perception_batch.stages import Threads
from perception_batch.types import Detections


def prepared_frames(
    opened: OpenDrive,
    config: RunConfig,
    detector: Detector,
    threads: Threads,
    *,
    timesteps: int | None = None,
) -> Generator[ReadyShot, None, None]:
    """Read, group, decode and letterbox, as a run does and by as many threads.

    Args:
        opened: the drive.
        config: the run's settings.
        detector: says what its input looks like.
        threads: who works.
        timesteps: only about so many, evenly over the drive; None: all.
    """
    grouped = grouped_log(opened, config)
    chosen: Iterator[Step] = grouped
    if timesteps is not None:
        total = max((opened.log.cameras[name].count for name in opened.selected), default=0)
        chosen = _evenly(grouped, max(total, 1), max(timesteps, 1))
    ahead = threads.ahead(
        chosen,
        "read",
        depth=64,
        limit_bytes=round(config.decode.queue_mb * 1e6),
        size_of=lambda step: step.frame_set.size_bytes,
    )
    images = shots(ahead)
    crops = Crops.of(detector.info, opened.rig)
    prepared = threads.map(Preparer(config, detector.view, threads.profile, crops), images, "decode")
    with flow.closed(prepared), flow.closed(images):
        yield from prepared


def _evenly(source: Iterable[Step], total: int, wanted: int) -> Iterator[Step]:
    """About `wanted` of `total` items; the last ones, where there are more than `total`, are left out."""
    with flow.closed(source):
        for number, step in enumerate(source):
            if number >= total:
                return
            if number == 0 or number * wanted // total != (number - 1) * wanted // total:
                yield step


def boxes_of(
    images: Iterable[ReadyShot], detectors: Sequence[Detector], config: RunConfig, threads: Threads
) -> Iterator[tuple[ReadyShot, Detections | None]]:
    """Boxes of prepared frames by the same code as in a run; None for what cannot be decoded."""
    length_ns = round(config.runs.segment_s * 1e9)
    return detected(iter(images), detectors, config, lambda stamp_ns: stamp_ns // length_ns, threads.profile)

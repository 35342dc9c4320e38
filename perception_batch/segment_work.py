"""One segment of a drive detected by itself, by whatever engine: a task is log, segment and frozen plan, its result a file.

Three steps make a drive: `prepare_drive` freezes the plan and says which segments are missing, `detect_segment` makes one of
them (in any process, in any order), and the ordinary run finds everything landed, fuses and draws.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from perception_batch import flow
from perception_batch.batch_choice import settle_batch_size
from perception_batch.config import RunConfig
from perception_batch.detect import Detector
from perception_batch.detected_steps import DetectedStep, detected, detected_steps
from perception_batch.devices import KeptDetector, each_device
from perception_batch.drive_output import attached_output, delivered_segment
from perception_batch.drive_plan import frozen_plan, sync_plan
from perception_batch.ego_motion import Step
from perception_batch.errors import LogError, without_secrets
from perception_batch.grouped_log import grouped_log
from perception_batch.job import Job, OpenDrive, existing_run, identity, open_drive, stored_identity
from perception_batch.looks import Crops
from perception_batch.manifest_sections import model_section, versions
from perception_batch.outputs import check_outputs
from perception_batch.resume import VIDEO_AS_TOLD, detected_timestep
from perception_batch.runs import (
    Identity,
    Made,
    SegmentContent,
    SegmentPlan,
    SegmentStore,
    difference,
)
from perception_batch.shared_machine import decode_workers
from perception_batch.shots import Preparer, shots
from perception_batch.stages import Profile, Threads
from perception_batch.start_up import one_opencv_thread, scheduled_as_batch
from perception_batch.types import EncodedFrame
from perception_batch.write import Manifest, clear_video_parts, write_manifest

MOST_SEGMENTS = 20_000
"""Two weeks of minutes; a log that says it is longer has a stamp in the far future, and is worked off in one piece."""


@dataclass(frozen=True, slots=True)
class PreparedDrive:
    """What is to be done for one drive."""

    job: Job
    """For the run that fuses and draws."""
    plan: str = ""
    """The frozen plan, from `SegmentPlan.to_json`; empty where the drive is worked off in one piece."""
    batch_size: int = 0
    """For all of its segments."""
    missing: tuple[int, ...] = ()
    """Segments that are still to be detected."""


@dataclass(frozen=True, slots=True)
class LandedSegment:
    """A segment whose file is on the disk, or at the URL."""

    path: str
    """Where."""
    images: int
    """How many images it holds."""
    wall_s: float
    """How long it took."""


def counts_from_the_start(config: RunConfig) -> bool:
    """Whether which timesteps are used depends on all before them, so that no segment can be grouped by itself."""
    return config.sync.every > 1 or config.sync.min_distance_m is not None


def prepare_drive(job: Job, kept: KeptDetector) -> PreparedDrive:
    """Look at a drive, freeze its plan, and say what is missing; call it under the drive's lock.

    A drive that is finished, that was made with other settings, or whose segments depend on each other is left to the run.

    Raises:
        PerceptionBatchError: as `pipeline.run_drive`, before anything is written.
    """
    with open_drive(job) as opened:
        check_outputs(job.config, opened.selected)
        output = attached_output(job)
        manifest = existing_run(job.directory, overwrite=job.overwrite)
        detector = kept.get()
        wanted = identity(job, opened, detector.info.sha256)
        earlier = None if job.overwrite else manifest
        if earlier is not None:
            change = difference(stored_identity(earlier), wanted)
            if change.detect or earlier.status in ("complete", "partial"):
                return PreparedDrive(job)
        if counts_from_the_start(job.config):
            return PreparedDrive(job)
        settle_batch_size(detector, job.config, opened, earlier)
        plan = frozen_plan(job, opened, wanted)
        if plan.count > MOST_SEGMENTS:
            return PreparedDrive(job)
        job.directory.mkdir(parents=True, exist_ok=True)
        write_manifest(job.directory, _unfinished(job, opened, wanted, detector))
        store = _store(job, plan, detector)
        if job.overwrite:
            store.clear()
            clear_video_parts(job.directory)
        store.begin()
        output.begin()
        missing = tuple(store.missing(store.landed()))
        # What was there is given up above; the run must find what lands from now on.
        return PreparedDrive(replace(job, overwrite=False), plan.to_json(), detector.info.batch_size, missing)


def detect_segment(
    prepared: PreparedDrive, segment: int, kept: KeptDetector, *, threads: bool = True
) -> LandedSegment:
    """Detect one segment into its file. It may be called for several at once, and again for one that has landed.

    Args:
        prepared: the drive.
        segment: its number.
        kept: the detector.
        threads: false: all in one thread.

    Raises:
        LogError: the log that this process sees is another one.
        PerceptionBatchError: as `pipeline.run_drive`.
    """
    began = time.perf_counter()
    job = prepared.job
    plan = SegmentPlan.from_json(prepared.plan, job.directory)
    with scheduled_as_batch(), one_opencv_thread(), open_drive(job) as opened:
        detector = kept.get()
        if detector.info.batch_size != prepared.batch_size:
            detector.use_batch_size(prepared.batch_size)
        wanted = identity(job, opened, detector.info.sha256)
        if wanted.fingerprint != plan.log_fingerprint:
            raise LogError(
                job.paths[0], f"is another log on {platform.node()} than where the drive was planned"
            )
        part = replace(opened, plan=sync_plan(plan), span_ns=_reading(plan, segment, opened, job.config))
        others: list[EncodedFrame] = []
        with flow.closed(source := _detected(job, part, plan, segment, detector, others, threads=threads)):
            found = [detected_timestep(item) for item in source]
        images = sum(len(step.frame_stamps_ns) for step in found)
        facts = {
            "device": detector.info.device,
            "batch_size": detector.info.batch_size,
            "images": images,
            VIDEO_AS_TOLD: all(plan.segment_of(frame.stamp_ns) != segment for frame in others),
            "host": platform.node(),
            "pid": os.getpid(),
        }
        path = _store(job, plan, detector).write(segment, SegmentContent(tuple(found)), facts)
        where = delivered_segment(job, path)
    return LandedSegment(where, images, time.perf_counter() - began)


def _reading(
    plan: SegmentPlan, segment: int, opened: OpenDrive, config: RunConfig
) -> tuple[int | None, int | None]:
    """The stamps to read: the segment's, and as much before it as decides which of its timesteps are used."""
    start, stop = plan.reading_ns(segment)
    if start is not None and config.sync.rate_hz is not None:  # the first timestep of each slot is used
        start -= round(1e9 / config.sync.rate_hz)
    low, high = opened.span_ns
    return (
        low if start is None else start if low is None else max(low, start),
        high if stop is None else stop if high is None else min(high, stop),
    )


def _detected(
    job: Job,
    part: OpenDrive,
    plan: SegmentPlan,
    segment: int,
    detector: Detector,
    others: list[EncodedFrame],
    *,
    threads: bool,
) -> Iterator[DetectedStep]:
    """The segment's timesteps with their boxes, by the stages of a run; `others` takes what `pictures` says of its frames."""
    config, info, profile = job.config, detector.info, Profile()
    preparer = Preparer(config, detector.view, profile, Crops.of(info, part.rig))
    devices = each_device(detector) if threads else each_device(detector)[:1]
    more = [device.copy() for _ in range((info.copies if threads else 1) - 1) for device in devices]
    detectors = [*devices, *more]
    stages = Threads(threads, decode_workers(config, job.decode_threads), profile)
    limit_bytes = round(config.decode.queue_mb * 1e6)
    read = stages.ahead(
        _own(grouped_log(part, config, on_other=others.append), plan, segment),
        "read",
        depth=16,
        limit_bytes=limit_bytes,
        size_of=lambda step: step.size_bytes,
    )
    ready = stages.ahead(
        stages.map(preparer, shots(read), "decode"),
        "decode",
        depth=2 * info.batch_size * len(detectors),
        limit_bytes=limit_bytes,
        size_of=lambda item: item.size_bytes,
    )
    boxes = detected(ready, detectors, config, plan.segment_of, profile, len(devices))
    try:
        with flow.closed(ready), flow.closed(boxes):
            yield from detected_steps(boxes, tiles=False)
    finally:
        for copy in more:
            copy.close()


def _own(source: Iterator[Step], plan: SegmentPlan, segment: int) -> Iterator[Step]:
    with flow.closed(source):
        for step in source:
            if plan.segment_of(step.frame_set.stamp_ns) == segment:
                yield step


def _store(job: Job, plan: SegmentPlan, detector: Detector) -> SegmentStore:
    info = detector.info
    return SegmentStore(job.directory, plan, Made(info.sha256, info.backend, info.precision))


def _unfinished(job: Job, opened: OpenDrive, wanted: Identity, detector: Detector) -> Manifest:
    """What says of the folder that it is a run that goes on."""
    info = detector.info
    return Manifest(
        drive=job.drive,
        status="unfinished",
        log={
            "paths": [without_secrets(str(path.resolve())) for path in job.paths],
            "fingerprint": wanted.fingerprint,
            "first_stamp_ns": opened.head.first_stamp_ns,
        },
        config=wanted.config,
        selection=wanted.selection,
        model=model_section(info, ()),
        versions=versions(),
        device=info.device,
        host=platform.node(),
        argv=job.argv,
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        batch_size=info.batch_size,
    )

"""One drive that is to be worked off: runs the chain, gives each timestep to the writers, counts, and says how it went."""

from __future__ import annotations

import logging
import platform
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal

from perception_batch import flow
from perception_batch.accounts import Accounts, cameras_over_limit
from perception_batch.chain import chain
from perception_batch.detect import Detector
from perception_batch.devices import each_device
from perception_batch.drawing import Drawing, draw_missing, video_parts
from perception_batch.drive_output import DriveOutput
from perception_batch.drive_plan import patience_ns
from perception_batch.errors import (
    EXIT_OK,
    EXIT_PARTIAL,
    LogError,
    PerceptionBatchError,
    WriteError,
    printable,
    without_secrets,
)
from perception_batch.fused_steps import FusedStep
from perception_batch.job import Job, OpenDrive, Outcome, Progress
from perception_batch.looks import Crops
from perception_batch.manifest_sections import (
    calibration_section,
    losses_section,
    model_section,
    rig_with_masks,
    sync_section,
    timing_section,
    versions,
)
from perception_batch.memory import MemoryReturn
from perception_batch.objects import ObjectMaker, make_objects
from perception_batch.outputs import annotation_facts, make_mosaic, remove_outputs, result_writers
from perception_batch.resume import RunningSegments, open_segments
from perception_batch.runs import Content, EventLog, Identity, SegmentPlan, content_of
from perception_batch.shared_machine import decode_workers
from perception_batch.shots import Preparer
from perception_batch.signals import held
from perception_batch.stages import Profile, Threads
from perception_batch.sync import Synchronizer
from perception_batch.trajectory import Trajectory
from perception_batch.types import EgoPose, FrameRow
from perception_batch.write import (
    DriveFacts,
    EgoWriter,
    FramesWriter,
    Manifest,
    TracksWriter,
    VideoParts,
    WriterGroup,
    clear_video_parts,
    write_manifest,
    write_rig,
)

_RENEWAL_S = 15.0
"""How often others are told that this process lives; see `DriveOutput.renew`."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class DriveRun:
    """One drive being processed."""

    job: Job
    opened: OpenDrive
    detector: Detector
    wanted: Identity
    clock: float
    plan: SegmentPlan
    output: DriveOutput
    events: EventLog | None
    created: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    profile: Profile = field(default_factory=Profile)
    accounts: Accounts = field(init=False)
    input_hw: set[tuple[int, int]] = field(default_factory=set)
    startup_s: float = 0.0
    renewed_s: float = field(default_factory=time.monotonic)
    objects: ObjectMaker = field(init=False)
    preparer: Preparer = field(init=False)
    trajectory: Trajectory = field(init=False)
    synchronizer: Synchronizer = field(init=False)
    segments: RunningSegments = field(init=False)
    parts: VideoParts = field(init=False)
    content: Content | None = None

    def execute(self, progress: Progress) -> Outcome:
        """Run the chain and write everything."""
        job, opened = self.job, self.opened
        self.accounts = Accounts.of(opened.selected)
        self.objects = make_objects(job.config, opened.rig, self.detector.info.labels)
        self.trajectory = Trajectory(job.config.read.max_pose_gap_s)
        self.synchronizer = opened.synchronizer()
        crops = Crops.of(self.detector.info, opened.rig)
        self.parts = video_parts(job.directory, self.plan, self.wanted)
        wants = self.parts.wants if job.config.render.video else (lambda _: False)
        self.preparer = Preparer(job.config, self.detector.view, self.profile, crops, wants)
        self.content = content_of(job.paths) if job.content is None else job.content
        self.preparer.views.of_head(opened.head)  # a roi that does not fit is said before anything is written
        try:
            job.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"{printable(job.directory)}: cannot be made: {error.strerror}") from None
        try:
            write_manifest(job.directory, self.manifest("unfinished", None))
        except WriteError:
            with suppress(OSError):
                job.directory.rmdir()  # a folder that says nothing of itself must not stay
            raise
        remove_outputs(job.directory)  # the manifest already says that this run is unfinished
        if job.overwrite:
            clear_video_parts(job.directory)
        self.segments = open_segments(job, self.plan, self.detector.info, self.output, self.events)
        self.output.begin()
        self.startup_s = time.perf_counter() - self.clock
        progress.start(job.drive, self.expected_images())
        try:
            self.consume(progress)
        except PerceptionBatchError as error:
            self.leave("failed", error.exit_status)
            raise
        except Exception:
            self.leave("failed", 1)
            raise
        except BaseException as stop:
            self.leave("unfinished", getattr(stop, "exit_status", 130))
            raise
        finally:
            progress.stop()
        return self.finish()

    def consume(self, progress: Progress) -> None:
        """Pull the chain and give each timestep to the writers."""
        job, opened, config = self.job, self.opened, self.job.config
        facts = self.facts()
        drawing = None
        if config.render.video:
            mosaic = make_mosaic(facts, config, opened.head, opened.rig, self.preparer)
            drawing = Drawing(job.directory, mosaic, config, self.parts)
        frame_ids = {name: camera.frame_id for name, camera in opened.head.cameras.items()}
        about = annotation_facts(facts, opened.rig, config, frame_ids)
        write_rig(job.directory, rig_with_masks(opened.rig, config))
        tail: list[EgoPose] = []
        copies = self.detector.info.copies if job.threads else 1
        devices = each_device(self.detector) if job.threads else each_device(self.detector)[:1]
        more = [device.copy() for _ in range(copies - 1) for device in devices]
        detectors = [*devices, *more]
        source = chain(
            opened.log,
            opened.selected,
            opened.span_ns,
            config=config,
            synchronizer=self.synchronizer,
            rig=opened.rig,
            trajectory=self.trajectory,
            detectors=detectors,
            objects=self.objects,
            draw=None if drawing is None else drawing.draw,
            preparer=self.preparer,
            threads=Threads(job.threads, decode_workers(config, job.decode_threads), self.profile),
            segments=self.segments,
            patience_ns=patience_ns(opened.plan, config),
            tail=tail,
            lanes=len(devices),
        )
        write_stage, encode_stage = self.profile.stage("write"), self.profile.stage("encode")
        with ExitStack() as stack:
            for detector in more:
                stack.callback(detector.close)
            frames = stack.enter_context(FramesWriter(job.directory, facts))
            ego = stack.enter_context(EgoWriter(job.directory, facts))
            tracks = stack.enter_context(TracksWriter(job.directory, facts))
            results = stack.enter_context(
                WriterGroup(result_writers(job.directory, facts, config, annotations=about))
            )
            if drawing is not None:
                stack.enter_context(drawing.videos)
            stack.enter_context(flow.closed(source))  # last in, first out: threads end before files close
            memory = MemoryReturn()
            for item in source:
                memory.step()
                self.renew_lock()
                with held():
                    with write_stage.measure():
                        results.write(item.result)
                        frames.write(item.rows)
                        ego.write(item.poses)
                        tracks.write(item.tracks)
                        self.count(item)
                    if drawing is not None:
                        with encode_stage.measure():
                            drawing.write(item.result, item.picture)
                progress.advance(len(item.result.frame_stamps_ns))
            rest = [FrameRow.of_unused(frame) for frame in self.synchronizer.take_unused()]
            frames.write(rest)
            self.accounts.add_rows(rest)
            ego.write(tail)
        if drawing is not None and drawing.videos.missing:
            workers = decode_workers(config, job.decode_threads)
            unfinished = self.manifest("unfinished", None)
            draw_missing(job, unfinished, opened, workers, lambda _: self.renew_lock())

    def renew_lock(self) -> None:
        """Tell others now and then that this process lives."""
        if time.monotonic() - self.renewed_s > _RENEWAL_S:
            self.output.renew()
            self.renewed_s = time.monotonic()

    def count(self, item: FusedStep) -> None:
        """Add one timestep to the accounts."""
        self.accounts.add_rows(item.rows)
        self.accounts.add_result(item.result)
        self.accounts.tracks += len(item.tracks)
        for name, image_hw in item.result.image_hw.items():
            self.input_hw.update(view.input_hw for view in self.preparer.views.of(name, image_hw))

    def finish(self) -> Outcome:
        """Write the manifest of a run that came to its end."""
        job, accounts = self.job, self.accounts
        if not accounts.frames_in_log:
            self.leave("failed", 1)
            raise LogError(job.paths[0], "no camera frame between --start and --stop")
        absent = self.absent_by_camera()
        over = cameras_over_limit(accounts, absent, job.config.runs.loss_limit_percent, self.opened.selected)
        status = EXIT_PARTIAL if over else EXIT_OK
        manifest = self.manifest("partial" if over else "complete", status)
        write_manifest(job.directory, manifest)
        if not job.config.runs.keep_segments:
            self.segments.clear()  # the tables hold it all now
        clear_video_parts(job.directory)
        notes = [f"{printable(name)} lost {percent:.1f} % of its frames" for name, percent in over]
        notes += [*self.opened.plan.notes, *self.opened.rig.notes, *self.opened.log.ego_report.notes]
        notes += self.opened.log.calibration.notes
        if not self.opened.rig.cameras:
            notes.append("no camera is calibrated: objects are per camera and have no position")
        elif self.opened.rig.uncalibrated:
            notes += [
                f"{printable(name)} is not calibrated ({printable(why)}): its objects have no position"
                for name, why in self.opened.rig.uncalibrated.items()
            ]
        return Outcome(job.drive, job.directory, status, "ran", manifest, tuple(notes))

    def leave(self, status: Literal["failed", "unfinished"], exit_status: int) -> None:
        """Say in the manifest that the run did not come to its end; a full disk may refuse even that."""
        try:
            write_manifest(self.job.directory, self.manifest(status, exit_status))
        except (OSError, WriteError) as error:
            _log.warning("while stopping: %s", error)  # run.json still says `unfinished` from the start

    def facts(self) -> DriveFacts:
        """What all tables need."""
        head = self.opened.head
        return DriveFacts(
            self.job.drive,
            head.first_stamp_ns,
            self.detector.info.labels,
            self.opened.rig.base_frame if self.opened.rig.cameras else "",
            self.opened.log.ego_source is not None,
        )

    def expected_images(self) -> int:
        """Frames that the index promises; 0 where only a part of the log is wanted."""
        if self.opened.span_ns != (None, None):
            return 0
        return sum(self.opened.log.cameras[name].count for name in self.opened.selected)

    def absent_by_camera(self) -> dict[str, int]:
        """Frames that the log's own metadata promises and its files do not hold."""
        topics = {self.opened.log.cameras[name].topic: name for name in self.opened.selected}
        absent: dict[str, int] = {}
        for loss in self.opened.log.losses:
            if loss.topic in topics and loss.count > 0:
                absent[topics[loss.topic]] = absent.get(topics[loss.topic], 0) + loss.count
        return absent

    def manifest(self, status: str, exit_status: int | None) -> Manifest:
        """``run.json`` as of now."""
        job, opened, info = self.job, self.opened, self.detector.info
        done = exit_status is not None
        wall = time.perf_counter() - self.clock
        used, last_ns = self.accounts.total("used"), self.accounts.last_stamp_ns
        recalled = self.segments.images_recalled if done else 0
        start_ns, stop_ns = opened.span_ns
        return Manifest(
            drive=job.drive,
            status=status,  # type: ignore[arg-type]
            log={
                "paths": [without_secrets(str(path.resolve())) for path in job.paths],
                "fingerprint": self.wanted.fingerprint,
                "start_ns": opened.head.first_stamp_ns if start_ns is None else start_ns,
                "stop_ns": last_ns + 1 if stop_ns is None and last_ns is not None else stop_ns,
                "first_stamp_ns": opened.head.first_stamp_ns,
                "content": "" if self.content is None else self.content.fingerprint,
                "size_bytes": 0 if self.content is None else self.content.size_bytes,
                "frame_ids": {name: camera.frame_id for name, camera in opened.head.cameras.items()},
            },
            config=self.wanted.config,
            selection=self.wanted.selection,
            model=model_section(info, self.input_hw),
            versions=versions(),
            device=info.device,
            host=platform.node(),
            argv=job.argv,
            created_utc=self.created,
            finished_utc=datetime.now(timezone.utc).isoformat(timespec="seconds") if done else None,
            exit_status=exit_status,
            batch_size=info.batch_size,
            counts=self.accounts.counts(),
            sync=sync_section(opened, self.accounts, self.synchronizer.late_triggers),
            calibration=calibration_section(opened.rig, self.objects.fuser, opened.log.calibration.notes),
            ego={
                **opened.log.ego_report.to_dict(),
                "poses_refused": opened.log.ego_dropped + self.trajectory.refused,
            },
            timing=timing_section(self.profile, wall, self.startup_s, max(0, used - recalled) if done else 0),
            losses=losses_section(opened.log, self.accounts),
        )

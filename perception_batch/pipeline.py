"""One drive: opens the rooms, runs the chain, closes the rooms, counts, and says how it went."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from perception_batch import __version__, flow
from perception_batch.accounts import Accounts, cameras_over_limit
from perception_batch.calibration import Rig
from perception_batch.chain import FusedStep, Preparer, Profile, Threads, chain
from perception_batch.config import RunConfig
from perception_batch.detect import Detector, open_detector
from perception_batch.errors import (
    EXIT_OK,
    EXIT_PARTIAL,
    ConfigError,
    LogError,
    PerceptionBatchError,
    WriteError,
    printable,
)
from perception_batch.fuse import Fuser, open_fuser
from perception_batch.read import DriveLog, Head, open_log
from perception_batch.render import USUAL_ASPECT, Mosaic, make_layout, view_aspect
from perception_batch.runs import Difference, Identity, difference
from perception_batch.sync import Synchronizer, SyncPlan, plan_sync
from perception_batch.types import EgoPose, FrameRow
from perception_batch.write import (
    DriveFacts,
    EgoWriter,
    FramesWriter,
    JsonLinesWriter,
    Manifest,
    ResultTableWriter,
    VideoWriter,
    Writer,
    WriterGroup,
    read_manifest,
    write_manifest,
    write_no_tracks,
    write_rig,
)

VIDEO_NAME = "annotated.mp4"
OWN_FILES = [
    "detections.parquet",
    "timesteps.parquet",
    "objects.parquet",
    "observations.parquet",
    "tracks.parquet",
    "frames.parquet",
    "ego.parquet",
    "rig.json",
    "timesteps.jsonl",
    "timesteps.jsonl.zst",
    "annotated.mp4",
    "run.json",
]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One drive to process."""

    drive: str
    """Its name; the output is ``out/drive``."""
    paths: tuple[Path, ...]
    """The log."""
    out: Path
    """Where the drive's folder goes."""
    config: RunConfig
    """Settings."""
    cameras: tuple[str, ...] | None = None
    """Only these; None: all that are enabled."""
    start: str | None = None
    """First time used (see `parse_time`)."""
    stop: str | None = None
    """First time not used any more."""
    rig_file: Path | None = None
    """Calibration that wins over the log's."""
    overwrite: bool = False
    """Replace what an earlier run left."""
    threads: bool = True
    """False: everything in one thread, with the same result."""
    argv: tuple[str, ...] = ()
    """The command, for the manifest."""

    @property
    def directory(self) -> Path:
        """Where this drive's results go."""
        return self.out / self.drive


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one drive went."""

    drive: str
    """Its name."""
    directory: Path
    """Where its results are."""
    exit_status: int
    """0, or 3 where a camera lost more than the limit."""
    action: Literal["ran", "skipped", "redid"]
    """What was done."""
    manifest: Manifest
    """What ``run.json`` says."""
    notes: tuple[str, ...] = ()
    """What the user should know, one line each."""


class Progress:
    """Hears of each timestep that is written; this one does nothing."""

    def start(self, drive: str, images: int) -> None:
        """A drive begins; `images` is the expected number, 0 where unknown."""

    def advance(self, images: int) -> None:
        """So many images more are done."""

    def stop(self) -> None:
        """The drive ended."""


@dataclass(frozen=True, slots=True)
class OpenDrive:
    """A log that was looked at: all that is decided before the first pixel."""

    log: DriveLog
    selected: tuple[str, ...]
    head: Head
    rig: Rig
    plan: SyncPlan
    span_ns: tuple[int | None, int | None]


@contextmanager
def open_drive(job: Job) -> Iterator[OpenDrive]:
    """Open the log of a drive, look at its head, and plan.

    Raises:
        LogError: nothing readable, or no camera.
        ConfigError, CalibrationError, SyncError: settings that do not fit the log.
    """
    config = job.config
    with open_log(job.paths, config.read, config.cameras) as log:
        selected = log.select(job.cameras)
        head = log.head(selected)
        rig = log.rig(selected, job.rig_file, config.fuse.base_frame)
        samples = {name: head.cameras[name].stamps_ns for name in selected}
        if not any(samples.values()):
            raise LogError(
                job.paths[0], "no camera frame with a plausible stamp in the first seconds of the log"
            )
        plan = plan_sync(samples, config.sync, selected)
        span = (
            None if job.start is None else parse_time(job.start, head.first_stamp_ns, "--start"),
            None if job.stop is None else parse_time(job.stop, head.first_stamp_ns, "--stop"),
        )
        if span[0] is not None and span[1] is not None and span[0] >= span[1]:
            raise ConfigError(f"--start {job.start} is not before --stop {job.stop}")
        yield OpenDrive(log, selected, head, rig, plan, span)


def parse_time(text: str, first_stamp_ns: int, option: str) -> int:
    """A time as users write it, as ns: seconds from the first stamp, ISO-8601 UTC, or ns as an integer.

    Raises:
        ConfigError: it is none of these.
    """
    word = text.strip()
    digits = word.lstrip("+-")
    if digits.isdigit() and len(digits) >= 13:  # as seconds that would be 300,000 years
        return int(word)
    with suppress(ValueError):
        seconds = float(word)
        if math.isfinite(seconds):
            return first_stamp_ns + round(seconds * 1e9)
    with suppress(ValueError):
        at = datetime.fromisoformat(word.replace("Z", "+00:00"))
        at = at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)
        whole = at - datetime(1970, 1, 1, tzinfo=timezone.utc)
        return (whole.days * 86_400 + whole.seconds) * 1_000_000_000 + whole.microseconds * 1000
    raise ConfigError(
        f"{option} {printable(text)!r}: expected seconds from the first camera stamp, an ISO-8601 UTC time, "
        "or integer nanoseconds"
    )


def identity(job: Job, opened: OpenDrive, model_sha256: str) -> Identity:
    """What decides the detections of this job."""
    rig_hash = hashlib.sha256(job.rig_file.read_bytes()).hexdigest() if job.rig_file else None
    return Identity(
        opened.log.fingerprint(),
        model_sha256,
        job.config.model_dump(mode="json"),
        {
            "cameras": list(opened.selected) if job.cameras is not None else None,
            "start": opened.span_ns[0],
            "stop": opened.span_ns[1],
            "rig": rig_hash,
        },
    )


def stored_identity(manifest: Manifest) -> Identity:
    """What an existing output was made of."""
    return Identity(
        str(manifest.log.get("fingerprint", "")),
        str(manifest.model.get("sha256", "")),
        manifest.config,
        manifest.selection,
    )


def existing_run(directory: Path) -> Manifest | None:
    """The manifest of an output; None where there is none yet.

    Raises:
        WriteError: the folder holds something that is no run.
    """
    if not directory.exists():
        return None
    try:
        return read_manifest(directory)
    except FileNotFoundError:
        if any(directory.iterdir()):
            raise WriteError(
                f"{printable(directory)} exists and is no run of this program; choose another --out"
            ) from None
        return None
    except NotADirectoryError:
        raise WriteError(f"{printable(directory)} is a file; choose another --out") from None


def run_drive(
    job: Job,
    progress: Progress | None = None,
    redo: Callable[[Job, OpenDrive, Manifest, Difference], Outcome] | None = None,
) -> Outcome:
    """Process one drive.

    Args:
        job: what to do.
        progress: hears of each timestep.
        redo: does the cheap stages again where only they changed (`replay.redo`).

    Raises:
        PerceptionBatchError: any of the tree; the output then says ``failed`` or ``unfinished``.
    """
    clock = time.perf_counter()
    with open_drive(job) as opened, ExitStack() as stack:
        manifest = existing_run(job.directory)
        detector = open_detector(job.config.detect)
        stack.callback(detector.close)
        wanted = identity(job, opened, detector.info.sha256)
        if manifest is not None and not job.overwrite:
            change = difference(stored_identity(manifest), wanted)
            finished = manifest.status in ("complete", "partial")
            if change.detect:
                raise WriteError(
                    f"{printable(job.directory)} was made with other settings: {', '.join(change.detect)}; give "
                    "--overwrite to replace it, or another --out"
                )
            if finished and change.is_empty:
                return Outcome(job.drive, job.directory, EXIT_OK, "skipped", manifest)
            if finished and redo is not None:
                return redo(job, opened, manifest, change)
        run = _Run(job, opened, detector, wanted, clock)
        return run.execute(progress or Progress())


@dataclass(slots=True)
class _Run:
    """One drive being processed."""

    job: Job
    opened: OpenDrive
    detector: Detector
    wanted: Identity
    clock: float
    created: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    profile: Profile = field(default_factory=Profile)
    accounts: Accounts = field(init=False)
    input_hw: set[tuple[int, int]] = field(default_factory=set)
    fuser: Fuser = field(init=False)

    def execute(self, progress: Progress) -> Outcome:
        """Run the chain and write everything."""
        job, opened = self.job, self.opened
        self.accounts = Accounts.of(opened.selected)
        self.fuser = make_fuser(job.config, opened.rig, self.detector.info.labels)
        try:
            job.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"{printable(job.directory)}: cannot be made: {error.strerror}") from None
        write_manifest(job.directory, self.manifest("unfinished", None))
        for name in OWN_FILES:  # of an earlier run; the manifest already says that this one is unfinished
            (job.directory / name).unlink(missing_ok=True)
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
        preparer = Preparer(config, self.detector.view, self.profile)
        mosaic = (
            make_mosaic(facts, config, opened.head, opened.rig, preparer) if config.render.video else None
        )
        write_rig(job.directory, rig_with_masks(opened.rig, config))
        write_no_tracks(job.directory)
        tail: list[EgoPose] = []
        synchronizer = Synchronizer(opened.plan, config.sync, *opened.span_ns)
        source = chain(
            opened.log,
            opened.selected,
            opened.span_ns,
            config=config,
            synchronizer=synchronizer,
            rig=opened.rig,
            detector=self.detector,
            fuser=self.fuser,
            draw=None if mosaic is None else mosaic.draw,
            preparer=preparer,
            threads=Threads(job.threads, decode_workers(config), self.profile),
            origin_ns=opened.head.first_stamp_ns,
            patience_ns=patience_ns(opened.plan, config),
            tail=tail,
        )
        write_stage, encode_stage = self.profile.stage("write"), self.profile.stage("encode")
        with ExitStack() as stack:
            frames = stack.enter_context(FramesWriter(job.directory, facts))
            ego = stack.enter_context(EgoWriter(job.directory, facts))
            results = stack.enter_context(WriterGroup(result_writers(job.directory, facts, config)))
            video = None
            if mosaic is not None:
                video = stack.enter_context(
                    VideoWriter(job.directory / VIDEO_NAME, mosaic.size_wh, config.render)
                )
            stack.enter_context(flow.closed(source))  # last in, first out: threads end before files close
            for item in source:
                with write_stage.measure():
                    results.write(item.result)
                    frames.write(item.rows)
                    ego.write(item.poses)
                    self.count(item, preparer)
                if video is not None and item.picture is not None:
                    with encode_stage.measure():
                        video.write(item.result.stamp_ns, item.picture)
                progress.advance(len(item.result.frame_stamps_ns))
            rest = [FrameRow.of_unused(frame) for frame in synchronizer.take_unused()]
            frames.write(rest)
            self.accounts.add_rows(rest)
            ego.write(tail)

    def count(self, item: FusedStep, preparer: Preparer) -> None:
        """Add one timestep to the accounts."""
        self.accounts.add_rows(item.rows)
        self.accounts.add_result(item.result)
        for name, image_hw in item.result.image_hw.items():
            self.input_hw.add(preparer.view(name, image_hw).input_hw)

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
        notes = [f"{printable(name)} lost {percent:.1f} % of its frames" for name, percent in over]
        notes += [*self.opened.plan.notes, *self.opened.rig.notes]
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
        used = self.accounts.total("used")
        losses = [
            {
                "topic": x.topic,
                "start_ns": x.start_ns,
                "stop_ns": x.stop_ns,
                "count": x.count,
                "reason": x.reason,
            }
            for x in opened.log.losses
        ]
        losses += [
            {
                "topic": opened.log.cameras[camera].topic,
                "start_ns": first,
                "stop_ns": last + 1,
                "count": count,
                "reason": reason,
            }
            for camera, reason, count, (first, last) in self.accounts.undecodable()
        ]
        return Manifest(
            drive=job.drive,
            status=status,  # type: ignore[arg-type]
            log={
                "paths": [str(path.resolve()) for path in job.paths],
                "fingerprint": self.wanted.fingerprint,
                "start_ns": opened.span_ns[0]
                if opened.span_ns[0] is not None
                else opened.head.first_stamp_ns,
                "stop_ns": opened.span_ns[1],
                "first_stamp_ns": opened.head.first_stamp_ns,
            },
            config=self.wanted.config,
            selection=self.wanted.selection,
            model={
                "path": str(info.path),
                "sha256": info.sha256,
                "backend": info.backend,
                "precision": info.precision,
                "input_hw": sorted(list(hw) for hw in self.input_hw),
                "labels": info.labels,
                "stride": info.stride,
                "family": info.family,
            },
            versions=_versions(),
            device=info.device,
            host=platform.node(),
            argv=job.argv,
            created_utc=self.created,
            finished_utc=utc_now() if done else None,
            exit_status=exit_status,
            batch_size=info.batch_size,
            counts=self.accounts.counts(),
            sync=sync_section(opened.plan, opened.head, self.accounts, job.config),
            calibration=calibration_section(opened.rig, self.fuser),
            ego={"source": opened.log.ego_source},
            timing={
                "wall_s": round(wall, 3),
                "images_per_s": round(used / wall, 3) if done and wall > 0 else None,
                "stages": {
                    s.name: {"busy_s": round(s.busy_s, 3), "items": s.items}
                    for s in self.profile.stages.values()
                },
                "waits": {
                    q.name: {
                        "put_s": round(q.put_wait_s, 3),
                        "get_s": round(q.get_wait_s, 3),
                        "peak_bytes": q.peak_bytes,
                    }
                    for q in self.profile.queues.values()
                },
            },
            losses=losses,
        )


def decode_workers(config: RunConfig) -> int:
    """Threads that decode: as configured, else as many as there are cores."""
    workers = config.decode.workers
    return len(os.sched_getaffinity(0)) if workers == "auto" else workers


def patience_ns(plan: SyncPlan, config: RunConfig) -> int:
    """Log time after a frame's stamp at which no pose for it is expected any more, ns."""
    return plan.latency_ns + round(config.fuse.max_pose_gap_s * 1e9) + 200_000_000


def make_fuser(config: RunConfig, rig: Rig, labels: Mapping[int, str]) -> Fuser:
    """The fuser of a drive, from its first timestep."""
    return open_fuser(
        rig,
        config.build_ontology(),
        labels,
        config.fuse,
        detect_score=config.detect.score,
        detect_classes=config.detect.classes,
        cameras=config.cameras_by_name(),
    )


def result_writers(
    directory: Path, facts: DriveFacts, config: RunConfig, *, detection: bool = True
) -> list[Callable[[], Writer]]:
    """What opens the writers of results: detection's two tables (unless stored already), fusion's two, JSON."""
    names = (*(("detections", "timesteps") if detection else ()), "objects", "observations")
    openers: list[Callable[[], Writer]] = [
        partial(ResultTableWriter, directory, facts, name) for name in names
    ]
    form = config.write.timesteps
    if form != "none":
        openers.append(partial(JsonLinesWriter, directory, facts, form))
    return openers


def make_mosaic(facts: DriveFacts, config: RunConfig, head: Head, rig: Rig, preparer: Preparer) -> Mosaic:
    """What draws the timesteps of a drive, all in one size."""
    aspects: dict[str, float] = {}
    for name, camera in head.cameras.items():
        known = camera.height_px > 0 and camera.width_px > 0
        aspects[name] = (
            view_aspect(preparer.view(name, (camera.height_px, camera.width_px))) if known else USUAL_ASPECT
        )
    layout = make_layout(aspects, rig, width_px=config.render.width_px, bird_eye=config.render.bird_eye)
    return Mosaic(
        layout,
        rig,
        drive=facts.drive,
        first_stamp_ns=facts.first_stamp_ns,
        labels=facts.labels,
        range_m=config.render.bird_eye_range_m,
    )


def rig_with_masks(rig: Rig, config: RunConfig) -> dict[str, Any]:
    """``rig.json``: the rig, and the masks of the config."""
    out = rig.to_dict()
    for name, camera in out["cameras"].items():
        camera["mask"] = [[list(point) for point in polygon] for polygon in config.camera(name).mask]
    return out


def sync_section(plan: SyncPlan, head: Head, accounts: Accounts, config: RunConfig) -> dict[str, Any]:
    """``sync`` of ``run.json``."""
    return {
        "anchor": config.sync.anchor,
        "reference": plan.reference,
        "tolerance_ns": plan.tolerance_ns,
        "spread_ns": accounts.spread(),
        "cameras": {
            name: {
                "clock": head.cameras[name].clock,
                "skew_ns": head.cameras[name].skew_ns,
                "period_ns": plan.period_ns[name],
                "estimated_offset_ns": plan.offset_ns[name],
                "jitter_ns": plan.jitter_ns[name],
                "coverage": accounts.coverage(name),
            }
            for name in plan.cameras
        },
    }


def calibration_section(rig: Rig, fuser: Fuser) -> dict[str, Any]:
    """``calibration`` of ``run.json``."""
    sources = sorted({camera.source for camera in rig.cameras.values()})
    ground = fuser.ground
    return {
        "source": ", ".join(sources) if sources else None,
        "base_frame": rig.base_frame if rig.cameras else None,
        "cameras": sorted(rig.cameras),
        "uncalibrated": dict(rig.uncalibrated),
        "ground_z_m": ground.z_m if rig.cameras else None,
        "ground_source": ground.source if rig.cameras else None,
        "notes": list(rig.notes),
    }


def utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def _versions() -> dict[str, str]:
    found = {"perception_batch": __version__, "python": platform.python_version()}
    for name in ("numpy", "opencv-python", "torch", "torchvision", "ultralytics", "rosbags", "av", "pyarrow"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found

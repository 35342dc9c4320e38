"""One drive to process: what was asked, what its log offers, and what exists of it already."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from perception_batch.atomic import PARTIAL_SUFFIX
from perception_batch.calibration import Rig
from perception_batch.config import RunConfig, SyncConfig
from perception_batch.errors import ConfigError, LogError, WriteError, printable
from perception_batch.read import DriveLog, Head, open_log, rig_file_sha256
from perception_batch.runs import Content, Identity, OutputUrl
from perception_batch.sync import Synchronizer, SyncPlan, check_trigger_topic, plan_sync, read_events
from perception_batch.time_text import parse_time
from perception_batch.write import Manifest, read_manifest

_HALF_MANIFEST = "run.json" + PARTIAL_SUFFIX
"""What a run leaves that is killed in its first moment."""


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
    events: Path | None = None
    """A table of the stretches that are wanted, see `read_events`; None: everything."""
    ranges_ns: tuple[tuple[int, int], ...] | None = None
    """The same as half-open ranges of stamps, sorted and disjoint; `events` goes before it."""
    content: Content | None = None
    """The log's files from outside, where they were looked at already."""
    decode_threads: int | None = None
    """What ``decode.workers: auto`` is where several drives share the machine; None: as many as there are cores."""

    url: OutputUrl | None = None
    """Where finished files are put; `out` is the folder to work in then. None: they stay in `out`."""

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
    place: str = ""
    """The drive's URL, for people; empty where the results are in `directory`."""
    files: tuple[str, ...] = ()
    """What is at the URL."""

    @property
    def where(self) -> str:
        """Where the results are."""
        return self.place or str(self.directory)


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
    settings: SyncConfig
    trigger_topic: str | None
    """The topic that makes the timesteps of anchor ``trigger``; None with another anchor."""
    ranges_ns: tuple[tuple[int, int], ...] | None
    """Half-open ranges of the timesteps that are wanted; None: all."""

    def synchronizer(self, plan: SyncPlan | None = None) -> Synchronizer:
        """A fresh one for this drive, by its own plan or another."""
        return Synchronizer(plan or self.plan, self.settings, *self.span_ns, ranges=self.ranges_ns)


@contextmanager
def open_drive(job: Job) -> Iterator[OpenDrive]:
    """Open the log of a drive, look at its head, and plan.

    Raises:
        LogError: nothing readable, or no camera.
        ConfigError, CalibrationError, SyncError: settings that do not fit the log.
    """
    config = job.config
    trigger_topic = config.sync.trigger_topic if config.sync.anchor == "trigger" else None
    with open_log(
        job.paths, config.read, config.cameras, trigger_topic=trigger_topic, lidar=config.fuse.lidar
    ) as log:
        selected = log.select(job.cameras)
        check_trigger_topic(config.sync, [topic.name for topic in log.topics])
        head = log.head(selected)
        rig = log.rig(selected, job.rig_file, config.fuse.base_frame)
        samples = {name: head.cameras[name].stamps_ns for name in selected}
        if not any(samples.values()):
            raise LogError(
                job.paths[0], "no camera frame with a plausible stamp in the first seconds of the log"
            )
        if config.sync.min_distance_m is not None and log.ego_source is None:
            raise ConfigError(
                "sync.min_distance_m needs the vehicle's motion, which this log does not tell "
                f"({log.ego_report.why or 'it has none'}); leave it out (sync.every and sync.rate_hz thin out by count "
                "and by time), or name a source with read.ego or read.trajectory"
            )
        plan = plan_sync(
            samples,
            config.sync,
            selected,
            triggers=head.triggers_ns,
            known=log.cameras.keys(),
            duration_ns=max(0, log.stop_ns - log.start_ns),
        )
        span = (
            None if job.start is None else parse_time(job.start, head.first_stamp_ns, "--start"),
            None if job.stop is None else parse_time(job.stop, head.first_stamp_ns, "--stop"),
        )
        if span[0] is not None and span[1] is not None and span[0] >= span[1]:
            raise ConfigError(f"--start {job.start} is not before --stop {job.stop}")
        ranges = job.ranges_ns
        if job.events is not None:
            ranges = tuple(read_events(job.events, head.first_stamp_ns))
        yield OpenDrive(log, selected, head, rig, plan, span, config.sync, trigger_topic, ranges)


def identity(job: Job, opened: OpenDrive, model_sha256: str) -> Identity:
    """What decides the detections of this job."""
    rig_hash = rig_file_sha256(job.rig_file) if job.rig_file else None
    path = job.config.read.trajectory
    return Identity(
        opened.log.fingerprint(),
        model_sha256,
        job.config.model_dump(mode="json"),
        {
            "cameras": list(opened.selected) if job.cameras is not None else None,
            "start": opened.span_ns[0],
            "stop": opened.span_ns[1],
            "events": None if opened.ranges_ns is None else [list(pair) for pair in opened.ranges_ns],
            "rig": rig_hash,
            "trajectory": None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest(),
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


def existing_run(directory: Path, *, overwrite: bool = False) -> Manifest | None:
    """The manifest of an output; None where there is none yet.

    Args:
        directory: ``OUT/<drive>``.
        overwrite: take one that is damaged, or of a newer version, for none.

    Raises:
        LogError: the manifest is damaged, or of a newer version.
        WriteError: the folder holds something that is no run.
    """
    if not directory.exists():
        return None
    try:
        return read_manifest(directory)
    except FileNotFoundError:
        if any(path.name != _HALF_MANIFEST for path in directory.iterdir()):
            raise WriteError(
                f"{printable(directory)} exists and is no run of this program; choose another --out"
            ) from None
        return None
    except LogError:
        if overwrite:
            return None
        raise
    except NotADirectoryError:
        raise WriteError(f"{printable(directory)} is a file; choose another --out") from None

"""Several drives one after another: a drive that fails does not stop the others."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perception_batch.config import RunConfig
from perception_batch.errors import (
    EXIT_NOTHING,
    EXIT_OK,
    EXIT_PARTIAL,
    ConfigError,
    PerceptionBatchError,
    printable,
)
from perception_batch.read import holds_pictures
from perception_batch.runs import Drive, find_drives

if TYPE_CHECKING:
    from perception_batch.job import Job, Outcome, Progress

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the command `run` was asked."""

    paths: tuple[Path, ...]
    """Logs, bag folders, or folders of drives."""
    out: Path
    """Results go to ``out/<drive>``."""
    config: RunConfig
    """Settings."""
    cameras: tuple[str, ...] | None = None
    """Only these; None: all."""
    start: str | None = None
    """First time used."""
    stop: str | None = None
    """First time not used any more."""
    events: Path | None = None
    """A table of the stretches that are wanted; None: everything."""
    rig_file: Path | None = None
    """Calibration that wins over the log's."""
    drive_name: str = "{stem}"
    """Template of the drives' names."""
    one_drive: bool = False
    """All paths are one drive."""
    overwrite: bool = False
    """Replace what earlier runs left."""
    dry_run: bool = False
    """Only say what would be done."""
    argv: tuple[str, ...] = ()
    """The command."""


def run_all(request: RunRequest) -> int:
    """Process every drive, print a summary of each, and give the exit status.

    Returns:
        0 where all are done; 3 where one is and another failed or lost too much; else the failure's own
        status (1 nothing readable, 2 settings, 75 worth another try), 1 where several differ.

    Raises:
        PerceptionBatchError: the paths or names make no sense.
    """
    drives = find_drives(
        request.paths,
        one_drive=request.one_drive,
        template=request.drive_name,
        holds_pictures=holds_pictures,
    )
    if request.cameras is not None and not request.cameras:
        raise ConfigError("--cameras names no camera; give names such as --cameras cam_front,cam_back")
    if request.dry_run:
        return _say_what_would_be_done(request, drives)
    from perception_batch.console import RunProgress, print_outcome

    finished: list[int] = []
    failed: list[int] = []
    progress = RunProgress()
    for drive in drives:
        try:
            outcome = _run_one(request, drive, progress)
        except PerceptionBatchError as error:
            failed.append(error.exit_status)
            _complain(error if len(drives) == 1 else f"{drive.name}: {error}")
            continue
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            failed.append(EXIT_NOTHING)
            _complain(f"{where}{error.strerror or error}")
            continue
        finished.append(outcome.exit_status)
        print_outcome(outcome)
    if not finished:
        return failed[0] if len(set(failed)) == 1 else EXIT_NOTHING
    return EXIT_PARTIAL if failed or any(finished) else EXIT_OK


def _run_one(request: RunRequest, drive: Drive, progress: Progress) -> Outcome:
    from perception_batch.pipeline import run_drive
    from perception_batch.replay import redo

    return run_drive(job_of(request, drive), progress, redo)


def job_of(request: RunRequest, drive: Drive) -> Job:
    """The job of one drive."""
    from perception_batch.job import Job

    return Job(
        drive.name,
        drive.paths,
        request.out,
        request.config,
        request.cameras,
        request.start,
        request.stop,
        request.rig_file,
        request.overwrite,
        argv=request.argv,
        events=request.events,
    )


def _complain(message: object) -> None:
    sys.stderr.write(f"perception-batch: error: {printable(' '.join(str(message).split()))}\n")
    sys.stderr.flush()


def _say_what_would_be_done(request: RunRequest, drives: list[Drive]) -> int:
    from perception_batch.job import existing_run, open_drive

    started = time.perf_counter()
    failures = 0
    for drive in drives:
        job = job_of(request, drive)
        try:
            with open_drive(job) as opened:
                frames = sum(opened.log.cameras[name].count for name in opened.selected)
                there = existing_run(job.directory)
                state = "" if there is None else f"; {job.directory} exists ({there.status})"
                sys.stdout.write(
                    f"{drive.name}: {len(opened.selected)} cameras, {frames} frames, reference "
                    f"{printable(opened.plan.reference)}, tolerance {opened.plan.tolerance_ns / 1e6:.0f} ms, to "
                    f"{job.directory}{state}\n"
                )
        except PerceptionBatchError as error:
            failures += 1
            _complain(f"{drive.name}: {error}")
    _log.info("looked at %d drives in %.1f s", len(drives), time.perf_counter() - started)
    if failures == len(drives):
        return EXIT_NOTHING
    return EXIT_PARTIAL if failures else EXIT_OK

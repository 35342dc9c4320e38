"""Several drives one after another: a drive that fails does not stop the others."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perception_batch.collection_work import CollectionWork, Fate, complain, say
from perception_batch.config import RunConfig
from perception_batch.drives_wanted import DrivePlanner
from perception_batch.errors import (
    EXIT_NOTHING,
    EXIT_OK,
    EXIT_PARTIAL,
    ConfigError,
    PerceptionBatchError,
    WriteError,
    printable,
)
from perception_batch.read import holds_pictures
from perception_batch.runs import (
    FOLDER,
    Backoff,
    CollectionAtUrl,
    Drive,
    Ledger,
    OutputUrl,
    find_drives,
    holder,
    lock_path,
    parse_since,
    plan_text,
)

if TYPE_CHECKING:
    from perception_batch.job import Job

MOST_WORKERS = 256
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
    since: str | None = None
    """Only drives with a file that was changed since then, see `parse_since`; None: all."""
    watch: bool = False
    """Go on for ever, and take drives once they have stopped growing."""
    on_done: tuple[str, ...] = ()
    """A command after each drive, from `parse_hook`; empty: none."""
    prometheus: Path | None = None
    """File for the collection's figures; None: none."""
    workers: int | None = None
    """Drives at once, each in a process of its own; of one drive alone: threads that decode. With Ray: actors that detect.
    None: one drive at a time, or with Ray as many actors as fit."""
    engine: Literal["local", "ray"] = "local"
    """Where the work is done."""
    argv: tuple[str, ...] = ()
    """The command."""
    url: OutputUrl | None = None
    """Where finished files are put; `out` is the folder that stands for it then."""

    def place(self, drive: str) -> str:
        """Where the results of a drive are, for people."""
        return str(self.out / drive) if self.url is None else self.url.below(drive)

    def look_at_url(self) -> CollectionAtUrl | None:
        """What is at the URL now; None without one.

        Raises:
            ConfigError: no package opens it.
            WriteError: the store does not answer, or refuses.
        """
        if self.url is None:
            return None
        from perception_batch.drive_output import collection_at

        runs = self.config.runs
        return collection_at(self.url, self.out, Backoff(runs.retries, runs.retry_wait_s))


def run_all(request: RunRequest) -> int:
    """Process every drive that has work, print a summary of each, and give the exit status.

    Returns:
        As `Tally.exit_status`.

    Raises:
        PerceptionBatchError: the paths, names or options make no sense.
    """
    if request.cameras is not None and not request.cameras:
        raise ConfigError("--cameras names no camera; give names such as --cameras cam_front,cam_back")
    if request.out.exists() and not request.out.is_dir():
        raise WriteError(f"{printable(request.out)} is a file; choose another --out")
    since_s = None if request.since is None else parse_since(request.since, time.time())
    if request.watch and request.dry_run:
        raise ConfigError("--watch and --dry-run exclude each other")
    if request.workers is not None and not 1 <= request.workers <= MOST_WORKERS:
        raise ConfigError(
            f"--workers {request.workers}: allowed are 1 to {MOST_WORKERS} drives at once (of one drive: decode.workers)"
        )
    if request.engine == "ray":
        check_ray()
    if request.watch:
        return _watch(request, since_s)
    drives = drives_of(request)
    if len(drives) == 1 and request.engine == "local" and request.workers is not None:
        decode = request.config.decode.model_copy(update={"workers": request.workers})
        request = replace(request, config=request.config.model_copy(update={"decode": decode}))
    if request.dry_run:
        return _say_what_would_be_done(request, drives, since_s)
    with (
        _only_for_collections(request.out, len(drives)),
        CollectionWork(request, partial(job_of, request), since_s=since_s) as work,
    ):
        work.note_wanted(drives)
        work_off(work, drives)
        for note in work.ledger.notes:
            say(f"note: {note}")
    return work.tally.exit_status()


@contextmanager
def _only_for_collections(out: Path, drives: int) -> Iterator[None]:
    """One drive alone leaves its own folder and nothing else: its files say all that a ledger would."""
    folder = out / FOLDER
    had_out, had_folder = out.exists(), folder.exists()
    try:
        yield
    finally:
        locks = (lock_path(out, path.stem) for path in (folder / "locks").glob("*.l*"))
        if drives == 1 and not had_folder and not any(map(holder, locks)):
            shutil.rmtree(folder, ignore_errors=True)
            if not had_out:
                with suppress(OSError):  # not empty: the drive's folder is there
                    out.rmdir()


def work_off(work: CollectionWork, drives: list[Drive]) -> dict[str, Fate]:
    """Do what is to be done for the drives by the request's engine and workers; gives what became of each.

    Only a signal comes out, and what keeps Ray from starting.
    """
    if work.request.engine == "ray":
        from perception_batch.ray_engine import work_by_ray

        return work_by_ray(work, drives)
    if len(drives) > 1 and (work.request.workers or 1) > 1:
        from perception_batch.drives_at_once import work_at_once

        return work_at_once(work, drives, work.request.workers or 1)
    return {drive.name: work.work(drive, alone=len(drives) == 1) for drive in drives}


def check_ray() -> None:
    """Say how to get Ray where it is not installed.

    Raises:
        ConfigError: it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("--engine ray needs Ray: pip install 'perception_batch[ray]'")


def _watch(request: RunRequest, since_s: float | None) -> int:
    from perception_batch.watching import watch

    with CollectionWork(request, partial(job_of, request), since_s=since_s) as work:
        return watch(work, partial(drives_of, request), partial(work_off, work))


def drives_of(request: RunRequest) -> list[Drive]:
    """The drives that were asked for, as they are now.

    Raises:
        LogError, ConfigError: the paths or names make no sense.
    """
    return find_drives(
        request.paths,
        one_drive=request.one_drive,
        template=request.drive_name,
        holds_pictures=holds_pictures,
    )


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
        url=request.url,
    )


def _say_what_would_be_done(request: RunRequest, drives: list[Drive], since_s: float | None) -> int:
    from perception_batch.job import existing_run, open_drive

    started = time.perf_counter()
    failures = 0
    request.look_at_url()
    with Ledger(request.out, keep=False) as ledger:
        plans = DrivePlanner(request, since_s).plan_all(drives, ledger)
    for drive, plan in zip(drives, plans, strict=True):
        if not plan.has_work:
            failures += plan.action == "refuse"
            continue
        job = job_of(request, drive)
        try:
            with open_drive(job) as opened:
                frames = sum(opened.log.cameras[name].count for name in opened.selected)
                there = existing_run(job.directory, overwrite=request.overwrite)
                place = request.place(drive.name)
                state = "" if there is None else f"; {place} exists ({there.status})"
                say(
                    f"{drive.name}: {len(opened.selected)} cameras, {frames} frames, reference "
                    f"{printable(opened.plan.reference)}, tolerance {opened.plan.tolerance_ns / 1e6:.0f} ms, to "
                    f"{place}{state}"
                )
        except PerceptionBatchError as error:
            failures += 1
            complain(f"{drive.name}: {error}")
    say(plan_text(plans))
    _log.info("looked at %d drives in %.1f s", len(drives), time.perf_counter() - started)
    if failures == len(drives):
        return EXIT_NOTHING
    return EXIT_PARTIAL if failures else EXIT_OK

"""Where one drive's output goes: a folder, or a folder to work in and the URL that its files are put to.

A run speaks to it as if there were always a URL; without one nothing of that happens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from perception_batch.detect.weights import cache_dir
from perception_batch.errors import printable
from perception_batch.job import Job, Outcome
from perception_batch.runs import (
    Backoff,
    CollectionAtUrl,
    DriveAtUrl,
    EventLog,
    OutputLock,
    OutputUrl,
    UrlFiles,
    UrlLease,
    lock_path,
    locked,
    put_segment,
)

_REDO_ALLOWED_S = 3600.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class DriveOutput:
    """The output of a drive that is worked on now."""

    drive: str
    """Its name."""
    lock: OutputLock | None = None
    """In the folder; None where another process holds it for this one."""
    lease: UrlLease | None = None
    """At the URL; None without one."""
    remote: DriveAtUrl | None = None
    """What is put to the URL; None without one."""

    def renew(self) -> None:
        """Tell others that this process lives; cheap.

        Raises:
            LockedError: another process has taken the drive over.
        """
        if self.lock is not None:
            self.lock.renew()
        if self.lease is not None:
            self.lease.renew()

    def fetch(self) -> None:
        """Bring a finished run here, for stages that are done again.

        Raises:
            WriteError: it is not there as it was put; the store does not answer.
        """
        if self.remote is not None:
            if self.lease is not None:
                self.lease.renew(_REDO_ALLOWED_S)
            self.remote.fetch()

    def begin(self) -> None:
        """Manifest and plan are in the folder, and no tables.

        Raises:
            LockedError: another process has taken the drive over.
            WriteError: the store does not take them.
        """
        if self.remote is not None:
            if self.lease is not None:
                self.lease.renew(now=True)
            self.remote.begin()

    def land(self, segment: Path) -> None:
        """A segment's file is in the folder.

        Raises:
            WriteError: the store refuses it.
        """
        if self.remote is not None:
            self.remote.land(segment)

    def drop(self, segment: Path) -> None:
        """A segment's file was removed from the folder.

        Raises:
            WriteError: the store does not answer.
        """
        if self.remote is not None:
            self.remote.drop(segment)

    def finish(self, outcome: Outcome) -> Outcome:
        """The run is finished in the folder; what became of it, where it is now.

        Raises:
            LockedError: another process has taken the drive over.
            WriteError: the store does not take it.
        """
        if self.remote is None:
            return outcome
        if self.lease is not None:
            self.lease.renew(self.remote.upload_s(), now=True)
        return replace(outcome, place=self.remote.place, files=tuple(self.remote.finish()))

    def skipped(self, outcome: Outcome) -> Outcome:
        """Nothing was to be done."""
        return outcome if self.remote is None else replace(outcome, place=self.remote.place)


def local_out(url: OutputUrl) -> Path:
    """The folder of this machine that stands for a URL."""
    return url.folder(cache_dir())


def url_files(
    url: OutputUrl,
    backoff: Backoff,
    note: Callable[[str, int, float], None] = lambda _why, _failures, _wait_s: None,
) -> UrlFiles:
    """The files behind a URL; `note` hears of errors that pass, and so does the log."""

    def on_retry(error: BaseException, failures: int, wait_s: float) -> None:
        _log.warning("%s: %s; again in %.0f s", url, printable(error), wait_s)
        note(printable(error), failures, wait_s)

    return url.files(backoff, on_retry)


@contextmanager
def hold_output(job: Job, events: EventLog | None = None, *, pull: bool = True) -> Iterator[DriveOutput]:
    """Hold a drive's output for a ``with`` block, against all other processes.

    Args:
        job: the drive.
        events: hears of errors of the store that pass.
        pull: bring the folder up to the URL; false: only hold it.

    Raises:
        LockedError: another process works on it.
        WriteError: the place refuses; what is there is no run.
    """
    with ExitStack() as stack:
        lock = stack.enter_context(locked(lock_path(job.out, job.drive), str(job.directory)))
        if job.url is None:
            yield DriveOutput(job.drive, lock)
            return
        files = url_files(job.url, _backoff(job), _noted(job, events))
        lease = stack.enter_context(UrlLease.take(files, job.drive))
        remote = _remote(job, files)
        if pull:
            remote.pull()
        try:
            yield DriveOutput(job.drive, lock, lease, remote)
        except Exception:  # of one that a signal stops, what is there says all
            remote.leave()
            raise


def attached_output(job: Job) -> DriveOutput:
    """A drive's output in a process for which another one holds it.

    Raises:
        WriteError: the place refuses; what is there is no run.
    """
    if job.url is None:
        return DriveOutput(job.drive)
    remote = _remote(job, url_files(job.url, _backoff(job)))
    remote.pull()
    return DriveOutput(job.drive, remote=remote)


def delivered_segment(job: Job, path: Path) -> str:
    """Where a segment's file is that was made for another process: in the folder that all see, or at the URL.

    Raises:
        WriteError: the store does not take it.
    """
    if job.url is None:
        return str(path)
    return put_segment(url_files(job.url, _backoff(job)), job.drive, path)


def collection_at(url: OutputUrl, out: Path, backoff: Backoff) -> CollectionAtUrl:
    """The collection at a URL, as it is now.

    Raises:
        ConfigError: no package opens it.
        WriteError: the store does not answer, or refuses.
    """
    found = CollectionAtUrl(url_files(url, backoff), out)
    found.refresh()
    return found


def _backoff(job: Job) -> Backoff:
    return Backoff(job.config.runs.retries, job.config.runs.retry_wait_s)


def _remote(job: Job, files: UrlFiles) -> DriveAtUrl:
    return DriveAtUrl(files, job.drive, job.directory, keep_segments=job.config.runs.keep_segments)


def _noted(job: Job, events: EventLog | None) -> Callable[[str, int, float], None]:
    def note(why: str, failures: int, wait_s: float) -> None:
        if events is not None:
            events.write("retry", drive=job.drive, why=why, failures=failures, wait_s=wait_s)

    return note

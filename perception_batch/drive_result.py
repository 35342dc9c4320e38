"""How one drive went, as a value: it goes from a worker's process to the one that keeps the books."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from perception_batch.errors import EXIT_NOTHING, LockedError, ModelError, PerceptionBatchError, printable
from perception_batch.runs import Backoff, EventLog, holder, lock_path, retried

if TYPE_CHECKING:
    from perception_batch.devices import KeptDetector
    from perception_batch.job import Job, OpenDrive, Outcome, Progress
    from perception_batch.runs import Difference
    from perception_batch.write import Manifest


@dataclass(frozen=True, slots=True)
class DriveResult:
    """What became of one drive."""

    kind: Literal["done", "waiting", "failed"]
    """``waiting``: another process works on it."""
    outcome: Outcome | None = None
    """Of a drive that is done."""
    why: str = ""
    """Of one that is not."""
    exit_status: int = 0
    """Of one that failed: what `run` would give for this drive alone."""


def drive_result(action: Callable[[], Outcome]) -> DriveResult:
    """Work off one drive; errors that a log, a setting or the system cause come back as values."""
    try:
        return DriveResult("done", action())
    except LockedError as error:
        return DriveResult("waiting", why=str(error), exit_status=error.exit_status)
    except PerceptionBatchError as error:
        return DriveResult("failed", why=str(error), exit_status=error.exit_status)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return DriveResult("failed", why=f"{where}{error.strerror or error}", exit_status=EXIT_NOTHING)


def run_with_retries(
    job: Job,
    kept: KeptDetector,
    progress: Progress | None,
    events: EventLog,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Run one drive with the detector of several, again after errors that pass.

    Raises:
        LockedError: another process works on it.
        PerceptionBatchError, OSError: as `pipeline.run_drive`.
    """
    from perception_batch import pipeline

    at_work = holder(lock_path(job.out, job.drive))
    if at_work is not None:
        raise LockedError(f"{printable(job.directory)}: {at_work} works on it; try again when that has ended")

    def note(error: BaseException, failures: int, wait_s: float) -> None:
        events.write("retry", drive=job.drive, why=str(error), failures=failures, wait_s=wait_s)

    runs = job.config.runs
    try:
        return retried(
            lambda: pipeline.run_drive(job, progress, _redo, kept=kept, events=events),
            Backoff(runs.retries, runs.retry_wait_s),
            on_retry=note,
            sleep=sleep,
        )
    except Exception as error:
        if isinstance(error, (ModelError, OSError)):  # it may be the device's
            kept.forget()
        raise


def _redo(job: Job, opened: OpenDrive, manifest: Manifest, change: Difference) -> Outcome:
    """The cheap stages again, where only they changed."""
    from perception_batch.replay import redo

    return redo(job, opened, manifest, change)

"""The drives of a collection worked off: what each becomes is printed, noted in ledger and events, and counted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from perception_batch.drive_logs import drive_log, log_path
from perception_batch.drive_result import DriveResult, drive_result, run_with_retries
from perception_batch.drives_wanted import DrivePlanner
from perception_batch.errors import (
    EXIT_NOTHING,
    EXIT_OK,
    EXIT_PARTIAL,
    EXIT_RETRY,
    WriteError,
    printable,
    without_secrets,
)
from perception_batch.runs import (
    EVENTS,
    FOLDER,
    Content,
    DoneFacts,
    Drive,
    EventLog,
    Ledger,
    PlannedDrive,
    collection_gauges,
    collection_status,
    run_hook,
    write_exposition,
)
from perception_batch.start_up import many_imports

if TYPE_CHECKING:
    from perception_batch.collection import RunRequest
    from perception_batch.devices import KeptDetector
    from perception_batch.job import Job, Outcome, Progress
    from perception_batch.runs import CollectionAtUrl

_MOST_SKIPPED_LINES = 20
Fate = Literal["done", "skipped", "older", "failed", "waiting"]


def complain(message: object) -> None:
    """One line on stderr."""
    sys.stderr.write(f"perception-batch: error: {printable(' '.join(str(message).split()))}\n")
    sys.stderr.flush()


def say(line: str) -> None:
    """One line on stdout."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass(slots=True)
class Tally:
    """How the drives went."""

    finished: list[int] = field(default_factory=list)
    """Exit status of each that is done, those that were done before included."""
    failed: list[int] = field(default_factory=list)
    """Exit status of each that failed."""
    skipped: int = 0
    """Those that were done before."""
    waiting: int = 0
    """Those on which another process works."""

    def exit_status(self) -> int:
        """0 where all are done; 3 where one is and another failed or lost too much; else the failure's own, 1 where
        several differ; 75 where others work on all that there is."""
        if self.finished:
            return EXIT_PARTIAL if self.failed or any(self.finished) else EXIT_OK
        if self.failed:
            return self.failed[0] if len(set(self.failed)) == 1 else EXIT_NOTHING
        return EXIT_RETRY if self.waiting else EXIT_OK


class CollectionWork:
    """Ledger, events and the detector of one command; a context manager."""

    def __init__(
        self,
        request: RunRequest,
        job_of: Callable[[Drive], Job],
        *,
        since_s: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open nothing yet.

        Args:
            request: what was asked.
            job_of: the job of a drive.
            since_s: drives without a file that was changed since are left out, seconds since 1970.
            sleep: waits between tries, seconds.
        """
        self.request = request
        self.tally = Tally()
        self.planner = DrivePlanner(request, since_s)
        self.events = EventLog(request.out / FOLDER / EVENTS)
        self._job_of = job_of
        self._sleep = sleep
        self._stack = ExitStack()
        self._progress: Progress | None = None
        self._kept: KeptDetector | None = None
        self._at_url: CollectionAtUrl | None = None

    def __enter__(self) -> CollectionWork:
        self._at_url = self.request.look_at_url()
        self.ledger = self._stack.enter_context(Ledger(self.request.out))
        self.events.write("run_started", argv=list(self.request.argv))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        status = self.tally.exit_status() if error is None else getattr(error, "exit_status", EXIT_NOTHING)
        try:
            self.events.write("run_finished", exit_status=status)
            if self.request.prometheus is not None:
                self.write_gauges(status)
        finally:
            self._stack.close()

    def write_gauges(self, status: int) -> None:
        """Write the text file for Prometheus.

        Raises:
            WriteError: the disk is full or refuses.
        """
        if self.request.prometheus is not None:
            states = collection_status(self.request.out, self.ledger.entries())
            write_exposition(self.request.prometheus, collection_gauges(states, time.time(), status))

    def note_wanted(self, drives: list[Drive]) -> None:
        """Enter drives in the ledger, so that `status` knows what is still to come."""
        new = []
        for drive in drives:
            entry, paths = self.ledger.get(drive.name), _texts(drive)
            if entry.paths != paths:
                new.append(replace(entry, paths=paths))
        self.ledger.put(*new)

    def work(self, drive: Drive, *, alone: bool) -> Fate:
        """Do what is to be done for one drive; only a signal comes out.

        Args:
            drive: the drive.
            alone: it is the only one, so that messages need not name it.
        """
        plan, content = self.plan(drive)
        passed = self.pass_over(drive, plan)
        if passed is not None:
            return passed
        if plan.action == "refuse":
            result = self.refused(drive, plan)
        else:
            with drive_log(log_path(self.request.out, drive.name)) as add:
                result = drive_result(lambda: self._run(drive, content))
                add(f"{result.kind} {printable(result.why)}".rstrip())
        return self.settle_here(drive, content, result, alone=alone)

    def plan(self, drive: Drive) -> tuple[PlannedDrive, Content | None]:
        """What is to be done for a drive, and its files from outside."""
        return self.planner.plan(drive, self.ledger.get(drive.name))

    def pass_over(self, drive: Drive, plan: PlannedDrive) -> Fate | None:
        """Settle a drive that has no work, or is older than what was asked for; None where there is work."""
        if plan.action == "older":
            return "older"
        if plan.action == "skip":
            self._skipped(drive)
            return "skipped"
        return None

    def refused(self, drive: Drive, plan: PlannedDrive) -> DriveResult:
        """The result of a drive that is refused from outside."""
        error = WriteError(f"{printable(self.request.place(drive.name))}: {plan.why}")
        return DriveResult("failed", why=str(error), exit_status=error.exit_status)

    def begin(self, drive: Drive, content: Content | None) -> Job:
        """The job of a drive that is worked on now."""
        self.events.write("drive_started", drive=drive.name)
        return replace(self._job_of(drive), content=content)

    def settle(
        self, drive: Drive, content: Content | None, result: DriveResult, *, alone: bool = False
    ) -> tuple[Fate, DoneFacts | None]:
        """Print, note and count what became of a drive; with what ``--on-done`` is to be told."""
        if result.outcome is not None:
            return self._done(drive, content, result.outcome)
        if result.kind == "waiting":
            self.tally.waiting += 1
            self.events.write("drive_waiting", drive=drive.name, why=result.why)
            complain(result.why)
            return "waiting", None
        return "failed", self._failed(drive, content, result, alone=alone)

    def settle_here(
        self, drive: Drive, content: Content | None, result: DriveResult, *, alone: bool = False
    ) -> Fate:
        """The same, and run ``--on-done`` in this process."""
        fate, facts = self.settle(drive, content, result, alone=alone)
        if facts is not None and self.request.on_done:
            words, limit_s = self.request.on_done, self.request.config.runs.hook_timeout_s
            self.hook_ended(facts, run_hook(words, facts, timeout_s=limit_s))
        return fate

    def hook_ended(self, facts: DoneFacts, status: int) -> None:
        """Note how ``--on-done`` went."""
        if status:
            self.events.write("hook_failed", drive=facts.drive, exit_status=status)
            complain(f"{facts.drive}: --on-done {self.request.on_done[0]} ended with {status}")

    def _run(self, drive: Drive, content: Content | None) -> Outcome:
        with many_imports():
            from perception_batch import pipeline
            from perception_batch.console import RunProgress

        if self._kept is None:
            self._kept = self._stack.enter_context(pipeline.keep_detector(self.request.config.detect))
        if self._progress is None:
            self._progress = RunProgress()
        return run_with_retries(
            self.begin(drive, content), self._kept, self._progress, self.events, self._sleep
        )

    def _skipped(self, drive: Drive) -> None:
        self.tally.finished.append(EXIT_OK)
        self.tally.skipped += 1
        if self.tally.skipped <= _MOST_SKIPPED_LINES:
            say(f"{drive.name}: already there, nothing to do ({self.request.place(drive.name)})")
        elif self.tally.skipped == _MOST_SKIPPED_LINES + 1:
            say("... and further ones; `perception-batch status` lists them")

    def _done(self, drive: Drive, content: Content | None, outcome: Outcome) -> tuple[Fate, DoneFacts | None]:
        from perception_batch.console import print_outcome

        self.tally.finished.append(outcome.exit_status)
        print_outcome(outcome)
        self._note(drive, content, "")
        if outcome.action == "skipped":
            self.tally.skipped += 1
            self.events.write("drive_skipped", drive=drive.name)
            return "skipped", None
        status = outcome.manifest.status
        self.events.write(
            "drive_finished",
            drive=drive.name,
            status=status,
            exit_status=outcome.exit_status,
            action=outcome.action,
        )
        return "done", DoneFacts(drive.name, outcome.where, status, outcome.exit_status, outcome.action)

    def _failed(
        self, drive: Drive, content: Content | None, result: DriveResult, *, alone: bool
    ) -> DoneFacts:
        self.tally.failed.append(result.exit_status)
        complain(result.why if alone else f"{drive.name}: {result.why}")
        self._note(drive, content, " ".join(result.why.split()))
        self.events.write("drive_failed", drive=drive.name, exit_status=result.exit_status, why=result.why)
        return DoneFacts(drive.name, self.request.place(drive.name), "failed", result.exit_status, "failed")

    def _note(self, drive: Drive, content: Content | None, message: str) -> None:
        if self._at_url is not None and self.request.engine == "ray":  # another machine may have done it
            with suppress(WriteError):  # the next run looks again
                self._at_url.refresh_drive(drive.name)
        self.ledger.refresh(drive.name)
        entry = self.ledger.get(drive.name)
        finished = entry.record is not None and entry.record.is_finished
        if content is not None and finished and not message:
            entry = replace(entry, content=content.fingerprint, size_bytes=content.size_bytes)
        self.ledger.put(replace(entry, paths=_texts(drive), message=message))


def _texts(drive: Drive) -> tuple[str, ...]:
    return tuple(without_secrets(str(path)) for path in drive.paths)

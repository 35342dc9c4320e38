"""A process that works off drives for `drives_at_once`, one after another, with a detector of its own.

It reads commands from stdin and writes what happens to a pipe; both end when it is not needed any more. It ends with the
process that has started it, however that one ends, and at a whole segment.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_batch.detect import open_detector
from perception_batch.devices import KeptDetector
from perception_batch.drive_logs import PACKAGE, drive_log
from perception_batch.drive_result import DriveResult, drive_result, run_with_retries
from perception_batch.errors import EXIT_NOTHING, printable
from perception_batch.framed_pipe import Inbox, send
from perception_batch.job import Job, Outcome, Progress
from perception_batch.runs import DoneFacts, EventLog, run_hook
from perception_batch.shared_machine import share_of_machine
from perception_batch.signals import Stopped, handled

if TYPE_CHECKING:
    from perception_batch.config import DetectConfig

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_REPORT_S = 0.25
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker is told first."""

    detect: DetectConfig
    """Settings of the detector."""
    index: int
    """Its number, from 0."""
    of: int
    """How many workers there are."""
    events: Path
    """The collection's event log."""
    level: int
    """Log records from this level on are passed on."""


@dataclass(frozen=True, slots=True)
class WorkOnDrive:
    """Work off one drive; answered by a `DriveResult`."""

    job: Job
    log: Path
    """Where to keep what is said meanwhile."""


@dataclass(frozen=True, slots=True)
class WorkOnHook:
    """Run the user's command after a drive; answered by `HookEnded`."""

    words: tuple[str, ...]
    facts: DoneFacts
    timeout_s: float


@dataclass(frozen=True, slots=True)
class HookEnded:
    """Exit status of the user's command, as `run_hook` gives it."""

    facts: DoneFacts
    status: int


@dataclass(frozen=True, slots=True)
class Began:
    """The drive's chain begins; `images` as in `Progress.start`."""

    images: int


@dataclass(frozen=True, slots=True)
class Advanced:
    """So many images more."""

    images: int


@dataclass(frozen=True, slots=True)
class Said:
    """A log record."""

    level: int
    text: str


class _Report(Progress):
    """Progress to the other process, a few times a second."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._images = 0
        self._sent_s = 0.0
        self._alone = logging.Handler().lock  # decoding threads log; a handler's lock is one like any other

    def start(self, drive: str, images: int) -> None:  # noqa: ARG002 - one drive at a time
        self._images = 0
        self.tell(Began(images))

    def advance(self, images: int) -> None:
        self._images += images
        if time.monotonic() - self._sent_s > _REPORT_S:
            self.stop()

    def stop(self) -> None:
        if self._images:
            self.tell(Advanced(self._images))
        self._images, self._sent_s = 0, time.monotonic()

    def tell(self, item: object) -> None:
        """Send something; without anyone to hear it, the work stops."""
        try:
            with self._alone or nullcontext():
                send(self._handle, item)
        except BrokenPipeError:
            raise Stopped(signal.SIGTERM) from None


class _Forward(logging.Handler):
    def __init__(self, report: _Report, level: int) -> None:
        super().__init__(level)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report.tell(Said(record.levelno, record.getMessage()))


def main(handle: int, parent: int) -> int:
    """Work until stdin ends.

    Args:
        handle: file descriptor of the pipe for what happens.
        parent: id of the process that started this one.

    Returns:
        The exit status: 0, or 128 + the signal's number.
    """
    try:
        with handled():
            _end_with_parent(parent)
            commands = Inbox(os.dup(0))
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            return _serve(commands, _Report(handle))
    except Stopped as stop:
        return stop.exit_status


def _end_with_parent(parent: int) -> None:
    """Get SIGTERM when the parent dies, were it by SIGKILL; without `prctl` the end of the pipes is noticed."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise Stopped(signal.SIGTERM)


def _serve(commands: Inbox, report: _Report) -> int:
    waiting: list[Any] = []
    while not waiting:
        waiting = commands.take()
        if commands.ended:
            return 0
    setup: Setup = waiting.pop(0)
    PACKAGE.addHandler(_Forward(report, setup.level))
    PACKAGE.setLevel(setup.level)
    events = EventLog(setup.events)
    with KeptDetector(share_of_machine(setup.detect, setup.index, setup.of), open_detector) as kept:
        while True:
            for command in waiting:
                if isinstance(command, WorkOnHook):
                    status = run_hook(command.words, command.facts, timeout_s=command.timeout_s)
                    report.tell(HookEnded(command.facts, status))
                else:
                    report.tell(_work(command, kept, report, events))
            if commands.ended:
                return 0
            waiting = commands.take()


def _work(command: WorkOnDrive, kept: KeptDetector, report: _Report, events: EventLog) -> DriveResult:
    def run() -> Outcome:
        return run_with_retries(command.job, kept, report, events)

    with drive_log(command.log, all_output=True) as add:
        add(f"begins, process {os.getpid()}")
        try:
            result = drive_result(run)
        except Exception as error:  # a fault of this program: the other drives go on
            kept.forget()
            _log.exception("unexpected")
            why = f"unexpected {type(error).__name__}: {error} (see {printable(command.log)})"
            result = DriveResult("failed", why=why, exit_status=EXIT_NOTHING)
        add(f"{result.kind} {printable(result.why)}".rstrip())
    return result

"""What runs on a cluster's machines for `ray_engine`: one detector an actor, its weights loaded once, decoding beside it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perception_batch.config import DetectConfig
from perception_batch.detect import Detector
from perception_batch.detect.cores import usable_cores
from perception_batch.devices import KeptDetector
from perception_batch.drive_logs import PACKAGE
from perception_batch.drive_output import local_out
from perception_batch.drive_result import DriveResult, drive_result, run_with_retries
from perception_batch.errors import ModelError
from perception_batch.job import Job, Outcome
from perception_batch.runs import Backoff, EventLog, retried
from perception_batch.segment_work import LandedSegment, PreparedDrive, detect_segment, prepare_drive
from perception_batch.shared_machine import share_of_machine

_MOST_LINES = 200


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What each actor is told first."""

    detect: DetectConfig
    """Settings of the detector."""
    opener: Callable[[DetectConfig], Detector]
    """Opens it."""
    cores: int
    """Cores that it may use."""
    gpu: bool
    """Whether it has a device of its own."""
    events: Path
    """The collection's event log."""
    level: int
    """Log records from this level on come back."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task gives back: values, never errors."""

    value: PreparedDrive | LandedSegment | DriveResult
    """A `DriveResult` instead of another value: the drive has failed, or is done."""
    said: tuple[tuple[int, str], ...]
    """Log records: level and text."""
    retries: tuple[dict[str, Any], ...]
    """Errors that passed: ``why``, ``failures``, ``wait_s``."""
    where: str
    """Machine and process."""


class SegmentWorker:
    """The actor; see `ray_engine`."""

    def __init__(self, setup: WorkerSetup) -> None:
        settings = setup.detect
        if setup.gpu:  # the only one that it sees
            settings = settings.model_copy(update={"device": "cuda:0"})
        self._setup = setup
        of = max(1, usable_cores() // setup.cores)
        self._kept = KeptDetector(share_of_machine(settings, 0, of), setup.opener)
        self._events = EventLog(setup.events)

    def where(self) -> str:
        """Machine and process; answers once the actor lives."""
        import platform

        return f"{platform.node()}:{os.getpid()}"

    def prepare(self, job: Job) -> Answer:
        """See `prepare_drive`."""
        return self._answer(job, lambda mine: prepare_drive(mine, self._kept))

    def detect(self, prepared: PreparedDrive, segment: int) -> Answer:
        """See `detect_segment`."""

        def work(mine: Job) -> LandedSegment:
            return detect_segment(replace(prepared, job=mine), segment, self._kept)

        return self._answer(prepared.job, work)

    def finish(self, job: Job) -> Answer:
        """Fuse, draw and write a drive whose segments have landed, and detect those that have not."""

        def work(mine: Job) -> DriveResult:
            def run() -> Outcome:
                return run_with_retries(mine, self._kept, None, self._events)

            return drive_result(run)

        return self._answer(job, work)

    def _answer(self, job: Job, work: Callable[[Job], Any]) -> Answer:
        mine = replace(job, decode_threads=self._setup.cores)
        if job.url is not None:  # each machine has its own folder to work in
            mine = replace(mine, out=local_out(job.url))
        found: list[Any] = []
        tries: list[dict[str, Any]] = []

        def note(error: BaseException, failures: int, wait_s: float) -> None:
            tries.append({"why": str(error), "failures": failures, "wait_s": wait_s})

        def run() -> Outcome:
            backoff = Backoff(job.config.runs.retries, job.config.runs.retry_wait_s)
            try:
                found.append(retried(lambda: work(mine), backoff, on_retry=note))
            except (ModelError, OSError):  # it may be the device's
                self._kept.forget()
                raise
            return found[0]  # type: ignore[no-any-return]

        with _collected(self._setup.level) as said:
            result = drive_result(run)
        value = found[0] if found else result
        return Answer(value, tuple(said), tuple(tries), self.where())


@contextmanager
def _collected(level: int) -> Iterator[list[tuple[int, str]]]:
    said: list[tuple[int, str]] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(said) < _MOST_LINES:
                said.append((record.levelno, record.getMessage()))

    handler = Collect(level)
    before = PACKAGE.level
    PACKAGE.addHandler(handler)
    PACKAGE.setLevel(level)
    try:
        yield said
    finally:
        PACKAGE.removeHandler(handler)
        PACKAGE.setLevel(before)

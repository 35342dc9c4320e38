"""Several drives at once on one machine, each in a process of its own.

Processes, not threads: a fault of native code in one drive (a decoder, a driver of the device) ends that drive alone, and
Python's own work does not take turns. Each worker has one detector and a share of the cores. The books (ledger, events of
drives, figures, what is printed) are kept here, by one process.
"""

from __future__ import annotations

import logging
import selectors
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from perception_batch.drive_logs import log_path
from perception_batch.drive_result import DriveResult
from perception_batch.drive_worker import Advanced, Began, HookEnded, Said, Setup, WorkOnDrive, WorkOnHook
from perception_batch.errors import EXIT_NOTHING, EXIT_RETRY, printable
from perception_batch.runs import EVENTS, FOLDER, Content, DoneFacts, Drive
from perception_batch.shared_machine import share_of_cores
from perception_batch.worker_process import WorkerProcess, end_all

if TYPE_CHECKING:
    from perception_batch.collection_progress import CollectionProgress
    from perception_batch.collection_work import CollectionWork, Fate

_DEATH_S = 5.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seat:
    """A worker's place, and what it does now."""

    worker: WorkerProcess
    drive: Drive | None = None
    hook: DoneFacts | None = None


@dataclass(slots=True)
class _Queue:
    """What is to be done."""

    drives: deque[tuple[Drive, Content | None]]
    hooks: deque[DoneFacts] = field(default_factory=deque)


def work_at_once(
    work: CollectionWork,
    drives: list[Drive],
    workers: int,
    start: Callable[[int, Setup], WorkerProcess] = WorkerProcess,
) -> dict[str, Fate]:
    """Do what is to be done for the drives, `workers` of them at a time; only a signal comes out.

    Args:
        work: the books.
        drives: the drives; those with most bytes are begun first, so that none is left alone at the end.
        workers: most processes.
        start: starts a worker.

    Returns:
        What became of each, by name.
    """
    fates: dict[str, Fate] = {}
    todo: list[tuple[Drive, Content | None]] = []
    hooks: list[DoneFacts] = []
    for drive in drives:
        plan, content = work.plan(drive)
        passed = work.pass_over(drive, plan)
        if passed is not None:
            fates[drive.name] = passed
        elif plan.action == "refuse":
            fates[drive.name], facts = work.settle(drive, content, work.refused(drive, plan))
            hooks += [facts] if facts is not None and work.request.on_done else []
        else:
            todo.append((drive, content))
    count = min(workers, len(todo))
    if count <= 1 and not hooks:
        fates.update((drive.name, work.work(drive, alone=len(drives) == 1)) for drive, _ in todo)
        return fates
    from perception_batch.collection_progress import CollectionProgress

    todo.sort(key=lambda pair: (-(pair[1].size_bytes if pair[1] is not None else 0), pair[0].name))
    queue = _Queue(deque(todo), deque(hooks))
    contents = {drive.name: content for drive, content in todo}
    with CollectionProgress(len(todo)) as progress:
        _Crew(work, queue, contents, fates, progress, max(count, 1), start).run()
    return fates


@dataclass(slots=True)
class _Crew:
    """The workers of one call."""

    work: CollectionWork
    queue: _Queue
    contents: dict[str, Content | None]
    fates: dict[str, Fate]
    progress: CollectionProgress
    count: int
    start: Callable[[int, Setup], WorkerProcess]
    seats: dict[int, _Seat] = field(default_factory=dict)

    def run(self) -> None:
        """Until all is done, or a signal."""
        finished = False
        try:
            while self._hand_out():
                self._hear()
            finished = True
        finally:
            end_all([seat.worker for seat in self.seats.values()], stop=not finished)

    def _hand_out(self) -> bool:
        """Give idle workers what waits, start those that are missing; false where nothing is left."""
        for index in range(self.count):
            if not (self.queue.hooks or self.queue.drives):
                break
            seat = self.seats.get(index)
            if seat is None:
                seat = self.seats[index] = _Seat(self.start(index, self._setup(index)))
            if seat.drive is not None or seat.hook is not None:
                continue
            if self.queue.hooks:
                self._give_hook(seat, self.queue.hooks.popleft())
            else:
                self._give_drive(seat, *self.queue.drives.popleft())
        return any(seat.drive is not None or seat.hook is not None for seat in self.seats.values())

    def _setup(self, index: int) -> Setup:
        request = self.work.request
        level = logging.getLogger().getEffectiveLevel()
        events = request.out / FOLDER / EVENTS
        return Setup(request.config.detect, index, self.count, events, level)

    def _give_drive(self, seat: _Seat, drive: Drive, content: Content | None) -> None:
        seat.drive = drive
        job = replace(self.work.begin(drive, content), decode_threads=share_of_cores(self.count))
        self.progress.begin(drive.name)
        seat.worker.send(WorkOnDrive(job, log_path(job.out, drive.name)))

    def _give_hook(self, seat: _Seat, facts: DoneFacts) -> None:
        seat.hook = facts
        request = self.work.request
        seat.worker.send(WorkOnHook(request.on_done, facts, request.config.runs.hook_timeout_s))

    def _hear(self) -> None:
        """Wait until something happens, and take it in."""
        with selectors.DefaultSelector() as selector:
            for seat in self.seats.values():
                selector.register(seat.worker.handle, selectors.EVENT_READ, seat)
            ready = [key.data for key, _ in selector.select()]
        for seat in ready:
            for item in seat.worker.inbox.take():
                self._take(seat, item)
            if seat.worker.inbox.ended:
                self._died(seat)

    def _take(self, seat: _Seat, item: object) -> None:
        drive = seat.drive
        name = "" if drive is None else drive.name
        if isinstance(item, Began):
            self.progress.begin(name, item.images)
        elif isinstance(item, Advanced):
            self.progress.advance(name, item.images)
        elif isinstance(item, Said):
            _log.log(item.level, "%s: %s", name or f"worker {seat.worker.index}", item.text)
        elif isinstance(item, HookEnded):
            seat.hook = None
            self.work.hook_ended(item.facts, item.status)
        elif isinstance(item, DriveResult) and drive is not None:
            self._settle(seat, drive, item)

    def _settle(self, seat: _Seat, drive: Drive, result: DriveResult) -> None:
        seat.drive = None
        self.progress.end(drive.name)
        fate, facts = self.work.settle(drive, self.contents[drive.name], result)
        self.fates[drive.name] = fate
        if facts is None or not self.work.request.on_done:
            return
        if seat.worker.inbox.ended:
            self.queue.hooks.append(facts)
        else:
            self._give_hook(seat, facts)

    def _died(self, seat: _Seat) -> None:
        """Its drive has failed; a new worker takes its place where there is more to do."""
        seat.worker.ended(_DEATH_S)
        status = seat.worker.close()
        self.seats.pop(seat.worker.index)
        how = f"exit status {status}"
        if status < 0:
            how = f"signal {-status}"
            with suppress(ValueError):
                how = signal.Signals(-status).name
        if seat.hook is not None:
            self.work.hook_ended(seat.hook, 128 - status if status < 0 else status or EXIT_NOTHING)
        if seat.drive is None:
            return
        log = printable(log_path(self.work.request.out, seat.drive.name))
        why = f"its process ended by {how}, see {log}; the same command goes on with it"
        # SIGKILL comes from outside, mostly for want of memory, which another night may have.
        status = EXIT_RETRY if status == -signal.SIGKILL else EXIT_NOTHING
        self._settle(seat, seat.drive, DriveResult("failed", why=why, exit_status=status))

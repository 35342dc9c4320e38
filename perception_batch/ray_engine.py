"""``run --engine ray``: the segments of many drives over a cluster.

::

    drive -> prepare -> | detect segment 0 |  -> finish: fuse, track, draw, write
                        | detect segment 1 |     (the run that finds all segments landed)
                        | ...              |

A task is log, segment and frozen plan; what comes back is the path of the segment's file in OUT, which all machines see: a shared
folder, or a URL to which each puts its files from a folder of its own. No pixels
go through Ray. Each actor holds one detector and decodes beside it. One that is lost (its machine too) is replaced, and
its task given to another. The books are kept here, as for one drive at a time; this process detects nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from perception_batch.collection_progress import CollectionProgress
from perception_batch.config import DetectConfig
from perception_batch.detect import Detector, open_detector
from perception_batch.detect.cores import MOST_COPIES, usable_cores
from perception_batch.drive_logs import log_path
from perception_batch.drive_output import DriveOutput, hold_output
from perception_batch.drive_result import DriveResult
from perception_batch.errors import EXIT_NOTHING, EXIT_RETRY, LockedError, PerceptionBatchError, printable
from perception_batch.ray_actors import Answer, SegmentWorker, WorkerSetup
from perception_batch.runs import EVENTS, FOLDER, Content, Drive
from perception_batch.segment_work import LandedSegment, PreparedDrive
from perception_batch.signals import handled, held

if TYPE_CHECKING:
    from perception_batch.collection_work import CollectionWork, Fate
    from perception_batch.job import Job

MOST_LOSSES = 3
"""So many workers may die of one task; then its drive has failed."""
_OBJECT_STORE_BYTES = 80 << 20
"""Ray's least is 75 MiB. What goes through it are settings and paths."""
_TICK_S = 1.0
_RENEWAL_S = 15.0
_NO_WORKER_S = 600.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _DriveAtWork:
    """A drive between its first task and its last."""

    drive: Drive
    content: Content | None
    job: Job
    prepared: PreparedDrive | None = None
    left: int = 0
    failed: DriveResult | None = None
    output: DriveOutput | None = None
    unlock: ExitStack = field(default_factory=ExitStack)


@dataclass(slots=True)
class _Task:
    """A call that an actor is to make."""

    kind: Literal["prepare", "detect", "finish"]
    at: _DriveAtWork
    segment: int = -1
    losses: int = 0


@dataclass(slots=True)
class _Actor:
    """A worker: started, then idle or with a task."""

    handle: Any
    call: Any
    """Reference of the call whose answer is awaited; None while idle."""
    task: _Task | None = None
    ready: bool = False


def work_by_ray(
    work: CollectionWork,
    drives: list[Drive],
    opener: Callable[[DetectConfig], Detector] = open_detector,
) -> dict[str, Fate]:
    """Do what is to be done for the drives, segment by segment, by Ray's actors.

    Args:
        work: the books.
        drives: the drives.
        opener: opens the detector in each actor.

    Returns:
        What became of each, by name.

    Raises:
        PerceptionBatchError: Ray gives no worker.
    """
    fates: dict[str, Fate] = {}
    todo: deque[tuple[Drive, Content | None]] = deque()
    for drive in drives:
        plan, content = work.plan(drive)
        passed = work.pass_over(drive, plan)
        if passed is not None:
            fates[drive.name] = passed
        elif plan.action == "refuse":
            fates[drive.name] = work.settle_here(drive, content, work.refused(drive, plan))
        else:
            todo.append((drive, content))
    if not todo:
        return fates
    with ExitStack() as stack:
        ray = _started(stack, work.request.workers)
        stack.enter_context(handled())  # Ray has put handlers of its own in the place of ours
        cores, count, gpu = _shares(ray, work.request.workers, work.request.config.detect.device)
        request = work.request
        level = logging.getLogger().getEffectiveLevel()
        setup = WorkerSetup(request.config.detect, opener, cores, gpu, request.out / FOLDER / EVENTS, level)
        progress = stack.enter_context(CollectionProgress(len(todo)))
        _Engine(ray, work, setup, count, todo, fates, progress).run()
    return fates


def _started(stack: ExitStack, workers: int | None) -> Any:
    """Ray, on the cluster that ``RAY_ADDRESS`` names, else on this machine alone for as long as this command."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nobody is told that this ran
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # an actor without a device is told by us
    os.environ.setdefault("RAY_worker_niceness", "0")  # as the local engine's; Ray's own is 15
    import ray

    if not ray.is_initialized():
        options: dict[str, Any] = {
            "include_dashboard": False,
            "configure_logging": False,
            "log_to_driver": False,
            "logging_level": logging.ERROR,
        }
        cluster = os.environ.get("RAY_ADDRESS")
        if cluster:
            del options["include_dashboard"]
        else:
            most = max(usable_cores(), workers or 1)
            options |= {"address": "local", "num_cpus": most, "object_store_memory": _OBJECT_STORE_BYTES}
        try:
            with held():
                ray.init(**options)
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            why = " ".join(str(error).split())[:300]
            raise PerceptionBatchError(f"Ray does not start: {printable(why)}") from None
        stack.callback(ray.shutdown)
    return ray


def _shares(ray: Any, workers: int | None, device: str) -> tuple[int, int, bool]:
    """Cores of each actor, how many actors, and whether each has a GPU."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus and device != "cpu":
        cores = min(int(node.get("CPU", 1)) // int(node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1)
        return max(1, cores), workers or gpus, True
    most = max((int(node.get("CPU", 1)) for node in nodes), default=1)
    cores = min(most, MOST_COPIES)
    if workers is not None:
        cores = max(1, min(cores, sum(int(node.get("CPU", 1)) for node in nodes) // workers))
    fit = sum(int(node.get("CPU", 1)) // cores for node in nodes)
    return cores, workers or max(1, fit), False


class _Engine:
    """The actors and their tasks."""

    def __init__(
        self,
        ray: Any,
        work: CollectionWork,
        setup: WorkerSetup,
        count: int,
        todo: deque[tuple[Drive, Content | None]],
        fates: dict[str, Fate],
        progress: CollectionProgress,
    ) -> None:
        self._ray = ray
        self._work = work
        self._progress = progress
        self._setup = ray.put(setup)
        options = {"num_cpus": setup.cores, "num_gpus": 1 if setup.gpu else 0, "max_restarts": 0}
        self._make = ray.remote(**options)(SegmentWorker)
        self._count = count
        self._todo = todo
        self._fates = fates
        self._actors: list[_Actor] = []
        self._tasks: deque[_Task] = deque()
        self._at_work: dict[str, _DriveAtWork] = {}
        self._renewed_s = self._alive_s = time.monotonic()

    def run(self) -> None:
        """Until all is done, or a signal."""
        try:
            while self._todo or self._at_work:
                with held():  # a signal comes out between Ray's calls, never within one
                    self._fill()
                self._hear()
                self._renew()
        finally:
            for actor in self._actors:
                with suppress(Exception):
                    self._ray.kill(actor.handle, no_restart=True)
            for at in self._at_work.values():
                at.unlock.close()

    # ------------------------------------------------------------------ giving work

    def _fill(self) -> None:
        while len(self._actors) < self._count:
            handle = self._make.remote(self._setup)
            self._actors.append(_Actor(handle, handle.where.remote()))
        # Ahead by a segment for each actor: the next drive's plan is there before this one's segments run out.
        while self._todo and sum(task.kind != "finish" for task in self._tasks) < self._count:
            self._begin(*self._todo.popleft())
        for actor in self._actors:
            if actor.ready and actor.task is None and self._tasks:
                self._give(actor, self._tasks.popleft())

    def _begin(self, drive: Drive, content: Content | None) -> None:
        at = _DriveAtWork(drive, content, self._work.begin(drive, content))
        try:
            at.output = at.unlock.enter_context(hold_output(at.job, self._work.events, pull=False))
        except LockedError as error:
            self._end(at, DriveResult("waiting", why=str(error)))
            return
        except (PerceptionBatchError, OSError) as error:
            status = getattr(error, "exit_status", EXIT_NOTHING)
            self._end(at, DriveResult("failed", why=str(error), exit_status=status))
            return
        self._at_work[drive.name] = at
        self._note(at, "begins", new=True)
        self._progress.begin(drive.name)
        self._tasks.append(_Task("prepare", at))

    def _give(self, actor: _Actor, task: _Task) -> None:
        at, handle = task.at, actor.handle
        actor.task = task
        if task.kind == "prepare":
            actor.call = handle.prepare.remote(at.job)
        elif task.kind == "detect":
            actor.call = handle.detect.remote(at.prepared, task.segment)
        else:
            at.unlock.close()  # the run takes the lock itself
            at.output = None
            actor.call = handle.finish.remote(at.job if at.prepared is None else at.prepared.job)

    # ------------------------------------------------------------------ taking results

    def _hear(self) -> None:
        waiting = {actor.call: actor for actor in self._actors if actor.call is not None}
        with held():
            done, _ = self._ray.wait(list(waiting), num_returns=1, timeout=_TICK_S)
        for call in done:
            self._answered(waiting[call], call)
        if any(actor.ready for actor in self._actors):
            self._alive_s = time.monotonic()
        elif time.monotonic() - self._alive_s > _NO_WORKER_S:
            raise PerceptionBatchError(
                f"Ray has given no worker for {_NO_WORKER_S:.0f} s: {self._count} actors were asked for; see `ray status`, "
                "and give fewer --workers"
            )

    def _answered(self, actor: _Actor, call: Any) -> None:
        task, actor.task, actor.call = actor.task, None, None
        try:
            with held():
                answer = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            if task is None:
                raise PerceptionBatchError(f"a worker does not start: {_line(error)}") from None
            self._note(task.at, str(error))
            log = printable(log_path(self._work.request.out, task.at.drive.name))
            why = f"unexpected {_line(error)} (see {log})"
            self._failed(task, DriveResult("failed", why=why, exit_status=EXIT_NOTHING))
            return
        except self._ray.exceptions.RayError as error:
            self._lost(actor, task, error)
            return
        if task is None:
            actor.ready = True
            _log.info("worker %s is ready", answer)
            return
        self._took(task, answer)

    def _lost(self, actor: _Actor, task: _Task | None, error: Exception) -> None:
        """A worker has died; its task goes to another, first of all."""
        self._actors.remove(actor)
        with suppress(Exception):
            self._ray.kill(actor.handle, no_restart=True)
        if task is None:
            return
        task.losses += 1
        what = f"{task.kind} {task.segment}" if task.kind == "detect" else task.kind
        why = f"a worker was lost at {what}: {_line(error)}"
        self._note(task.at, why)
        self._work.events.write("retry", drive=task.at.drive.name, why=why, failures=task.losses, wait_s=0.0)
        if task.losses >= MOST_LOSSES:
            self._failed(
                task, DriveResult("failed", why=f"{why} ({task.losses} times)", exit_status=EXIT_RETRY)
            )
        else:
            _log.warning("%s: %s", task.at.drive.name, why)
            self._tasks.appendleft(task)

    def _took(self, task: _Task, answer: Answer) -> None:
        at, value, name = task.at, answer.value, task.at.drive.name
        for level, text in answer.said:
            _log.log(level, "%s: %s", name, text)
            self._note(at, text)
        for facts in answer.retries:
            self._work.events.write("retry", drive=name, **facts)
        if isinstance(value, DriveResult):
            if task.kind == "finish":
                self._end(at, value)
            else:
                self._failed(task, value)
        elif isinstance(value, PreparedDrive):
            at.prepared, at.left = value, len(value.missing)
            self._tasks.extend(_Task("detect", at, segment) for segment in value.missing)
            if not at.left:
                self._tasks.appendleft(_Task("finish", at))
        else:
            self._landed(task, value, answer.where)

    def _landed(self, task: _Task, value: LandedSegment, where: str) -> None:
        at = task.at
        at.left -= 1
        if at.failed is None:
            name = at.drive.name
            self._work.events.write(
                "segment_landed", drive=name, segment=task.segment, images=value.images, worker=where
            )
            self._note(at, f"segment {task.segment}: {value.images} images, {value.wall_s:.1f} s, {where}")
            self._progress.advance(name, value.images)
            if not at.left:
                self._tasks.appendleft(_Task("finish", at))
        elif not at.left:
            self._end(at, at.failed)

    def _failed(self, task: _Task, result: DriveResult) -> None:
        """The drive has failed; what is not begun of it is dropped, what runs is waited for."""
        at = task.at
        at.failed = at.failed or result
        dropped = [other for other in self._tasks if other.at is at]
        self._tasks = deque(other for other in self._tasks if other.at is not at)
        at.left -= len(dropped) + (task.kind == "detect")
        if at.left <= 0:
            self._end(at, at.failed)

    def _end(self, at: _DriveAtWork, result: DriveResult) -> None:
        at.unlock.close()
        self._at_work.pop(at.drive.name, None)
        self._note(at, f"{result.kind} {result.why}".rstrip())
        self._progress.end(at.drive.name)
        self._fates[at.drive.name] = self._work.settle_here(at.drive, at.content, result)

    # ------------------------------------------------------------------ beside it

    def _renew(self) -> None:
        if time.monotonic() - self._renewed_s < _RENEWAL_S:
            return
        self._renewed_s = time.monotonic()
        for at in self._at_work.values():
            if at.output is not None:
                with suppress(LockedError):  # the run that ends the drive sees who has taken it
                    at.output.renew()

    def _note(self, at: _DriveAtWork, text: str, *, new: bool = False) -> None:
        """A line in the drive's log; a full disk costs it."""
        path: Path = log_path(self._work.request.out, at.drive.name)
        now = datetime.now(timezone.utc).strftime("%H:%M:%S")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w" if new else "a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write("".join(f"{now} {printable(line)}\n" for line in text.splitlines() or [""]))


def _line(error: Exception) -> str:
    """One line of an error of Ray's, whose text is pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1] if isinstance(getattr(error, "cause", None), Exception) and lines else (lines or [""])[0]
    return f"{type(error).__name__}: {printable(said)[:200]}"

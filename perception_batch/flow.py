"""Where the threads are, and the only place: bounded, order-keeping, closed from downstream.

Every function takes an iterator and gives an iterator. Without them (``threads=False`` in the pipeline) the
same stages run in one thread with the same result; that is the debugging mode, and a test.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")
Running = Future
"""A call that is being made in a thread of this module."""


@dataclass(slots=True)
class QueueStats:
    """Time spent waiting at one seam: the profile of a run."""

    name: str
    """The stage that feeds the seam."""
    put_wait_s: float = 0.0
    """Seconds that the feeding stage waited because the queue was full."""
    get_wait_s: float = 0.0
    """Seconds that the consuming stage waited because the queue was empty."""
    items: int = 0
    """Items that went through."""
    peak_bytes: int = 0
    """Most bytes that were queued at once."""


@dataclass(slots=True)
class StageTime:
    """Time that one stage worked, all its threads together."""

    name: str
    """The stage."""
    busy_s: float = 0.0
    """Seconds of work."""
    items: int = 0
    """Items worked on."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    clock: ClassVar[Callable[[], float]] = time.perf_counter
    """Wall time. A process without threads that asks what the stages cost sets it to CPU time (`stage_costs`)."""

    def add(self, seconds: float, items: int = 1) -> None:
        """Count work; safe from any thread."""
        with self._lock:
            self.busy_s += seconds
            self.items += items

    @contextlib.contextmanager
    def measure(self, items: int = 1) -> Generator[None, None, None]:
        """Count the time of a ``with`` block."""
        start = StageTime.clock()
        try:
            yield
        finally:
            self.add(StageTime.clock() - start, items)


def timed(source: Iterable[A], stage: StageTime) -> Iterator[A]:
    """Count the time that `source` takes to make each item."""
    iterator = iter(source)
    try:
        while True:
            with stage.measure():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
    finally:
        _close(iterator)


class _Failure:
    """An exception on its way downstream."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _End:
    """The source is exhausted."""


class _Channel(Generic[A]):
    """A queue bounded in items and bytes, which can be closed from the reading side."""

    def __init__(self, depth: int, limit_bytes: int, stats: QueueStats) -> None:
        self._items: deque[tuple[A | _Failure | _End, int]] = deque()
        self._condition = threading.Condition()
        self._depth, self._limit, self._bytes = depth, limit_bytes, 0
        self._closed = False
        self._stats = stats

    def put(self, item: A | _Failure | _End, size: int) -> bool:
        """Wait for room, then add; False once the reader has closed. One item always fits."""
        start = time.perf_counter()
        with self._condition:
            while not self._closed and (
                len(self._items) >= self._depth or (self._items and self._bytes + size > self._limit)
            ):
                self._condition.wait()
            self._stats.put_wait_s += time.perf_counter() - start
            if self._closed:
                return False
            self._items.append((item, size))
            self._bytes += size
            self._stats.peak_bytes = max(self._stats.peak_bytes, self._bytes)
            self._condition.notify_all()
            return True

    def get(self) -> A | _Failure | _End:
        start = time.perf_counter()
        with self._condition:
            while not self._items:
                self._condition.wait()
            item, size = self._items.popleft()
            self._bytes -= size
            self._stats.get_wait_s += time.perf_counter() - start
            self._condition.notify_all()
            return item

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._items.clear()
            self._condition.notify_all()


def prefetch(
    source: Iterable[A],
    *,
    depth: int,
    name: str,
    stats: QueueStats | None = None,
    limit_bytes: int = 1 << 62,
    size_of: Callable[[A], int] = lambda _: 0,
) -> Generator[A, None, None]:
    """Run `source` in a thread of its own, at most `depth` items and `limit_bytes` bytes ahead.

    The items and their order are unchanged. An exception of the source is raised here with a note that
    names the seam. Closing the generator stops and joins the thread and closes the source.

    Raises:
        ValueError: `depth` is less than one.
    """
    if depth < 1:
        raise ValueError(f"prefetch {name!r}: depth is {depth}, the least is 1")
    stats = stats if stats is not None else QueueStats(name)
    return _prefetch(iter(source), depth, name, stats, limit_bytes, size_of)


def _prefetch(
    source: Iterator[A],
    depth: int,
    name: str,
    stats: QueueStats,
    limit_bytes: int,
    size_of: Callable[[A], int],
) -> Generator[A, None, None]:
    channel: _Channel[A] = _Channel(depth, limit_bytes, stats)

    def work() -> None:
        last: _Failure | _End = _End()
        try:
            for item in source:
                if not channel.put(item, size_of(item)):
                    break
        except BaseException as error:
            last = _Failure(error)
        finally:
            try:
                _close(source)
            except BaseException as error:
                last = _Failure(error)
            channel.put(last, 0)

    thread = threading.Thread(target=work, name=f"flow-{name}", daemon=True)
    thread.start()
    try:
        while True:
            item = channel.get()
            if isinstance(item, _End):
                return
            if isinstance(item, _Failure):
                _note(item.error, f"in stage {name!r}")
                raise item.error
            stats.items += 1
            yield item
    finally:
        channel.close()
        thread.join()


def ordered_map(
    function: Callable[[A], B],
    items: Iterable[A],
    *,
    workers: int,
    name: str,
    limit_bytes: int = 1 << 62,
    size_of: Callable[[A], int] = lambda _: 0,
) -> Generator[B, None, None]:
    """``map`` by `workers` threads, in order, at most ``2 * workers`` items or `limit_bytes` ahead.

    The source is read in the caller's thread. An exception of `function` is raised where its item stood.
    Closing the generator waits for the calls that run and closes the source.

    Raises:
        ValueError: `workers` is less than one.
    """
    if workers < 1:
        raise ValueError(f"ordered_map {name!r}: workers is {workers}, the least is 1")
    return _ordered_map(function, iter(items), workers, name, limit_bytes, size_of)


def _ordered_map(
    function: Callable[[A], B],
    source: Iterator[A],
    workers: int,
    name: str,
    limit_bytes: int,
    size_of: Callable[[A], int],
) -> Generator[B, None, None]:
    pending: deque[tuple[Future[B], int]] = deque()
    pending_bytes = 0
    pool = ThreadPoolExecutor(workers, thread_name_prefix=f"flow-{name}")
    try:
        exhausted = False
        while pending or not exhausted:
            while (
                not exhausted and len(pending) < 2 * workers and (not pending or pending_bytes < limit_bytes)
            ):
                try:
                    item = next(source)
                except StopIteration:
                    exhausted = True
                    break
                size = size_of(item)
                pending.append((pool.submit(function, item), size))
                pending_bytes += size
                del item
            if pending:
                future, size = pending.popleft()
                pending_bytes -= size
                try:
                    result = future.result()
                except BaseException as error:
                    _note(error, f"in stage {name!r}")
                    raise
                del future
                yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        _close(source)


class Lanes(Generic[A, B]):
    """Runs batches: at once, or each in the lane whose turn it is, by whichever of its functions is free."""

    def __init__(self, functions: Sequence[Callable[[list[A]], list[B]]], lanes: int, name: str) -> None:
        self._name = name
        self._free = [deque(functions[lane::lanes]) for lane in range(lanes)]
        self._next = 0
        self.at_once = len(functions)
        self._pools = [
            ThreadPoolExecutor(len(free), thread_name_prefix=f"flow-{name}")
            for free in (self._free if self.at_once > 1 else ())
        ]

    def submit(self, batch: list[A]) -> Future[list[B]]:
        lane, self._next = self._next, (self._next + 1) % len(self._free)
        if self._pools:
            return self._pools[lane].submit(self._run, batch, lane)
        done: Future[list[B]] = Future()
        done.set_result(self._run(batch, lane))
        return done

    def _run(self, batch: list[A], lane: int) -> list[B]:
        free = self._free[lane]
        function = free.popleft()  # never empty: the lane has as many threads as functions
        try:
            results = function(batch)
        except BaseException as error:
            _note(error, f"in stage {self._name!r}")
            raise
        finally:
            free.append(function)
        if len(results) != len(batch):
            raise ValueError(f"a batch of {len(batch)} gave {len(results)} results")
        return results

    def restart(self) -> None:
        """The next batch goes to the first lane."""
        self._next = 0

    def wait_for_room(self, running: deque[Future[list[B]]]) -> None:
        """Wait until at most one more batch than can run lies ready."""
        while len(running) > self.at_once:
            wait([running.popleft()])

    def close(self) -> None:
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)


class Started(Generic[A]):
    """A call that runs in a thread of its own; see `started`."""

    def __init__(self, function: Callable[[], A], name: str, *, threads: bool) -> None:
        self._future: Future[A] = Future()
        self._function = function
        self._thread = threading.Thread(target=self._work, name=f"flow-{name}") if threads else None
        if self._thread is not None:
            self._thread.start()

    def _work(self) -> None:
        try:
            self._future.set_result(self._function())
        except BaseException as error:
            self._future.set_exception(error)

    def result(self) -> A:
        """What the call gave, or raised; waits for it. Without threads it is called now, the first time."""
        if self._thread is not None:
            self._thread.join()
        elif not self._future.done():
            self._work()
        return self._future.result()

    def join(self) -> None:
        """Wait for the call, whatever it gave."""
        if self._thread is not None:
            self._thread.join()

    def peek(self) -> A | None:
        """What the call gave; None where it has not been made, or raised."""
        done = self._future.done() and self._future.exception() is None
        return self._future.result() if done else None


@contextlib.contextmanager
def started(
    function: Callable[[], A],
    name: str,
    *,
    threads: bool = True,
    undo: Callable[[A], object] = lambda _: None,
) -> Generator[Started[A], None, None]:
    """Run `function` in a thread of its own beside the ``with`` block, whose end waits for it.

    Args:
        function: what to do.
        name: of the thread.
        threads: False: it is called when its result is first asked for.
        undo: called with its result at the end of the block, such as what closes it.
    """
    call = Started(function, name, threads=threads)
    try:
        yield call
    finally:
        call.join()
        made = call.peek()
        if made is not None:
            undo(made)


def _note(error: BaseException, text: str) -> None:
    """Add a note to an exception once (PEP 678; kept as an attribute where Python is older)."""
    notes = list(getattr(error, "__notes__", []))
    if text not in notes:
        error.__notes__ = [*notes, text]


@contextlib.contextmanager
def closed(source: object) -> Generator[None, None, None]:
    """Close `source` at the end of a ``with`` block, also on error: a generator that reads another one uses it."""
    try:
        yield
    finally:
        _close(source)


def _close(source: object) -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()

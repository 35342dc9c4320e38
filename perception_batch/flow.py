"""Where the threads are, and the only place: bounded, order-keeping, closed from downstream.

Every function takes an iterator and gives an iterator. Without them (``threads=False`` in the pipeline) the
same stages run in one thread with the same result; that is the debugging mode, and a test.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


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

    def add(self, seconds: float, items: int = 1) -> None:
        """Count work; safe from any thread."""
        with self._lock:
            self.busy_s += seconds
            self.items += items

    @contextlib.contextmanager
    def measure(self, items: int = 1) -> Generator[None, None, None]:
        """Count the time of a ``with`` block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(time.perf_counter() - start, items)


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


def ordered_batches(
    functions: Sequence[Callable[[list[A]], list[B]]],
    items: Iterable[A],
    *,
    size: int,
    bucket: Callable[[A], Hashable | None],
    barrier: Callable[[A], Hashable] = lambda _: None,
    most_pending: int | None = None,
    name: str = "batch",
) -> Generator[tuple[A, B | None], None, None]:
    """Apply a function to lists of up to `size` items of one bucket, and give ``(item, result)`` in order.

    With one function it is called in the caller's thread. With several, which must give the same results,
    each has a batch of its own; none is ever called by two threads at once.

    An item whose bucket is None needs no work: its result is None. Lists are short only where the barrier
    changes (a new segment), at the end, or where a rare bucket would hold back more than `most_pending`
    items (default ``8 * size``). How items are grouped depends on their sequence alone, never on timing.

    Raises:
        ValueError: `size` is less than one, there is no function, or one gave another number of results.
    """
    if size < 1:
        raise ValueError(f"a batch holds at least 1 item, got {size}")
    if not functions:
        raise ValueError(f"ordered_batches {name!r}: needs at least one function")
    return _ordered_batches(
        _Batches(functions, name), iter(items), size, bucket, barrier, most_pending or 8 * size
    )


@dataclass(slots=True)
class _Slot(Generic[A, B]):
    item: A
    number: int
    """Position among all items."""
    needs_no_work: bool
    batch: Future[list[B]] | None = None
    """None while it waits for its batch to fill."""
    row: int = 0
    """Its place in the batch."""

    def is_ready(self) -> bool:
        return self.needs_no_work or (self.batch is not None and self.batch.done())

    def result(self) -> B | None:
        return None if self.batch is None else self.batch.result()[self.row]


class _Batches(Generic[A, B]):
    """Runs batches: at once, or each by whichever function is free."""

    def __init__(self, functions: Sequence[Callable[[list[A]], list[B]]], name: str) -> None:
        self._name = name
        self._free: deque[Callable[[list[A]], list[B]]] = deque(functions)
        self.at_once = len(functions)
        threads = ThreadPoolExecutor(self.at_once, thread_name_prefix=f"flow-{name}")
        self._pool = threads if self.at_once > 1 else None

    def submit(self, batch: list[A]) -> Future[list[B]]:
        if self._pool is not None:
            return self._pool.submit(self._run, batch)
        done: Future[list[B]] = Future()
        done.set_result(self._run(batch))
        return done

    def _run(self, batch: list[A]) -> list[B]:
        function = self._free.popleft()  # never empty: the pool has as many threads as there are functions
        try:
            results = function(batch)
        except BaseException as error:
            _note(error, f"in stage {self._name!r}")
            raise
        finally:
            self._free.append(function)
        if len(results) != len(batch):
            raise ValueError(f"a batch of {len(batch)} gave {len(results)} results")
        return results

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _ordered_batches(
    batches: _Batches[A, B],
    source: Iterator[A],
    size: int,
    bucket: Callable[[A], Hashable | None],
    barrier: Callable[[A], Hashable],
    most_pending: int,
) -> Generator[tuple[A, B | None], None, None]:
    order: deque[_Slot[A, B]] = deque()
    filling: dict[Hashable, list[_Slot[A, B]]] = {}
    running: deque[Future[list[B]]] = deque()
    current: Hashable = None

    def flush(key: Hashable) -> None:
        slots = filling.pop(key)
        while len(running) > batches.at_once:  # one more than can run lies ready; no more is taken in
            wait([running.popleft()])
        batch = batches.submit([slot.item for slot in slots])
        running.append(batch)
        for row, slot in enumerate(slots):
            slot.batch, slot.row = batch, row

    def drain(*, to_the_end: bool = False) -> Iterator[tuple[A, B | None]]:
        while order and (to_the_end or order[0].is_ready()):
            slot = order.popleft()
            yield slot.item, slot.result()

    try:
        for number, item in enumerate(source):
            key, fence = bucket(item), barrier(item)
            if number and fence != current:
                for open_key in list(filling):
                    flush(open_key)
            current = fence
            slot: _Slot[A, B] = _Slot(item, number, key is None)
            order.append(slot)
            if key is not None:
                filling.setdefault(key, []).append(slot)
                if len(filling[key]) == size:
                    flush(key)
            for open_key, slots in list(filling.items()):
                if number - slots[0].number >= most_pending:
                    flush(open_key)
            yield from drain()
        for open_key in list(filling):
            flush(open_key)
        yield from drain(to_the_end=True)
    finally:
        batches.close()
        _close(source)


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

"""flow: order kept, errors named, threads joined, sources closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.batches import ordered_batches
from perception_batch.flow import QueueStats, StageTime, ordered_map, prefetch, started, timed


def _flow_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("flow-")]


class Source:
    """Counts what was taken, fails at a given item, and knows whether it was closed."""

    def __init__(self, n: int, fail_at: int | None = None) -> None:
        self.n, self.fail_at, self.taken, self.closed = n, fail_at, 0, False

    def __iter__(self) -> Iterator[int]:
        try:
            for i in range(self.n):
                if i == self.fail_at:
                    raise OSError(f"item {i}")
                self.taken += 1
                yield i
        finally:
            self.closed = True


@given(items=st.lists(st.integers(), max_size=40), depth=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_prefetch_is_the_identity(items: list[int], depth: int) -> None:
    assert list(prefetch(items, depth=depth, name="x")) == items
    assert not _flow_threads()


@given(items=st.lists(st.integers(), max_size=40), workers=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_ordered_map_is_map(items: list[int], workers: int) -> None:
    assert list(ordered_map(lambda x: x * 3, items, workers=workers, name="x")) == [x * 3 for x in items]
    assert not _flow_threads()


def test_ordered_map_keeps_order_when_early_items_are_slow() -> None:
    def slow_first(x: int) -> int:
        time.sleep(0.02 if x % 3 == 0 else 0)
        return x

    assert list(ordered_map(slow_first, range(20), workers=4, name="x")) == list(range(20))


@pytest.mark.parametrize("fail_at", [0, 5, 9])
@pytest.mark.parametrize("stage", ["prefetch", "ordered_map", "ordered_map function", "nested"])
def test_a_failure_names_its_stage_and_leaves_nothing_running(stage: str, fail_at: int) -> None:
    source = Source(10, None if stage == "ordered_map function" else fail_at)
    got: list[int] = []

    def work(x: int) -> int:
        if x == fail_at and stage == "ordered_map function":
            raise OSError(f"item {x}")
        return x

    def chain() -> Iterator[int]:
        if stage == "prefetch":
            return prefetch(source, depth=2, name="reading")
        if stage == "nested":
            inner = prefetch(source, depth=2, name="reading")
            return prefetch(ordered_map(work, inner, workers=2, name="decoding"), depth=1, name="outer")
        return ordered_map(work, source, workers=2, name="reading")

    with pytest.raises(OSError, match=f"item {fail_at}") as caught:
        got.extend(chain())
    if stage != "ordered_map":  # its source runs in the caller's thread: the traceback names it
        assert any("reading" in note for note in caught.value.__notes__)
    assert got == list(range(len(got)))
    assert len(got) <= fail_at
    if stage == "prefetch":
        assert len(got) == fail_at
    assert source.closed
    assert not _flow_threads()


@pytest.mark.parametrize("take", [0, 1, 7])
def test_closing_the_consumer_stops_the_thread_and_closes_the_source(take: int) -> None:
    source = Source(10_000)
    stream = prefetch(source, depth=3, name="x")
    for _ in range(take):
        next(stream)
    stream.close()
    assert source.closed or take == 0
    assert source.taken <= take + 5
    assert not _flow_threads()


def test_prefetch_is_bounded_in_bytes() -> None:
    source = Source(100)
    stats = QueueStats("x")
    stream = prefetch(source, depth=100, name="x", stats=stats, limit_bytes=1000, size_of=lambda _: 300)
    next(stream)
    time.sleep(0.1)
    assert source.taken <= 1 + 3 + 1  # taken by us, queued, in the thread's hand
    assert len(list(stream)) == 99
    assert stats.items == 100
    assert 600 <= stats.peak_bytes <= 1000


def test_an_item_larger_than_the_bound_still_passes() -> None:
    assert list(prefetch([1, 2], depth=4, name="x", limit_bytes=10, size_of=lambda _: 100)) == [1, 2]


def test_waits_are_recorded() -> None:
    def slow() -> Iterator[int]:
        for i in range(3):
            time.sleep(0.02)
            yield i

    stats = QueueStats("slow")
    assert list(prefetch(slow(), depth=1, name="slow", stats=stats)) == [0, 1, 2]
    assert stats.get_wait_s > 0.03
    stage = StageTime("slow")
    assert list(timed(slow(), stage)) == [0, 1, 2]
    assert stage.busy_s > 0.05


@given(
    keys=st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=60),
    size=st.integers(1, 7),
    segment=st.integers(1, 25),
    most_pending=st.integers(1, 30),
    workers=st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_ordered_batches_returns_each_result_to_its_item(
    keys: list[str | None], size: int, segment: int, most_pending: int, workers: int
) -> None:
    seen: list[list[tuple[int, str | None]]] = []

    def detect(batch: list[tuple[int, str | None]]) -> list[int]:
        seen.append(batch)
        return [i * 10 for i, _ in batch]

    def grouping(functions: int) -> set[tuple[int, ...]]:
        seen.clear()
        list(
            ordered_batches(
                [detect] * functions,
                enumerate(keys),
                size=size,
                bucket=lambda item: item[1],
                barrier=lambda item: item[0] // segment,
                most_pending=most_pending,
            )
        )
        return {tuple(i for i, _ in batch) for batch in seen}

    assert grouping(workers) == grouping(1), "how items are grouped must not depend on timing"
    seen.clear()

    out = list(
        ordered_batches(
            [detect] * workers,
            enumerate(keys),
            size=size,
            bucket=lambda item: item[1],
            barrier=lambda item: item[0] // segment,
            most_pending=most_pending,
        )
    )
    assert [item for item, _ in out] == list(enumerate(keys))
    assert [result for _, result in out] == [None if k is None else i * 10 for i, k in enumerate(keys)]
    for batch in seen:
        assert 1 <= len(batch) <= size
        assert len({key for _, key in batch}) == 1
        assert len({i // segment for i, _ in batch}) == 1


def test_ordered_batches_refuses_a_wrong_number_of_results() -> None:
    with pytest.raises(ValueError, match="a batch of 2 gave 1 results"):
        list(ordered_batches([lambda b: [1]], [1, 2], size=2, bucket=lambda _: 0))


def test_each_function_is_called_by_one_thread_at_a_time_and_all_work_at_once() -> None:
    busy = [0, 0, 0]
    most = [0]

    def function(k: int) -> Callable[[list[int]], list[int]]:
        def work(batch: list[int]) -> list[int]:
            busy[k] += 1
            assert busy[k] == 1
            most[0] = max(most[0], sum(busy))
            time.sleep(0.01)
            busy[k] -= 1
            return batch

        return work

    functions = [function(k) for k in range(3)]
    out = list(ordered_batches(functions, range(60), size=4, bucket=lambda _: 0))
    assert [r for _, r in out] == list(range(60))
    assert most[0] == 3
    assert not _flow_threads()


@pytest.mark.parametrize("fail_at", [0, 7, 19])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_failing_batch_ends_the_stream_after_those_before_it(fail_at: int, workers: int) -> None:
    def work(batch: list[int]) -> list[int]:
        if fail_at in batch:
            raise OSError("no memory")
        return batch

    source = Source(20)
    got: list[int] = []
    with pytest.raises(OSError, match="no memory") as caught:
        for item, _ in ordered_batches([work] * workers, source, size=4, bucket=lambda _: 0, name="detect"):
            got.append(item)
    assert got == list(range(fail_at // 4 * 4))
    assert caught.value.__notes__ == ["in stage 'detect'"]
    assert source.closed
    assert not _flow_threads()


@pytest.mark.parametrize(
    "make", [lambda: prefetch([], depth=0, name="x"), lambda: ordered_map(str, [], workers=0, name="x")]
)
def test_nonsense_sizes_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="the least is 1"):
        make()  # type: ignore[operator]


def test_batches_take_the_lanes_in_turn_whatever_is_free() -> None:
    """Which device a batch goes to must not depend on timing; within a device any copy takes it."""
    seen: dict[int, list[int]] = {lane: [] for lane in range(2)}

    def work(lane: int, batch: list[int]) -> list[int]:
        time.sleep(0.004 if lane else 0.0)  # the second device is slow
        seen[lane].append(batch[0] // 3)
        return [-item for item in batch]

    functions = [partial(work, index % 2) for index in range(4)]
    out = list(ordered_batches(functions, range(30), size=3, bucket=lambda _: 0, lanes=2))
    assert out == [(item, -item) for item in range(30)]
    assert sorted(seen[0]) == [0, 2, 4, 6, 8] and sorted(seen[1]) == [1, 3, 5, 7, 9]
    with pytest.raises(ValueError, match="one for each lane"):
        list(ordered_batches(functions[:1], [1], size=1, bucket=lambda _: 0, lanes=2))


@pytest.mark.parametrize("threads", [True, False])
def test_what_is_started_ends_with_its_block(threads: bool) -> None:
    undone: list[int] = []
    with started(lambda: 7, "seven", threads=threads, undo=undone.append) as call:
        assert call.result() == call.result() == 7
    assert undone == [7]
    with (
        pytest.raises(OSError, match="of the block"),
        started(lambda: 8, "eight", threads=True, undo=undone.append),
    ):
        raise OSError("of the block")
    assert undone == [7, 8], "what was made meanwhile is closed"
    with (
        started(lambda: 1 // 0, "fails", threads=threads, undo=undone.append) as failing,
        pytest.raises(ZeroDivisionError),
    ):
        failing.result()
    assert undone == [7, 8]
    assert not [t for t in threading.enumerate() if t.name.startswith("flow-")]

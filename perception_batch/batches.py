"""Items gathered into batches of one kind, and their results given back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from perception_batch import flow

A = TypeVar("A")
B = TypeVar("B")


def ordered_batches(
    functions: Sequence[Callable[[list[A]], list[B]]],
    items: Iterable[A],
    *,
    size: int,
    bucket: Callable[[A], Hashable | None],
    barrier: Callable[[A], Hashable] = lambda _: None,
    most_pending: int | None = None,
    lanes: int = 1,
    name: str = "batch",
) -> Generator[tuple[A, B | None], None, None]:
    """Apply a function to lists of up to `size` items of one bucket, and give ``(item, result)`` in order.

    With one function it is called in the caller's thread. With several, which must give the same results,
    each has a batch of its own; none is ever called by two threads at once. With several `lanes` the functions are
    shared out to them in turn, and so are the batches, anew behind each barrier: which lane a batch goes to never depends
    on timing, nor on what was before the barrier.

    An item whose bucket is None needs no work: its result is None. Lists are short only where the barrier
    changes (a new segment), at the end, or where a rare bucket would hold back more than `most_pending`
    items (default ``8 * size``). How items are grouped depends on their sequence alone, never on timing.

    Raises:
        ValueError: `size` is less than one, there is no function for a lane, or one gave another number of results.
    """
    if size < 1:
        raise ValueError(f"a batch holds at least 1 item, got {size}")
    if not 1 <= lanes <= len(functions):
        raise ValueError(f"ordered_batches {name!r}: needs at least one function, and one for each lane")
    return _ordered_batches(
        flow.Lanes(functions, lanes, name), iter(items), size, bucket, barrier, most_pending or 8 * size
    )


@dataclass(slots=True)
class _Slot(Generic[A, B]):
    item: A
    number: int
    """Position among all items."""
    needs_no_work: bool
    batch: flow.Running[list[B]] | None = None
    """None while it waits for its batch to fill."""
    row: int = 0
    """Its place in the batch."""

    def is_ready(self) -> bool:
        return self.needs_no_work or (self.batch is not None and self.batch.done())

    def result(self) -> B | None:
        return None if self.batch is None else self.batch.result()[self.row]


def _ordered_batches(
    batches: flow.Lanes[A, B],
    source: Iterator[A],
    size: int,
    bucket: Callable[[A], Hashable | None],
    barrier: Callable[[A], Hashable],
    most_pending: int,
) -> Generator[tuple[A, B | None], None, None]:
    order: deque[_Slot[A, B]] = deque()
    filling: dict[Hashable, list[_Slot[A, B]]] = {}
    running: deque[flow.Running[list[B]]] = deque()
    current: Hashable = None

    def flush(key: Hashable) -> None:
        slots = filling.pop(key)
        batches.wait_for_room(running)
        batch = batches.submit([slot.item for slot in slots])
        running.append(batch)
        for row, slot in enumerate(slots):
            slot.batch, slot.row = batch, row

    def drain(*, to_the_end: bool = False) -> Iterator[tuple[A, B | None]]:
        while order and (to_the_end or order[0].is_ready()):
            slot = order.popleft()
            yield slot.item, slot.result()

    with flow.closed(source), flow.closed(batches):  # batches end before the source is closed
        for number, item in enumerate(source):
            key, fence = bucket(item), barrier(item)
            if number and fence != current:
                for open_key in list(filling):
                    flush(open_key)
                batches.restart()
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

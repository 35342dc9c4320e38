"""Messages of parts of a file whose log times overlap, as one sequence in log-time order."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

from perception_batch.read.containers.mcap_spans import Content, Entry, Span
from perception_batch.read.containers.unpacking import Bytes

OVERLAP_BYTES = 256 << 20
"""Unpacked, of parts that overlap: beyond this, parts are let go and read again when it is their turn.

Recorders write chunks that overlap by a fraction of a second. Where parts do span each other by far (one message with
a wild log time is enough), rosbags holds them all.
"""

Load = Callable[[Span], "tuple[Content, list[Entry]] | None"]


class _Run:
    """A part whose messages are being taken."""

    __slots__ = ("data", "entries", "position", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.data: Bytes = b""
        self.entries: list[Entry] = []
        self.position = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def load(self, load: Load) -> bool:
        """Read it; False where no message is left in it."""
        loaded = load(self.span)
        if loaded is None:
            return False
        self.data, self.entries = loaded[0].data, loaded[1]
        return self.position < len(self.entries)

    def let_go(self) -> None:
        self.data, self.entries = b"", []


def in_log_order(
    spans: Sequence[Span], load: Load, overlap_bytes: int = OVERLAP_BYTES
) -> Iterator[tuple[Entry, Bytes]]:
    """Messages of `spans` in log-time order; at equal times, in the order of the file.

    Args:
        spans: parts of one file. A part is read when the time comes that it says it begins with.
        load: reads a part: its content and its messages in order; None where nothing can be read of it.
        overlap_bytes: see `OVERLAP_BYTES`.

    Yields:
        Each message, and the data that it stands in.
    """
    waiting = sorted(spans, key=_key, reverse=True)
    running: list[tuple[int, int, _Run]] = []
    held = 0
    while waiting or running:
        while waiting and (not running or _key(waiting[-1]) <= running[0][:2]):
            run = _Run(waiting.pop())
            if run.load(load):
                heapq.heappush(running, (run.entries[0].log_ns, run.span.at, run))
                held += run.size
                held -= _spare(running, held - overlap_bytes)
        if not running:
            continue
        _, at, run = heapq.heappop(running)
        if not run.entries:
            if not run.load(load):
                continue
            held += run.size
            held -= _spare(running, held - overlap_bytes)
        limits = [running[0][:2]] if running else []
        limits += [_key(waiting[-1])] if waiting else []
        yield from _taken(run, at, min(limits, default=None))
        if run.position < len(run.entries):
            heapq.heappush(running, (run.entries[run.position].log_ns, at, run))
        else:
            held -= run.size


def _taken(run: _Run, at: int, limit: tuple[int, int] | None) -> Iterator[tuple[Entry, Bytes]]:
    """The messages of a part before `limit`, at least one."""
    entries, data, i = run.entries, run.data, run.position
    stop = len(entries)
    if limit is not None and entries[-1].log_ns >= limit[0]:
        stop = i + 1
        while stop < len(entries) and (entries[stop].log_ns, at) <= limit:
            stop += 1
    # Counted first: a consumer that closes this generator leaves the part as it is.
    run.position = stop
    for entry in entries[i:stop] if (i, stop) != (0, len(entries)) else entries:
        yield entry, data


def _spare(running: list[tuple[int, int, _Run]], excess: int) -> int:
    """Let parts go, those whose turn comes last first, but never the next one; gives the bytes that were freed."""
    freed = 0
    if excess > 0:
        for _, _, run in sorted(running, key=lambda r: r[:2], reverse=True)[:-1]:
            if freed >= excess:
                break
            freed += run.size
            run.let_go()
    return freed


def _key(span: Span) -> tuple[int, int]:
    return span.first_ns, span.at

"""What is inside a ROS 1 bag: from its index, or from a scan of its records where that is absent or damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from perception_batch.read.containers.bag1_chunks import (
    ENTRY,
    Chunk,
    Connection,
    Entries,
    Walk,
    read_connection,
)
from perception_batch.read.containers.bag1_records import (
    CHUNK,
    CHUNK_INFO,
    CONNECTION,
    INDEX,
    MESSAGE,
    Bytes,
    Record,
    find_record,
    read_record,
)

MAGIC = b"#ROSBAG V2.0\n"
MAX_CONNECTIONS = 1 << 16
_MOST_WALKS_FOR_A_CONNECTION = 3

Walker = Callable[[int], Walk | None]
"""Walks through chunk number so-and-so; None where it cannot be unpacked."""


class IndexDamagedError(ValueError):
    """The index is absent, or disagrees with itself or with the file."""


@dataclass(slots=True)
class BagIndex:
    """Chunks and connections of a bag."""

    chunks: list[Chunk] = field(default_factory=list)
    """In the order of the file."""
    connections: dict[int, Connection] = field(default_factory=dict)
    """By the bag's number."""
    to_walk: set[int] = field(default_factory=set)
    """Numbers of the chunks whose index is absent, incomplete or doubtful."""
    orphans: list[tuple[int, Entries]] = field(default_factory=list)
    """(connection, messages) of index records whose chunk was not found."""
    damaged_at: list[int] = field(default_factory=list)
    """Bytes at which the trail of records was lost, and found again later."""
    cut_at: int = -1
    """Byte at which the last whole record ends, where more follows; -1 where nothing does."""

    def add_connection(self, connection: Connection | None) -> None:
        """Keep the first definition of a number."""
        if connection is None:
            return
        if len(self.connections) >= MAX_CONNECTIONS:
            raise ValueError(f"it has more than {MAX_CONNECTIONS} connections")
        self.connections.setdefault(connection.id, connection)


def times_ns(entries: Entries) -> npt.NDArray[np.int64]:
    """(N,) log times of index entries, ns."""
    seconds: npt.NDArray[np.int64] = entries["seconds"].astype(np.int64)
    return seconds * 10**9 + entries["nanoseconds"].astype(np.int64)


# ---------------------------------------------------------------------- the index that a closed bag has


def read_index(file: Bytes, header: Record | None) -> BagIndex:
    """What the index of a bag tells, checked against the chunks; `header` is None where it is damaged.

    Raises:
        IndexDamagedError: it is absent, or anything in it is wrong.
    """
    if header is None:
        raise IndexDamagedError("its header is damaged")
    index = BagIndex()
    at = header.number(b"index_pos")
    if at == 0:
        raise IndexDamagedError("never closed, so it has no index")
    for _ in range(header.number(b"conn_count")):
        record = _expect(file, at, CONNECTION)
        index.add_connection(read_connection(file, record))
        at = record.stop
    infos = []
    for _ in range(header.number(b"chunk_count")):
        record = _expect(file, at, CHUNK_INFO)
        infos.append((record.number(b"chunk_pos"), record, _counts(file, record)))
        at = record.stop
    free_from = header.stop
    doubtful = []
    for number, (position, info, counts) in enumerate(sorted(infos, key=lambda i: i[0])):
        record = _expect(file, position, CHUNK)
        if position < free_from:
            raise IndexDamagedError("it names a chunk twice")
        chunk = _chunk(record)
        free_from = record.stop
        for _ in counts:
            entry = _expect(file, free_from, INDEX)
            conn, entries = _entries(file, entry)
            if conn not in index.connections or conn in chunk.entries:
                raise IndexDamagedError("it names a connection that is not there")
            chunk.entries[conn] = entries
            free_from = entry.stop
        index.chunks.append(chunk)
        if {c: len(e) for c, e in chunk.entries.items()} != counts:
            index.to_walk.add(number)
        elif not _within(chunk, info):
            doubtful.append(number)
    # More than a few are the habit of a writer, not damage.
    if len(doubtful) <= max(1, len(infos) // 8):
        index.to_walk.update(doubtful)
    return index


def _expect(file: Bytes, at: int, kind: int) -> Record:
    record = read_record(file, at)
    if record is None or record.kind != kind or record.stop > file.size:
        raise IndexDamagedError("the index is damaged")
    return record


def _counts(file: Bytes, info: Record) -> dict[int, int]:
    """Messages by connection, as the index states them for a chunk."""
    if info.data_size != info.number(b"count") * 8:
        raise IndexDamagedError("the index is damaged")
    pairs = np.frombuffer(file.read(info.data_at, info.data_size), "<u4").reshape(-1, 2)
    return {int(conn): int(count) for conn, count in pairs}


def _within(chunk: Chunk, info: Record) -> bool:
    """False where a message is older or newer than the index says of the whole chunk."""
    times = [times_ns(entries) for entries in chunk.entries.values() if len(entries)]
    if not times:
        return True
    if {len(info.fields.get(name, b"")) for name in (b"start_time", b"end_time")} != {8}:
        return False
    first, last = min(int(t.min()) for t in times), max(int(t.max()) for t in times)
    return info.time_ns(b"start_time") <= first and last <= info.time_ns(b"end_time")


def _chunk(record: Record) -> Chunk:
    compression = record.fields[b"compression"].decode("ascii", "replace")
    return Chunk(record.data_at, record.data_size, compression)


def _entries(file: Bytes, record: Record) -> tuple[int, Entries]:
    if record.data_size != record.number(b"count") * ENTRY.itemsize or record.number(b"ver") != 1:
        raise IndexDamagedError("the index of a chunk is damaged")
    raw = file.read(record.data_at, record.data_size)
    return record.number(b"conn"), np.frombuffer(raw, ENTRY)


# ---------------------------------------------------------------------- the scan


def scan(file: Bytes, start: int) -> BagIndex:
    """What the records of a bag tell, from byte `start` on, whatever of them is there.

    Bodies of chunks are passed over: the index records behind a chunk tell what is inside.
    """
    scanned = BagIndex()
    at = start
    chunk: Chunk | None = None
    has_all = False  # of the index records of `chunk`
    while at < file.size:
        record = read_record(file, at)
        if record is not None and record.kind == INDEX and record.stop <= file.size:
            try:
                conn, entries = _entries(file, record)
            except IndexDamagedError:
                record = None
            else:
                if chunk is None:
                    scanned.orphans.append((conn, entries))
                else:
                    has_all = has_all and conn not in chunk.entries
                    chunk.entries[conn] = entries
                at = record.stop
                continue
        if record is None or (record.stop > file.size and record.kind != CHUNK):
            if chunk is not None and at == chunk.data_at + chunk.data_size and not chunk.entries:
                # Either the length of this chunk is wrong, or what follows it is damaged.
                found = find_record(file, chunk.data_at, (INDEX, CHUNK))
                if found is not None and found.at == at:  # this very record, which is damaged
                    found = find_record(file, at + 1, (INDEX, CHUNK))
                if found is not None and found.at < at:
                    chunk.data_size = found.at - chunk.data_at
                has_all = has_all and found is not None and found.at < at
            else:
                found = find_record(file, at + 1, (MESSAGE, INDEX, CHUNK, CONNECTION))
                has_all = False
                if found is not None:
                    scanned.damaged_at.append(at)
            if found is None:
                scanned.cut_at = at
            if found is None or found.kind != INDEX:
                _finish(scanned, chunk, False)
                chunk = None
            at = file.size if found is None else found.at
            continue
        _finish(scanned, chunk, has_all)
        chunk = None
        at = record.stop
        if record.kind == CHUNK:
            chunk = _chunk(record)
            has_all = True
            if record.stop > file.size:
                found = find_record(file, record.data_at, (INDEX, CHUNK))
                at = file.size if found is None else found.at
                chunk.data_size, chunk.cut = at - record.data_at, found is None
                has_all = not chunk.cut
                if chunk.cut:
                    scanned.cut_at = record.at
            scanned.chunks.append(chunk)
        elif record.kind == CONNECTION:
            scanned.add_connection(read_connection(file, record))
        elif record.kind == MESSAGE:
            # Messages whose chunk lost its header: a chunk without compression that begins here.
            found = find_record(file, record.stop, (INDEX, CHUNK))
            at = file.size if found is None else found.at
            scanned.chunks.append(Chunk(record.at, at - record.at, "none", cut=found is None))
            scanned.to_walk.add(len(scanned.chunks) - 1)
    _finish(scanned, chunk, False)
    return scanned


def _finish(scanned: BagIndex, chunk: Chunk | None, has_all: bool) -> None:
    """Settle the last chunk: only where all its index records are there is it known what it holds."""
    if chunk is not None and not (has_all and chunk.entries):
        scanned.to_walk.add(len(scanned.chunks) - 1)


def complete(index: BagIndex, walker: Walker) -> None:
    """Walk through the chunks that have to be, and those that introduce connections not known yet."""
    tried: Counter[int] = Counter()
    for number, chunk in enumerate(index.chunks):
        unknown = {
            conn
            for conn in chunk.entries
            if conn not in index.connections and tried[conn] < _MOST_WALKS_FOR_A_CONNECTION
        }
        if number not in index.to_walk and not unknown:
            continue
        tried.update(unknown)
        walked = walker(number)
        if walked is None:
            continue
        for connection in walked.connections:
            index.add_connection(connection)
        if number in index.to_walk:
            chunk.entries = walked.entries

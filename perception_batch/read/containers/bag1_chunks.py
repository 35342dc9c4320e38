"""Chunks of ROS 1 bags: unpacked, and walked through where no index tells what is inside."""

from __future__ import annotations

import bz2
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.read.containers.bag1_records import (
    CONNECTION,
    MESSAGE,
    Bytes,
    Record,
    find_record,
    parse_fields,
    read_record,
)
from perception_batch.read.containers.logfile import normalize_type, reason_of
from perception_batch.read.containers.place import MemoryBytes

MAX_CHUNK_BYTES = 512 << 20
"""Of a compressed chunk when unpacked; recorders begin a new one after 768 KB."""
MAX_DEFINITION_BYTES = 16 << 20
_STEP_BYTES = 1 << 20

ENTRY = np.dtype([("seconds", "<u4"), ("nanoseconds", "<u4"), ("offset", "<u4")])
"""One message in an index record: log time, and where it begins in its unpacked chunk."""

Entries = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Connection:
    """One topic of one publisher."""

    id: int
    """The bag's number."""
    topic: str
    """Topic name."""
    msgtype: str
    """Normalised."""
    definition: str
    """The message definition."""


@dataclass(slots=True)
class Chunk:
    """One chunk and what is known to be inside."""

    data_at: int
    """Where its data begin in the file."""
    data_size: int
    """Bytes of data that the file has."""
    compression: str
    """``none``, ``bz2`` or ``lz4``; another name where the record is damaged."""
    cut: bool = False
    """True where the file ends inside."""
    entries: dict[int, Entries] = field(default_factory=dict)
    """By connection: its messages."""


@dataclass(frozen=True, slots=True)
class Content:
    """The records of a chunk."""

    source: Bytes
    """Where they are read from."""
    begin: int
    """Where they begin there."""
    stop: int
    """Where they end there."""


@dataclass(slots=True)
class Walk:
    """What a walk through a chunk found."""

    entries: dict[int, Entries]
    """By connection: whole messages."""
    connections: list[Connection]
    """In the order found."""
    lost: list[tuple[int, int]]
    """(connection, log time) of messages that are not whole; (-1, 0) where even that is damaged."""


class ChunkRefused(ValueError):
    """A chunk that cannot be unpacked."""


def unpack_chunk(file: Bytes, chunk: Chunk, at_once_bytes: int) -> Content:
    """The records of `chunk`, in memory where they are compressed, or not larger than `at_once_bytes`.

    Raises:
        ChunkRefused: the decompressor finds it damaged, or it is too large.
    """
    compression = chunk.compression
    if compression not in ("none", "bz2", "lz4"):  # a damaged name: the data tell
        magic = file.read(chunk.data_at, 4)
        compression = {b"BZh": "bz2", b"\x04\x22\x4d": "lz4"}.get(magic[:3], "none")
    if compression == "none" and chunk.data_size <= at_once_bytes:
        read = file.read(chunk.data_at, chunk.data_size)
        return Content(MemoryBytes(read), 0, len(read))
    if compression == "none":
        return Content(file, chunk.data_at, chunk.data_at + chunk.data_size)
    data = _decompressed(file, chunk, _decompressor(compression))
    return Content(MemoryBytes(data), 0, len(data))


def _decompressor(compression: str) -> Any:
    if compression == "bz2":
        return bz2.BZ2Decompressor()
    import lz4.frame  # type: ignore[import-untyped]

    return lz4.frame.LZ4FrameDecompressor()


def _decompressed(file: Bytes, chunk: Chunk, decompressor: Any) -> bytearray:
    out = bytearray()
    at, stop = chunk.data_at, chunk.data_at + chunk.data_size
    while at < stop and not decompressor.eof:
        packed = file.read(at, min(_STEP_BYTES, stop - at))
        if not packed:
            break
        at += len(packed)
        while True:
            try:
                piece = decompressor.decompress(packed, _STEP_BYTES)
            except (OSError, RuntimeError, ValueError, EOFError) as error:
                raise ChunkRefused(f"a chunk cannot be unpacked: {reason_of(error)}") from error
            out += piece
            if len(out) > MAX_CHUNK_BYTES:
                raise ChunkRefused(f"a chunk unpacks to more than {MAX_CHUNK_BYTES >> 20} MiB")
            packed = b""
            if decompressor.eof or (not piece and decompressor.needs_input):
                break
    # Checksums stand at the end: without it only a cut chunk is believed, as nothing can be known of that.
    if not decompressor.eof and not chunk.cut:
        raise ChunkRefused("a chunk cannot be unpacked: its data end too early")
    return out


def read_connection(source: Bytes, record: Record, stop: int | None = None) -> Connection | None:
    """The connection that `record` describes; None where it is damaged."""
    if record.stop > (source.size if stop is None else stop) or record.data_size > MAX_DEFINITION_BYTES:
        return None
    fields = parse_fields(source.read(record.data_at, record.data_size))
    if not fields or not fields.get(b"type"):
        return None
    raw_topic = record.fields[b"topic"].decode("utf-8", "replace")
    topic = "/" * raw_topic.startswith("/") + "/".join(part for part in raw_topic.split("/") if part)
    return Connection(
        record.number(b"conn"),
        topic,
        normalize_type(fields[b"type"].decode("utf-8", "replace")),
        fields.get(b"message_definition", b"").decode("utf-8", "replace"),
    )


def walk(content: Content) -> Walk:
    """Every whole message of a chunk, record by record; what is damaged costs as little as possible.

    A message whose end leads to no other record is kept only where no record begins inside it: else its
    length is what is damaged.
    """
    source, begin, stop = content.source, content.begin, content.stop
    found: dict[int, list[tuple[int, int]]] = {}
    connections: list[Connection] = []
    lost: list[tuple[int, int]] = []
    at = begin
    record = read_record(source, at, stop)
    while at < stop:
        if record is None or record.kind not in (MESSAGE, CONNECTION):
            lost.append((-1, 0))
            record = find_record(source, at + 1, (MESSAGE, CONNECTION), stop)
            at = stop if record is None else record.at
            continue
        following = read_record(source, record.stop, stop) if record.stop < stop else None
        is_whole = record.stop <= stop
        if following is None and record.stop != stop:
            inside = find_record(source, record.data_at, (MESSAGE, CONNECTION), stop)
            if inside is not None and inside.at < record.stop:
                following, is_whole = inside, False
        if record.kind == CONNECTION:
            connection = read_connection(source, record, stop) if is_whole else None
            if connection is not None:
                connections.append(connection)
        elif is_whole:
            found.setdefault(record.number(b"conn"), []).append((record.time_ns(b"time"), record.at - begin))
        else:
            lost.append((record.number(b"conn"), record.time_ns(b"time")))
        at = record.stop if is_whole or following is None else following.at
        record = following
    entries = {}
    for conn, rows in found.items():
        entries[conn] = np.array([(t // 10**9, t % 10**9, offset) for t, offset in rows], ENTRY)
    return Walk(entries, connections, lost)

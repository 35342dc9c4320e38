"""Records of MCAP: what their bytes say, whoever wrote them.

The records are parsed here and not by the `mcap` package: its parser refuses a record for one letter that is not
UTF-8, takes what a cut record lacks for granted, and needs 30 us for the index entry of one chunk.
Source: https://mcap.dev/spec
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from perception_batch.read.containers.logfile import MAX_NS

MAGIC = b"\x89MCAP0\r\n"

HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
ATTACHMENT, ATTACHMENT_INDEX, STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(9, 16)

RECORD = struct.Struct("<BQ")
"""Before each record: its kind, and the size of what follows."""
MESSAGE_HEAD = struct.Struct("<BQHIQQ")
"""A message up to its data: kind, size, channel, sequence, log time, publish time."""
CHUNK_TIMES = struct.Struct("<QQQI")
"""A chunk's first fields: first and last log time, unpacked size, checksum."""
COUNTS = struct.Struct("<HQ")
"""Channel and number of messages, or channel and offset."""

COMPRESSIONS = ("", "lz4", "zstd")

MAX_TOPIC_BYTES = 4096
"""A topic, a type or an encoding with a longer name is damaged."""
MAX_SCHEMA_BYTES = 16 << 20
"""A larger definition is left out; those of large projects have some 100 KB."""

# One less than the largest that 63 bits hold, so that the time just after it is a number too.
_LAST_NS = MAX_NS - 1


class BadRecord(ValueError):
    """A record does not hold what its kind must hold."""


class ChunkHead(NamedTuple):
    """What a chunk says of itself, before its data."""

    first_ns: int
    """Log time of its first message, ns."""
    last_ns: int
    """Log time of its last message, ns."""
    unpacked_size: int
    """Bytes when unpacked."""
    crc: int
    """CRC-32 of what it unpacks to; 0 where there is none."""
    compression: str
    """Empty, ``lz4`` or ``zstd``; anything else is not known."""
    data_at: int
    """Where its data begin, counted from its record's first byte."""
    data_size: int
    """Bytes of its data, packed."""

    @property
    def record_size(self) -> int:
        """Bytes of the whole record, by what it says of its data."""
        return self.data_at + self.data_size


class ChunkIndex(NamedTuple):
    """What the summary says of one chunk."""

    first_ns: int
    """As in `ChunkHead`."""
    last_ns: int
    """As in `ChunkHead`."""
    at: int
    """Where its record begins."""
    size: int
    """Bytes of its record."""
    offsets: bytes
    """Channel, and where its message index begins, as `COUNTS`; packed, as a large file has millions."""
    index_size: int
    """Bytes of the message indexes after it."""
    compression: str
    """As in `ChunkHead`."""
    data_size: int
    """As in `ChunkHead`."""
    unpacked_size: int
    """As in `ChunkHead`."""


@dataclass(frozen=True, slots=True)
class SchemaRecord:
    """One schema."""

    id: int
    """Its number; 0 is not allowed."""
    name: str
    """Of the type."""
    encoding: str
    """``ros2msg``, ``protobuf`` and others."""
    data: bytes
    """The definition."""


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    """One channel."""

    id: int
    """Its number."""
    schema_id: int
    """Its schema; 0 for none."""
    topic: str
    """Topic name."""
    encoding: str
    """How its messages are serialised: ``cdr``, ``protobuf`` and others."""


class Statistics(NamedTuple):
    """What the summary says of the whole file."""

    message_count: int
    """Messages."""
    chunk_count: int
    """Chunks."""
    first_ns: int
    """Log time of the first message, ns."""
    last_ns: int
    """Log time of the last message, ns."""
    counts: dict[int, int]
    """Messages by channel."""


def time_ns(stamp: int) -> int:
    """A time of the file, 64 bits without a sign, as one that 63 bits hold."""
    return min(stamp, _LAST_NS)


class _Fields:
    """Takes the fields of a record, one after the other."""

    def __init__(self, body: bytes | memoryview) -> None:
        self._body = body
        self._at = 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.raw(size), "little")

    def raw(self, size: int) -> bytes:
        part = bytes(self._body[self._at : self._at + size])
        if len(part) != size:
            raise BadRecord("a record ends inside its fields")
        self._at += size
        return part

    def text(self) -> str:
        size = self.number(4)
        if size > MAX_TOPIC_BYTES:
            raise BadRecord(f"a name of {size} bytes")
        return self.raw(size).decode("utf-8", "replace")

    def pairs(self) -> bytes:
        size = self.number(4)
        if size % COUNTS.size:
            raise BadRecord("a map that does not come out even")
        return self.raw(size)


def parse_schema(body: bytes | memoryview) -> SchemaRecord:
    """A schema; one that is too large has no data.

    Raises:
        BadRecord: this is no schema.
    """
    fields = _Fields(body)
    number, name, encoding, size = fields.number(2), fields.text(), fields.text(), fields.number(4)
    return SchemaRecord(number, name, encoding, fields.raw(size) if size <= MAX_SCHEMA_BYTES else b"")


def parse_channel(body: bytes | memoryview) -> ChannelRecord:
    """A channel; its metadata are not read.

    Raises:
        BadRecord: this is no channel.
    """
    fields = _Fields(body)
    return ChannelRecord(fields.number(2), fields.number(2), fields.text(), fields.text())


def parse_chunk_head(record: bytes | memoryview) -> ChunkHead:
    """The head of a chunk, from the first byte of its record (70 bytes are enough).

    Raises:
        BadRecord: too short, or a compression with a name of more than 16 letters.
    """
    fields = _Fields(record)
    fields.raw(RECORD.size)
    first, last, unpacked, crc = CHUNK_TIMES.unpack(fields.raw(CHUNK_TIMES.size))
    length = fields.number(4)
    if length > 16:
        raise BadRecord("a compression with a name of more than 16 letters")
    compression = fields.raw(length).decode("utf-8", "replace")
    return ChunkHead(time_ns(first), time_ns(last), unpacked, crc, compression, 49 + length, fields.number(8))


def parse_chunk_index(body: bytes | memoryview) -> ChunkIndex:
    """The summary's entry of a chunk.

    Raises:
        BadRecord: this is none.
    """
    fields = _Fields(body)
    first, last, at, size = struct.unpack("<QQQQ", fields.raw(32))
    offsets = fields.pairs()
    index_size, compression = fields.number(8), fields.text()
    packed, unpacked = fields.number(8), fields.number(8)
    return ChunkIndex(
        time_ns(first), time_ns(last), at, size, offsets, index_size, compression, packed, unpacked
    )


def parse_statistics(body: bytes | memoryview) -> Statistics:
    """The file's statistics.

    Raises:
        BadRecord: these are none.
    """
    fields = _Fields(body)
    messages, _, _, _, _, chunks, first, last = struct.unpack("<QHIIIIQQ", fields.raw(42))
    return Statistics(
        messages, chunks, time_ns(first), time_ns(last), dict(COUNTS.iter_unpack(fields.pairs()))
    )


_SHAPES = {
    HEADER: "s s",
    FOOTER: "8 8 4",
    SCHEMA: "2 s s s",
    CHANNEL: "2 2 s s s",
    CHUNK: "8 8 8 4 s L",
    MESSAGE_INDEX: "2 s",
    CHUNK_INDEX: "8 8 8 8 s 8 s 8 8",
    ATTACHMENT: "8 8 s s L 4",
    ATTACHMENT_INDEX: "8 8 8 8 8 s s",
    STATISTICS: "8 2 4 4 4 4 8 8 s",
    METADATA: "s s",
    METADATA_INDEX: "8 8 s",
    SUMMARY_OFFSET: "1 8 8",
    DATA_END: "4",
}
"""Sizes of a record's fields; ``s`` and ``L`` have their own size before them, in four and in eight bytes."""


def stated_size(kind: int, field_at: Callable[[int, int], bytes]) -> int | None:
    """How large a record's body is by its own fields; None where that cannot be said.

    Args:
        kind: of the record; messages and kinds of applications say nothing of their size.
        field_at: gives so many bytes (the second) of the body, from a place in it (the first); fewer at its end.
    """
    if kind not in _SHAPES:
        return None
    size = 0
    for field in _SHAPES[kind].split():
        if field in "sL":
            width = 4 if field == "s" else 8
            length = field_at(size, width)
            if len(length) < width:
                return None
            size += width + int.from_bytes(length, "little")
        else:
            size += int(field)
    return size


def records_in(data: bytes | bytearray | memoryview, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Kind, begin and end of the body of each whole record in `data[at:end]`, up to one of no kind."""
    while at + 9 <= end:
        kind, size = RECORD.unpack_from(data, at)
        if size > end - at - 9 or not kind:
            return
        yield kind, at + 9, at + 9 + size
        at += 9 + size

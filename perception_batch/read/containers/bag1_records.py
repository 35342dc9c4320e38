"""Records of ROS 1 bags, read so that no number in them is believed before it is checked.

Format: http://wiki.ros.org/Bags/Format/2.0. A record is the size of its header, the header, the size of its
data, the data; a header is a list of fields ``<size> name=value``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

MESSAGE, BAG_HEADER, INDEX, CHUNK, CHUNK_INFO, CONNECTION = 2, 3, 4, 5, 6, 7

MAX_HEADER_BYTES = 1 << 16
_STEP_BYTES = 1 << 20

_SIZES: dict[int, dict[bytes, int]] = {
    MESSAGE: {b"conn": 4, b"time": 8},
    BAG_HEADER: {b"index_pos": 8, b"conn_count": 4, b"chunk_count": 4},
    INDEX: {b"ver": 4, b"conn": 4, b"count": 4},
    CHUNK: {b"size": 4},
    CHUNK_INFO: {b"ver": 4, b"chunk_pos": 8, b"count": 4},
    CONNECTION: {b"conn": 4},
}
"""By the record's kind: bytes of the fields that it must have."""
_TEXTS = {CHUNK: b"compression", CONNECTION: b"topic"}

_OP = re.compile(rb"\x04\0\0\0op=([\x02\x04\x05\x07])", re.DOTALL)
# Bytes of the other fields of a header, in whichever order and number they stand before ``op``.
_BEFORE_OP = {
    MESSAGE: (0, 13, 17, 30),
    INDEX: (0, 12, 13, 14, 25, 26, 27, 39),
    CHUNK: (0, 13, 19, 20, 32, 33),
}


MESSAGE_HEADER_BYTES = 46
# What every recorder writes, in whichever order: read this way in a tenth of the time.
_MESSAGE_HEADER = re.compile(
    rb"\x26\0\0\0(?:\x04\0\0\0op=\x02|\x09\0\0\0conn=(.{4})|\x0d\0\0\0time=.{8}){3}(.{4})", re.DOTALL
)


class Bytes(Protocol):
    """Where records are read from."""

    size: int
    """Bytes there are."""

    def read(self, at: int, size: int) -> bytes:
        """At most `size` bytes from `at`, fewer only at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """One record, without its data."""

    kind: int
    """One of the constants above."""
    fields: dict[bytes, bytes]
    """Its header."""
    at: int
    """Where it begins."""
    data_at: int
    """Where its data begin."""
    data_size: int
    """How long its data say that they are; they may be cut off."""

    @property
    def stop(self) -> int:
        """Where it ends."""
        return self.data_at + self.data_size

    def number(self, name: bytes) -> int:
        """A field that holds a number."""
        return int.from_bytes(self.fields[name], "little")

    def time_ns(self, name: bytes) -> int:
        """A field that holds a time."""
        return time_ns(self.fields[name])


def time_ns(raw: bytes) -> int:
    """Seconds and nanoseconds, 4 bytes each, as ns."""
    seconds, nanoseconds = struct.unpack("<II", raw)
    return int(seconds) * 10**9 + int(nanoseconds)


def parse_fields(raw: bytes) -> dict[bytes, bytes] | None:
    """The fields of a header; None where they do not fill it exactly."""
    fields: dict[bytes, bytes] = {}
    at, end = 0, len(raw)
    while at < end:
        if at + 4 > end:
            return None
        size = int.from_bytes(raw[at : at + 4], "little")
        at += 4
        if at + size > end:
            return None
        name, equals, value = raw[at : at + size].partition(b"=")
        if not equals:
            return None
        fields[name] = value
        at += size
    return fields


def message_at(source: Bytes, at: int, stop: int, conn: int) -> tuple[int, int] | None:
    """Where the data of the message of connection `conn` begin, and their size; None where it is not there.

    A definition of a connection may come before it, as some recorders' indexes have it.
    """
    match = _MESSAGE_HEADER.match(source.read(at, MESSAGE_HEADER_BYTES))
    if match is not None and match[1] is not None:
        begin, size = at + MESSAGE_HEADER_BYTES, int.from_bytes(match[2], "little")
        fits = begin + size <= stop and int.from_bytes(match[1], "little") == conn
        return (begin, size) if fits else None
    record = read_record(source, at, stop)
    while record is not None and record.kind == CONNECTION:
        record = read_record(source, record.stop, stop)
    if record is None or record.kind != MESSAGE or record.stop > stop or record.number(b"conn") != conn:
        return None
    return record.data_at, record.data_size


def read_record(source: Bytes, at: int, stop: int | None = None) -> Record | None:
    """The record that begins at `at`; None where none does whose header ends before `stop`."""
    stop = source.size if stop is None else stop
    start = source.read(at, 4)
    size = int.from_bytes(start, "little")
    if len(start) < 4 or not 8 <= size <= MAX_HEADER_BYTES or at + 8 + size > stop:
        return None
    raw = source.read(at + 4, size + 4)
    fields = parse_fields(raw[:size])
    if fields is None or len(raw) < size + 4 or len(fields.get(b"op", b"")) != 1:
        return None
    kind = fields[b"op"][0]
    sizes = _SIZES.get(kind)
    if sizes is None or any(len(fields.get(name, b"")) != n for name, n in sizes.items()):
        return None
    if kind in _TEXTS and _TEXTS[kind] not in fields:
        return None
    return Record(kind, fields, at, at + 8 + size, int.from_bytes(raw[size:], "little"))


def find_record(source: Bytes, start: int, kinds: Collection[int], stop: int | None = None) -> Record | None:
    """The first record of one of `kinds` at or after `start`, where the trail of records is lost.

    It looks for the field ``op`` and tries the few places where the header around it can begin.
    Kinds that are found: messages, indexes, chunks, connections.
    """
    stop = source.size if stop is None else stop
    for at, op, before in _ops(source, start, stop):
        kind = op
        if kind not in kinds:
            continue
        lengths: Collection[int] = _BEFORE_OP.get(kind, ())
        if kind == CONNECTION:
            topic = before.rfind(b"topic=")
            from_topic = len(before) - topic + 4
            lengths = (0, 13) if topic < 4 else (0, 13, from_topic, from_topic + 13)
        # The longest header first: a shorter one would be a part of it.
        for length in sorted(lengths, reverse=True):
            begin = at - 4 - length
            record = read_record(source, begin, stop) if begin >= start else None
            if record is not None and record.kind == kind:
                return record
    return None


def _ops(source: Bytes, start: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
    """Where the field ``op`` stands, its value, and up to 600 bytes before it."""
    at, tail = start, b""
    while at < stop:
        data = source.read(at, min(_STEP_BYTES, stop - at))
        if not data:
            return
        block = tail + data
        base = at - len(tail)
        for match in _OP.finditer(block):
            if base + match.end() > at:  # not one of the block before
                yield base + match.start(), match[1][0], block[max(0, match.start() - 600) : match.start()]
        at += len(data)
        tail = block[-620:]

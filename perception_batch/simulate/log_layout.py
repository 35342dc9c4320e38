"""Where each message of a finished log lies in the file: MCAP and ROS 1 bag, walked record by record.

Layouts: mcap.dev/spec (version 0), wiki.ros.org/Bags/Format/2.0. Only logs that this package wrote are walked, so
a file that is not laid out as the formats say is a mistake of the caller.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["spine", "chunk", "link", "definition", "message", "index"]


@dataclass(frozen=True, slots=True)
class Part:
    """A range of bytes and what hangs on it."""

    kind: Kind
    """``spine``: without it nothing after it is found. ``chunk``: all of a chunk; `head` is its header. ``link``:
    without it nothing after it within its chunk is found. ``definition``: says what a channel's messages are.
    ``message``: one message. ``index``: from here on there are no messages."""
    start: int
    """First byte."""
    stop: int
    """Byte after the last."""
    channel: int = -1
    """Of messages and definitions."""
    topic: str = ""
    """Of messages."""
    log_ns: int = 0
    """Of messages."""
    head: tuple[int, int] = (0, 0)
    """Of chunks: bytes without which its content is not found."""
    sealed: bool = False
    """Of chunks: compressed or with a checksum, so that no change of its content leaves the rest readable."""
    packed: bool = False
    """Of chunks: compressed."""


_MCAP_MAGIC = b"\x89MCAP0\r\n"
_BAG_MAGIC = b"#ROSBAG V2.0\n"


def is_mcap(data: memoryview) -> bool:
    """Whether the file says that it is an MCAP."""
    return bytes(data[:8]) == _MCAP_MAGIC


def is_bag(data: memoryview) -> bool:
    """Whether the file says that it is a ROS 1 bag."""
    return bytes(data[:13]) == _BAG_MAGIC


def mcap_parts(data: memoryview) -> Iterator[Part]:
    """All parts of an MCAP file, in order."""
    topics: dict[int, str] = {}
    yield Part("spine", 0, 8)
    at = 8
    while at < len(data):
        opcode = data[at]
        (size,) = struct.unpack_from("<Q", data, at + 1)
        body, stop = at + 9, at + 9 + size
        if opcode == 0x0F:  # data end: the summary follows
            yield Part("index", at, len(data))
            return
        yield Part("spine", at + 1, body)
        if opcode == 0x06:
            yield from _mcap_chunk(data, at, body, stop, topics)
        else:
            yield from _mcap_record(data, opcode, at, body, stop, topics)
        at = stop


def _mcap_record(
    data: memoryview, opcode: int, at: int, body: int, stop: int, topics: dict[int, str]
) -> Iterator[Part]:
    if opcode == 0x05:
        channel, _, log_ns = struct.unpack_from("<HIQ", data, body)
        yield Part("message", at, stop, channel, topics[channel], log_ns)
    elif opcode == 0x04:
        (channel,) = struct.unpack_from("<H", data, body)
        (length,) = struct.unpack_from("<I", data, body + 4)
        topics[channel] = bytes(data[body + 8 : body + 8 + length]).decode()
        yield Part("definition", at, stop, channel)
    elif opcode == 0x03:
        yield Part("definition", at, stop)  # a schema; -1 stands for every channel


def _mcap_chunk(data: memoryview, at: int, body: int, stop: int, topics: dict[int, str]) -> Iterator[Part]:
    _, _, _, crc, length = struct.unpack_from("<QQQII", data, body)
    compression = bytes(data[body + 32 : body + 32 + length]).decode()
    inner = body + 32 + length + 8
    packed = bool(compression)
    yield Part("chunk", at, stop, head=(at, inner), sealed=packed or crc != 0, packed=packed)
    records = memoryview(_unpacked(compression, data[inner:stop]))
    offset = 0
    while offset < len(records):
        opcode = records[offset]
        (size,) = struct.unpack_from("<Q", records, offset + 1)
        end = offset + 9 + size
        if packed:
            for part in _mcap_record(records, opcode, offset, offset + 9, end, topics):
                yield Part(part.kind, inner, stop, part.channel, part.topic, part.log_ns)
        else:
            yield Part("link", inner + offset + 1, inner + offset + 9)
            yield from _mcap_record(data, opcode, inner + offset, inner + offset + 9, inner + end, topics)
        offset = end


def _unpacked(compression: str, data: memoryview) -> memoryview | bytes:
    if not compression:
        return data
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(bytes(data))
    raise ValueError(f"a chunk is compressed with {compression!r}, the simulator writes zstd or nothing")


def bag_parts(data: memoryview) -> Iterator[Part]:
    """All parts of a ROS 1 bag without compression, in order."""
    topics: dict[int, str] = {}
    yield Part("spine", 0, 13)
    at, chunk_stop, index_pos = 13, 0, len(data)
    while at < len(data):
        inside = at < chunk_stop
        fields, body, stop = _bag_record(data, at)
        opcode = fields[b"op"][0]
        if at >= index_pos:
            yield Part("index", at, len(data))
            return
        (header_size,) = struct.unpack_from("<I", data, at)
        for start in (at, at + 4 + header_size):
            yield Part("link" if inside else "spine", start, start + 4)
        if opcode == 0x03:
            index_pos = struct.unpack("<Q", fields[b"index_pos"])[0] or len(data)
        elif opcode == 0x05:
            if fields[b"compression"] != b"none":
                raise ValueError("a chunk is compressed, the simulator writes bags without compression")
            chunk_stop = stop
            yield Part("chunk", at, stop, head=(at, body))
            at = body
            continue
        elif opcode == 0x07:
            channel = struct.unpack("<I", fields[b"conn"])[0]
            topics[channel] = fields[b"topic"].decode()
            yield Part("definition", at, stop, channel)
        elif opcode == 0x02:
            channel = struct.unpack("<I", fields[b"conn"])[0]
            seconds, nanoseconds = struct.unpack("<II", fields[b"time"])
            yield Part("message", at, stop, channel, topics[channel], seconds * 10**9 + nanoseconds)
        at = stop


def _bag_record(data: memoryview, at: int) -> tuple[dict[bytes, bytes], int, int]:
    """Header fields, first byte of the content, byte after it."""
    (header_size,) = struct.unpack_from("<I", data, at)
    fields: dict[bytes, bytes] = {}
    field = at + 4
    while field < at + 4 + header_size:
        (size,) = struct.unpack_from("<I", data, field)
        name, _, value = bytes(data[field + 4 : field + 4 + size]).partition(b"=")
        fields[name] = value
        field += 4 + size
    (content,) = struct.unpack_from("<I", data, at + 4 + header_size)
    body = at + 8 + header_size
    return fields, body, body + content

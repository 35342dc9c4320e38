"""Small MCAP files of every kind, by the official writer, and a slow, obvious reader of what is whole in them."""

from __future__ import annotations

import io
import random
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lz4.frame
import zstandard
from mcap.writer import CompressionType, IndexType, Writer

from perception_batch.read.containers.mcap_file import McapFile

START_NS = 1_700_000_000_000_000_000

Whole = tuple[str, int, int, bytes]
"""Topic, log time, publish time, data."""


@dataclass(frozen=True)
class Kind:
    """How a file is written."""

    compression: CompressionType = CompressionType.NONE
    crc: bool = True
    chunked: bool = True
    index: bool = True
    summary: Literal["full", "chunks", "none"] = "full"
    messages: int = 40
    body: int = 60
    chunk: int = 600


KINDS = {
    "zstd": Kind(CompressionType.ZSTD),
    "lz4": Kind(CompressionType.LZ4, crc=False),
    "zstd, no crc": Kind(CompressionType.ZSTD, crc=False),
    "none": Kind(),
    "none, no crc": Kind(crc=False),
    "no message index": Kind(CompressionType.LZ4, index=False),
    "chunk index only": Kind(CompressionType.ZSTD, summary="chunks"),
    "no summary": Kind(CompressionType.ZSTD, summary="none"),
    "bare": Kind(chunked=False),
    "bare, no crc, no summary": Kind(chunked=False, crc=False, summary="none"),
    "large zstd": Kind(CompressionType.ZSTD, messages=24, body=25_000, chunk=300_000),
    "large lz4": Kind(CompressionType.LZ4, messages=24, body=25_000, chunk=300_000),
}


def sample(kind: Kind, seed: int = 0) -> bytes:
    """A file with four topics, whose messages come a little out of order."""
    chance = random.Random(seed)
    out = io.BytesIO()
    indexes = IndexType.MESSAGE if kind.index else IndexType.NONE
    if kind.summary != "none" and kind.index:
        indexes = IndexType.ALL
    writer = Writer(
        out,
        chunk_size=kind.chunk,
        compression=kind.compression,
        index_types=indexes,
        use_chunking=kind.chunked,
        use_statistics=kind.summary == "full",
        use_summary_offsets=kind.summary == "full",
        repeat_channels=kind.summary == "full",
        repeat_schemas=kind.summary == "full",
        enable_crcs=kind.crc,
        enable_data_crcs=kind.crc,
    )
    writer.start("", "sample")
    image = writer.register_schema("sensor_msgs/msg/CompressedImage", "ros2msg", b"uint8[] data")
    proto = writer.register_schema("foxglove.CompressedImage", "protobuf", bytes(range(40)))
    ids = {
        "/a": writer.register_channel("/a", "cdr", image),
        "/b": writer.register_channel("/b", "cdr", image),
        "/p": writer.register_channel("/p", "protobuf", proto),
        "/j": writer.register_channel("/j", "json", 0),
    }
    for i in range(kind.messages):
        topic = chance.choice(list(ids))
        stamp = START_NS + i * 10_000_000 + chance.randrange(-30_000_000, 30_000_000)
        data = b"\0\1\0\0" + chance.randbytes(chance.randrange(kind.body // 2, kind.body * 2))
        writer.add_message(ids[topic], stamp, data, stamp - 5, i)
        if i == kind.messages // 2:
            writer.add_metadata("note", {"half": "way"})
    writer.finish()
    return out.getvalue()


def records(data: bytes, at: int) -> Iterator[tuple[int, int, bytes]]:
    """Place, kind and body of each record, the last one cut off."""
    while at + 9 <= len(data):
        kind, size = struct.unpack_from("<BQ", data, at)
        yield at, kind, data[at + 9 : at + 9 + size]
        at += 9 + size


def boundaries(data: bytes) -> list[int]:
    """Where records begin and end, those inside chunks that are not compressed too."""
    places = {8, len(data)}
    for at, kind, body in records(data, 8):
        places.add(min(at + 9 + len(body), len(data)))
        if kind == 6 and struct.unpack_from("<I", body, 28)[0] == 0:
            places |= {at + 49 + inner for inner, _, _ in records(body[40:], 0)}
    return sorted(p for p in places if p >= 8)


def whole_messages(data: bytes) -> list[Whole]:
    """Every message of which all bytes are there, in log-time order and then in that of the file."""
    found: list[Whole] = []
    topics: dict[int, str] = {}

    def take(kind: int, size: int, body: bytes) -> None:
        if len(body) < size:
            return
        if kind == 4:
            length = struct.unpack_from("<I", body, 4)[0]
            topics.setdefault(struct.unpack_from("<H", body)[0], body[8 : 8 + length].decode())
        if kind == 5:
            number, _, log_ns, publish_ns = struct.unpack_from("<HIQQ", body)
            found.append((topics[number], log_ns, publish_ns, body[22:]))

    for at, kind, body in records(data, 8):
        size = struct.unpack_from("<Q", data, at + 1)[0]
        if kind in (2, 15) and len(body) == size:
            break
        if kind == 6 and len(body) >= 32:
            length = struct.unpack_from("<I", body, 28)[0]
            name, packed = body[32 : 32 + length], body[40 + length :]
            if len(body) < 40 + length:
                continue
            if name == b"zstd":
                packed = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
            elif name == b"lz4":
                packed = lz4.frame.LZ4FrameDecompressor().decompress(packed)
            for inner, inner_kind, inner_body in records(packed, 0):
                take(inner_kind, struct.unpack_from("<Q", packed, inner + 1)[0], inner_body)
        else:
            take(kind, size, body)
    return sorted(found, key=lambda message: message[1])


def read_all(path: Path) -> tuple[list[Whole], McapFile]:
    """All messages that `McapFile` gives, and the file, closed."""
    file = McapFile(path, 1 << 20)
    try:
        return [(m.channel.topic, m.log_ns, m.publish_ns, m.data) for m in file.messages(file.channels)], file
    finally:
        file.close()


def lost_count(file: McapFile) -> tuple[int, bool]:
    """How many messages `file` says that it lost, and whether there may be more."""
    return sum(loss.count for loss in file.losses), any(loss.count == 0 for loss in file.losses)


def surplus(some: list[Whole], of: list[Whole]) -> Counter[Whole]:
    """What is in `some` and not in `of`."""
    return Counter(some) - Counter(of)

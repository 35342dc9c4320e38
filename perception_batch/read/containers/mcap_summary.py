"""The summary at the end of an MCAP file: what it holds, and where."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from itertools import pairwise

from perception_batch.read.containers.byte_source import ByteSource
from perception_batch.read.containers.mcap_definitions import Definitions
from perception_batch.read.containers.mcap_records import (
    CHUNK_INDEX,
    COUNTS,
    DATA_END,
    FOOTER,
    MAGIC,
    RECORD,
    STATISTICS,
    BadRecord,
    ChunkHead,
    ChunkIndex,
    Statistics,
    parse_chunk_index,
    parse_statistics,
    records_in,
)
from perception_batch.read.containers.mcap_spans import Span, pack_counts

MAX_SUMMARY_BYTES = 512 << 20
"""A larger summary is not believed: an hour of chunks takes about 1 MiB."""

_FOOTER_BYTES = 9 + 20 + len(MAGIC)
_DATA_END_BYTES = 9 + 4


@dataclass(slots=True)
class Summary:
    """What a summary says."""

    data_end: int
    """Where the record stands that ends the data."""
    definitions: Definitions = field(default_factory=Definitions)
    """Schemas and channels."""
    chunks: list[ChunkIndex] = field(default_factory=list)
    """In the order of the file."""
    verified: bool = False
    """A checksum covers it, and agrees."""
    statistics: Statistics | None = None
    """Of the whole file, where there are any."""


def read_summary(source: ByteSource) -> Summary | None:
    """The file's summary; None where there is none, or none that can be believed."""
    footer = source.read(source.size - _FOOTER_BYTES, _FOOTER_BYTES)
    if len(footer) != _FOOTER_BYTES or footer[-8:] != MAGIC or RECORD.unpack_from(footer) != (FOOTER, 20):
        return None
    start, _, crc = struct.unpack_from("<QQI", footer, 9)
    end = source.size - _FOOTER_BYTES
    if not len(MAGIC) + _DATA_END_BYTES <= start <= end or end - start > MAX_SUMMARY_BYTES:
        return None
    if RECORD.unpack(source.read(start - _DATA_END_BYTES, RECORD.size)) != (DATA_END, 4):
        return None
    data = source.read(start, end - start)
    # The checksum covers the footer too, up to itself.
    if crc and zlib.crc32(footer[:25], zlib.crc32(data)) != crc:
        return None
    summary = Summary(start - _DATA_END_BYTES, verified=bool(crc))
    try:
        return summary if _fill(summary, data) else None
    except BadRecord:
        return None


def _fill(summary: Summary, data: bytes) -> bool:
    """Take all records of the summary; False where they do not end where it does."""
    reached = 0
    view = memoryview(data)
    for kind, begin, reached in records_in(data, 0, len(data)):
        body = view[begin:reached]
        if kind == CHUNK_INDEX:
            summary.chunks.append(parse_chunk_index(body))
        elif kind == STATISTICS:
            summary.statistics = parse_statistics(body)
        else:
            summary.definitions.take(kind, body)
    summary.chunks.sort(key=lambda chunk: chunk.at)
    return reached == len(data)


def span_of(chunk: ChunkIndex) -> Span:
    """A chunk as its index describes it."""
    return Span(
        chunk.at,
        chunk.size,
        chunk.first_ns,
        chunk.last_ns,
        ChunkHead(
            chunk.first_ns,
            chunk.last_ns,
            chunk.unpacked_size,
            0,
            chunk.compression,
            49 + len(chunk.compression.encode()),
            chunk.data_size,
        ),
        _counts(chunk),
        chunk.index_size,
    )


def _counts(chunk: ChunkIndex) -> bytes | None:
    """Messages by channel, from the sizes of the message indexes: 15 bytes, and 16 for each message."""
    if not chunk.offsets:
        return None
    places = sorted((at, channel) for channel, at in COUNTS.iter_unpack(chunk.offsets))
    places.append((chunk.at + chunk.size + chunk.index_size, -1))
    counts = []
    for (at, channel), (after, _) in pairwise(places):
        count, rest = divmod(after - at - 15, 16)
        if rest or count < 0:
            return None
        counts.append((channel, count))
    return pack_counts(counts)

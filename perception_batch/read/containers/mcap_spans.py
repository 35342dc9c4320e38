"""Parts of an MCAP file that are read at once: a chunk, or a run of messages that stand outside of chunks."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from perception_batch.errors import printable
from perception_batch.read.containers.byte_source import ByteSource
from perception_batch.read.containers.logfile import Channel
from perception_batch.read.containers.mcap_records import (
    CHANNEL,
    CHUNK,
    COUNTS,
    MESSAGE,
    MESSAGE_HEAD,
    MESSAGE_INDEX,
    RECORD,
    SCHEMA,
    BadRecord,
    ChunkHead,
    parse_chunk_head,
    records_in,
    time_ns,
)
from perception_batch.read.containers.unpacking import (
    AT_ONCE_BYTES,
    LZ4_MAGIC,
    UNPACKERS,
    ZSTD_MAGIC,
    Bytes,
    UnpackError,
    lz4_pieces,
    zstd_pieces,
)

MAX_CHUNK_BYTES = 512 << 20
"""Largest chunk that is unpacked. Recorders write chunks of 1 to 4 MiB, or of one message where that is larger."""

MAX_INDEX_BYTES = 64 << 20
"""Largest message index that is read: four million messages in one chunk."""


MAX_MESSAGES = 1_000_000
"""Most messages in one chunk: a chunk of 4 MiB holds 135,000 of the smallest."""


class SpanDamaged(ValueError):
    """A part of the file cannot be read, and why.

    Attributes:
        rest: what unpacks of a chunk without a checksum; None of one that has one.
    """

    def __init__(self, reason: str, rest: Content | None = None) -> None:
        self.rest = rest
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Span:
    """Where a part of the file stands, and what is known of it before it is read."""

    at: int
    """Its first byte."""
    size: int
    """Bytes, to the end of the file at most."""
    first_ns: int
    """Log time of its first message, as far as known, ns."""
    last_ns: int
    """Log time of its last message, as far as known, ns."""
    head: ChunkHead | None
    """What is said of the chunk, in the summary or in the chunk; None for messages outside of chunks."""
    packed_counts: bytes | None
    """Messages by channel, packed (see `counts`); None where no index tells."""
    index_size: int = 0
    """Bytes of the message indexes right after it."""
    cut: bool = False
    """The file ends inside this chunk."""

    @property
    def counts(self) -> dict[int, int]:
        """Messages by channel; empty where unknown."""
        return dict(COUNTS.iter_unpack(self.packed_counts or b""))

    def may_hold(self, channels: Mapping[int, object]) -> bool:
        """False where an index tells that none of `channels` has a message in it."""
        if self.packed_counts is None:
            return True
        return any(n and c in channels for c, n in COUNTS.iter_unpack(self.packed_counts))


def pack_counts(counts: Iterable[tuple[int, int]]) -> bytes:
    """Messages by channel, as `Span` holds them."""
    return b"".join(COUNTS.pack(c, min(n, 2**63)) for c, n in counts)


class Content(NamedTuple):
    """What a span holds, unpacked."""

    data: Bytes
    """Holds its records, and perhaps something before them."""
    begin: int
    """Where its records begin in `data`."""
    verified: bool
    """A checksum covers it, and agrees."""


class Entry(NamedTuple):
    """One message of a span; in the order of log times, and then of places."""

    log_ns: int
    """Log time, ns."""
    begin: int
    """Where its data begin, in `Content.data`."""
    end: int
    """Where they end."""
    channel: Channel
    """Its topic."""
    publish_ns: int
    """When it was published, ns."""


class Parsed(NamedTuple):
    """The messages of a span."""

    entries: list[Entry]
    """Those that were asked for, in log-time order."""
    found: Mapping[int, int]
    """Messages by channel, those of all channels."""
    broken_at: int
    """Where no record begins that should, or one that does not end inside of the span; -1 where all is well."""
    last_at: int
    """Where the last message begins; -1 for none."""


def read_span(source: ByteSource, span: Span) -> Content:
    """Read and unpack a span.

    Raises:
        SpanDamaged: a checksum or a size does not agree, or it cannot be unpacked.
    """
    if span.size > MAX_CHUNK_BYTES:
        raise SpanDamaged(f"{span.size} bytes, the limit is {MAX_CHUNK_BYTES}")
    raw = source.read(span.at, span.size)
    if span.head is None:
        return Content(raw, 0, False)
    heads = [span.head]
    if len(raw) < max(span.head.data_at, 49):
        raise SpanDamaged("the file ends inside its head")
    crc = struct.unpack_from("<I", raw, 33)[0]
    try:
        own = parse_chunk_head(raw[:80])
        if own.record_size == span.size or span.cut:
            heads.insert(0, own)
    except BadRecord:
        pass
    sizes = {head.unpacked_size for head in heads}
    if raw[0] != CHUNK and not crc and len(heads) == 1:
        raise SpanDamaged("no chunk where the index says there is one")
    problem = "?"
    for head in heads:
        try:
            return _unpacked(raw, head, crc, sizes, span.cut)
        except UnpackError as error:
            problem = str(error)
    rest = None if crc else _begin_of(raw, heads[0])
    raise SpanDamaged(problem, rest)


def _begin_of(raw: bytes, head: ChunkHead) -> Content | None:
    """What a chunk unpacks to before it breaks, up to a few pieces."""
    out = bytearray()
    pieces = {"zstd": zstd_pieces, "lz4": lz4_pieces}.get(head.compression)
    if pieces is None:
        return None
    try:
        for piece in pieces(io.BytesIO(raw[head.data_at :])):
            out += piece
            if len(out) > AT_ONCE_BYTES:
                break
    except UnpackError:
        pass  # known already
    return Content(out, 0, False)


def _unpacked(raw: bytes, head: ChunkHead, crc: int, sizes: set[int], cut: bool) -> Content:
    data = memoryview(raw)[head.data_at : head.data_at + head.data_size]
    name = head.compression
    if name and name not in UNPACKERS:
        name = {ZSTD_MAGIC: "zstd", LZ4_MAGIC: "lz4"}.get(bytes(data[:4]), name)
    if name == "":
        content = Content(raw, head.data_at, bool(crc))
        size = len(data)
        if not cut and head.data_at + size != len(raw):
            raise UnpackError("its size is not what it says")
    elif name in UNPACKERS:
        content = Content(UNPACKERS[name](data, head.unpacked_size, MAX_CHUNK_BYTES), 0, bool(crc))
        size = len(content.data)
    else:
        raise UnpackError(f"its compression {printable(name)} is none that is known")
    if cut:
        return content._replace(verified=False)
    if crc:
        if zlib.crc32(data if name == "" else content.data) != crc:
            raise UnpackError("its checksum does not agree")
    elif size not in sizes:
        raise UnpackError(f"unpacks to {size} bytes, should to {head.unpacked_size}")
    return content


def parse_messages(
    content: Content, wanted: Mapping[int, Channel], start_ns: int | None, stop_ns: int | None, at: int = -1
) -> Parsed:
    """The messages of the channels `wanted` with start_ns <= log time < stop_ns, in log-time order.

    Args:
        content: of a span.
        wanted: channels by their numbers.
        start_ns: from here on, ns; None from the beginning.
        stop_ns: before this, ns; None to the end.
        at: where to begin in `content.data`; -1 at its beginning.

    Raises:
        SpanDamaged: more than `MAX_MESSAGES`.
    """
    data = content.data
    at = content.begin if at < 0 else at
    end = len(data)
    low = -1 if start_ns is None else start_ns
    high = 2**64 if stop_ns is None else stop_ns
    last_message = end - MESSAGE_HEAD.size
    unpack_message = MESSAGE_HEAD.unpack_from
    entries: list[Entry] = []
    found: Counter[int] = Counter()
    ordered, previous, last_at = True, -1, -1
    while at < end:
        if data[at] == MESSAGE and at <= last_message:
            _, size, number, _, log_ns, publish_ns = unpack_message(data, at)
            after = at + 9 + size
            if size < 22 or after > end:
                break
            found[number] += 1
            last_at = at
            if len(entries) > MAX_MESSAGES:
                raise SpanDamaged(f"more than {MAX_MESSAGES} messages, which is the limit")
            channel = wanted.get(number)
            if channel is not None:
                if log_ns >> 63 or publish_ns >> 63:
                    log_ns, publish_ns = time_ns(log_ns), time_ns(publish_ns)
                if low <= log_ns < high:
                    ordered = ordered and log_ns >= previous
                    previous = log_ns
                    entries.append(Entry(log_ns, at + 31, after, channel, publish_ns))
            at = after
        else:
            if at + 9 > end:
                break
            kind, size = RECORD.unpack_from(data, at)
            # Others do not stand in chunks, but for those of applications.
            if size > end - at - 9 or (kind not in (SCHEMA, CHANNEL) and kind < 0x80):
                break
            at += 9 + size
    if not ordered:
        entries.sort()
    return Parsed(entries, found, at if at < end else -1, last_at)


def parse_around_damage(
    source: ByteSource,
    span: Span,
    content: Content,
    parsed: Parsed,
    wanted: Mapping[int, Channel],
    start_ns: int | None,
    stop_ns: int | None,
) -> Parsed:
    """`parsed` and what follows broken records, at the places that the message index after the chunk names."""
    index = source.read(span.at + span.size, min(span.index_size, MAX_INDEX_BYTES))
    places = sorted({content.begin + offset for offset in _offsets(index)})
    begins = frozenset(places)
    data = content.data
    entries, found, last_at = parsed.entries, Counter(parsed.found), parsed.last_at
    broken_at, at = parsed.broken_at, -1
    for place in [*places, len(data)]:
        if broken_at < 0:
            break
        if at < 0:
            at = broken_at
            known = broken_at in begins or (not begins and data[broken_at] in (SCHEMA, CHANNEL, MESSAGE))
            if last_at >= 0 and not known:
                # What stands here is the inside of the message before, or of one behind: its size is damaged.
                at = last_at
                found[struct.unpack_from("<H", data, last_at + 9)[0]] -= 1
                entries = [entry for entry in entries if entry.begin != last_at + 31]
        if at < place < len(data) and data[place] == MESSAGE:
            rest = parse_messages(content, wanted, start_ns, stop_ns, place)
            entries = [*entries, *rest.entries]
            found.update(rest.found)
            broken_at, last_at, at = rest.broken_at, rest.last_at, -1
    return Parsed(sorted(entries), found, parsed.broken_at, last_at)


def _offsets(index: bytes) -> Iterable[int]:
    for kind, begin, end in records_in(index, 0, len(index)):
        if kind == MESSAGE_INDEX and end - begin >= 6 and (end - begin - 6) % 16 == 0:
            for _, offset in struct.iter_unpack("<QQ", index[begin + 6 : end]):
                yield offset

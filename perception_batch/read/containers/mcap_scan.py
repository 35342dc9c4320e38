"""An MCAP file without an index that can be believed: its records one after the other, by their heads.

Bodies are skipped: of a chunk its head is read, of the message indexes behind it how many messages they name, of a
message outside of chunks its channel and its log time. That is less than one per cent of a log of images.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, replace

from perception_batch.errors import LogError
from perception_batch.read.containers.byte_source import ByteSource
from perception_batch.read.containers.mcap_definitions import Definitions
from perception_batch.read.containers.mcap_records import (
    ATTACHMENT_INDEX,
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    DATA_END,
    FOOTER,
    MAX_SCHEMA_BYTES,
    MESSAGE,
    MESSAGE_HEAD,
    MESSAGE_INDEX,
    METADATA_INDEX,
    RECORD,
    SCHEMA,
    STATISTICS,
    SUMMARY_OFFSET,
    BadRecord,
    ChunkHead,
    parse_chunk_head,
    stated_size,
    time_ns,
)
from perception_batch.read.containers.mcap_resync import MAX_CHECKS, candidates
from perception_batch.read.containers.mcap_spans import Span, pack_counts

_PEEK_BYTES = 40
"""Read at each record: enough for all but chunks."""
_CHUNK_PEEK_BYTES = 80

MAX_DAMAGE = 10_000
"""Damaged places after which a file is given up."""
MAX_SPANS = 2_000_000
"""Chunks in a file: 2 TB of those that recorders write."""

_AFTER_DATA = (DATA_END, FOOTER, CHUNK_INDEX, ATTACHMENT_INDEX, STATISTICS, METADATA_INDEX, SUMMARY_OFFSET)
"""Where one of these stands, the data are over."""

_MAX_DEFINITION_BYTES = MAX_SCHEMA_BYTES + (1 << 16)
_NEAR_NS = 3_600_000_000_000
"""A record whose log time is so near to the one before is a message, whatever its kind says."""

_RUN_BYTES = 1 << 20
"""Small messages outside of chunks are read together, up to this size."""
_ALONE_BYTES = 64 << 10
"""A message outside of chunks of this size is read alone, so that large ones that nobody wants are skipped."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Messages that are known to be lost before anything is read."""

    channel: int
    """Number of the channel; -1 where unknown."""
    first_ns: int
    """Log time of the first, or before it; 0 where unknown."""
    stop_ns: int
    """After the last; 0 where unknown."""
    count: int
    """How many; 0 where unknown."""
    reason: str
    """One line for people."""


class Scan:
    """Walks over the records of a file, and over damage."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.spans: list[Span] = []
        """In the order of the file."""
        self.definitions = Definitions()
        """Outside of chunks."""
        self.missing: list[Missing] = []
        """What is lost."""
        self.ended = False
        """The record was met that ends the data."""
        self.damage = 0
        """Places where no record begins that should."""
        self._buffer, self._buffer_at = b"", 0
        self._run: _Run | None = None
        self._counts: Counter[int] = Counter()
        self._index_size = 0
        self._doubtful_index = False
        self._lost_before_index = False
        self._last_ns = 0
        self._checks = 0

    def walk(self, at: int, end: int) -> None:
        """Take all records from `at` up to `end`."""
        while at < end and not self.ended:
            if (after := self._messages(at, end)) > at:
                at = after
                continue
            after_record = self._record(at, end)
            if after_record is None:
                self.damage += 1
                if self.damage > MAX_DAMAGE:
                    reason = f"more than {MAX_DAMAGE} damaged records; what comes after is not read"
                    self.missing.append(Missing(-1, self._last_ns, 0, 0, reason))
                    break
                after_record = self._mend(at, end)
            at = after_record
        self._close_run()
        # Where the file breaks off, further indexes may have stood.
        self._close_chunk(all_indexes=self.ended)

    # ------------------------------------------------------------------ records that are whole

    def _record(self, at: int, end: int) -> int | None:
        """Take the record at `at`; gives where the next one begins, None where this is none."""
        if not self._plausible(at, end):
            return None
        kind, size = self._kind_and_size(at)
        after = at + 9 + size
        self._close_run()
        if kind == CHUNK:
            self._chunk(at, 9 + size, parse_chunk_head(self._peek(at, _CHUNK_PEEK_BYTES)), cut=after > end)
            return min(after, end)
        if kind == MESSAGE_INDEX:
            self._message_index(at, size)
            return after
        self._close_chunk()
        if kind in (SCHEMA, CHANNEL) and size <= _MAX_DEFINITION_BYTES:
            self.definitions.take(kind, self._source.read(at + 9, size))
        elif kind in _AFTER_DATA:
            self.ended = True
        return after

    def _plausible(self, at: int, end: int) -> bool:
        """Whether a record begins at `at`: its kind, its size and its first fields go together."""
        head = self._peek(at, 9)
        if len(head) < 9 or at + 9 > end:
            return False
        kind, size = self._kind_and_size(at)
        if kind == CHUNK:
            chunk = self._chunk_head(at, end)
            # Cut off: both sizes agree, and the file ends before them.
            return chunk is not None and chunk.record_size == 9 + size and chunk.first_ns <= chunk.last_ns
        if at + 9 + size > end:
            return False
        if kind == MESSAGE:
            return size >= 22 and not _is_index(self._peek(at, 15), size)
        if kind >= 0x80:  # such kinds belong to applications, by the specification
            chunk = self._chunk_head(at, end)
            is_chunk = chunk is not None and chunk.record_size == 9 + size
            return not (is_chunk or self._looks_like_message(at, size))
        stated = stated_size(kind, lambda place, width: self._peek(at + 9 + place, width))
        if stated is None or (kind == MESSAGE_INDEX and (size - 6) % 16):
            return False
        return size == stated

    def _looks_like_message(self, at: int, size: int) -> bool:
        head = self._peek(at, MESSAGE_HEAD.size)
        if size < 22 or len(head) < MESSAGE_HEAD.size or self._is_chunked():
            return False
        _, _, channel, _, log_ns, _ = MESSAGE_HEAD.unpack(head)
        return channel in self.definitions.channels and abs(log_ns - self._last_ns) < _NEAR_NS

    def _chunk_head(self, at: int, end: int) -> ChunkHead | None:
        try:
            chunk = parse_chunk_head(self._peek(at, _CHUNK_PEEK_BYTES))
        except BadRecord:
            return None
        return chunk if at + chunk.data_at <= end else None

    def _chunk(self, at: int, size: int, head: ChunkHead, *, cut: bool) -> None:
        self._close_chunk()
        size = min(size, self._source.size - at)
        self._add(Span(at, size, head.first_ns, head.last_ns, head, None, cut=cut))
        self._last_ns = max(self._last_ns, head.last_ns)

    def _close_chunk(self, *, all_indexes: bool = True) -> None:
        """No more message indexes of the last chunk will come."""
        if self._index_size:
            sure = all_indexes and not self._doubtful_index
            counts = pack_counts(self._counts.items()) if sure else None
            self.spans[-1] = replace(self.spans[-1], packed_counts=counts, index_size=self._index_size)
        self._counts, self._index_size, self._doubtful_index = Counter(), 0, False
        self._lost_before_index = False

    def _message_index(self, at: int, size: int) -> None:
        fields = self._peek(at, 15)
        channel = int.from_bytes(fields[9:11], "little")
        if self._lost_before_index:
            self._lost_chunk(at, channel, size)
        elif self._behind_chunk(at):
            if channel in self._counts:  # two of them: the number of one is damaged
                self._doubtful_index = True
            self._counts[channel] += (size - 6) // 16
            self._index_size += 9 + size

    def _behind_chunk(self, at: int) -> bool:
        """Whether a message index at `at` belongs to the last chunk."""
        last = self.spans[-1] if self.spans else None
        return last is not None and last.head is not None and at == last.at + last.size + self._index_size

    def _lost_chunk(self, at: int, channel: int, size: int) -> None:
        """Note the messages of a chunk that is lost, by the index behind it."""
        entries = self._source.read(at + 15, min(size - 6, 1 << 20))
        times = [time for time, _ in struct.iter_unpack("<QQ", entries[: len(entries) // 16 * 16])]
        if times:
            self.missing.append(
                Missing(
                    channel,
                    time_ns(min(times)),
                    time_ns(max(times)) + 1,
                    (size - 6) // 16,
                    "the head of a chunk is damaged",
                )
            )

    def _messages(self, at: int, end: int) -> int:
        """Take all messages outside of chunks from `at` on; gives where something else stands."""
        # Of what stands outside of chunks, there may be millions: this is the loop that counts.
        read, last = self._source.read, end - MESSAGE_HEAD.size
        while at <= last:
            head = read(at, _PEEK_BYTES)
            _, size, channel, _, log_ns, _ = MESSAGE_HEAD.unpack_from(head)
            after = at + 9 + size
            if head[0] != MESSAGE or size < 22 or after > end or _is_index(head, size):
                self._buffer, self._buffer_at = head, at
                break
            if self._run is None:
                self._close_chunk()
            if log_ns > self._last_ns:
                self._last_ns = log_ns = time_ns(log_ns)
            run = self._run
            if run is None or after - run.at > _RUN_BYTES or size >= _ALONE_BYTES:
                self._close_run()
                run = self._run = _Run(at)
            run.add(at, after, channel, log_ns)
            at = after
        return at

    def _close_run(self) -> None:
        run, self._run = self._run, None
        if run is not None and any(run.counts.values()):
            self._add(
                Span(
                    run.at, run.end - run.at, run.first_ns, run.last_ns, None, pack_counts(run.counts.items())
                )
            )

    def _add(self, span: Span) -> None:
        self.spans.append(span)
        if len(self.spans) > MAX_SPANS:
            raise LogError(self._source.path, f"more than {MAX_SPANS} chunks, which is the limit")

    # ------------------------------------------------------------------ over damage

    def _mend(self, at: int, end: int) -> int:
        """Note what is damaged at `at`; gives where the next record begins, or `end`."""
        head = self._peek(at, MESSAGE_HEAD.size)
        kind, size = self._kind_and_size(at) if len(head) >= 9 else (head[0], 0)
        chunk = self._chunk_head(at, end)
        if chunk is not None and chunk.first_ns <= chunk.last_ns:
            # Its kind or one of its two sizes is damaged; the other size leads to a record.
            for guess in (chunk.record_size, 9 + size):
                if chunk.data_at < guess <= end - at and self._joins(at + guess, end):
                    self._close_run()
                    self._chunk(at, guess, chunk._replace(data_size=guess - chunk.data_at), cut=False)
                    return at + guess
        if self._behind_chunk(at) and (kind == MESSAGE_INDEX or _is_index(head, size)):
            # No message is lost: the chunk itself tells what is in it.
            self._doubtful_index = True
            for guess in (15 + int.from_bytes(head[11:15], "little"), 9 + size):
                if 15 <= guess <= end - at and self._joins(at + guess, end):
                    self._index_size += guess
                    return at + guess
        if kind != CHUNK and 0 < size <= end - at - 9 and self._joins(at + 9 + size, end):
            after = at + 9 + size  # only its kind is none
        else:
            doubtful = kind == 0 or kind > DATA_END
            if doubtful and self._run is not None and self._run.end == at:
                return self._mend_behind_message(self._run, at, end, head)
            after = self._next(at + 1, end)
        self._note(at, after, end, head)
        return after

    def _mend_behind_message(self, run: _Run, at: int, end: int, head: bytes) -> int:
        """As `_mend`, where `at` may be the inside of the message before, whose size is damaged."""
        begin, size = run.last_at, at - run.last_at - 9
        after = self._next(begin + MESSAGE_HEAD.size, end)
        wrong = size ^ (after - begin - 9)
        if after >= at and (after == end or wrong & (wrong - 1)):
            self._note(at, after, end, head)  # more than one bit apart: that message is as it should be
            return after
        stamp = time_ns(int(MESSAGE_HEAD.unpack(self._peek(begin, MESSAGE_HEAD.size))[4]))
        self.missing.append(Missing(run.drop_last(), stamp, stamp + 1, 1, "a record is damaged"))
        self._close_run()
        return after

    def _note(self, at: int, after: int, end: int, head: bytes) -> None:
        """Report the damage between `at` and `after`."""
        chunked = self._is_chunked() or head[:1] == bytes([CHUNK])
        self._close_run()
        self._close_chunk(all_indexes=False)
        self._lost_before_index = head[:1] != bytes([MESSAGE_INDEX])
        cut = after >= end == self._source.size
        what = "the file ends inside a record" if cut else "a record is damaged"
        if len(head) == MESSAGE_HEAD.size and not chunked:
            _, _, channel, _, log_ns, _ = MESSAGE_HEAD.unpack(head)
            if channel in self.definitions.channels and (
                head[0] == MESSAGE or abs(log_ns - self._last_ns) < _NEAR_NS
            ):
                stamp = time_ns(log_ns)
                self.missing.append(Missing(channel, stamp, stamp + 1, 1, what))
                return
        if not cut:  # or else the file has no end, which is reported for itself
            self.missing.append(
                Missing(-1, self._last_ns, 0, 0, f"{what} ({after - at} bytes from byte {at})")
            )

    def _joins(self, at: int, end: int) -> bool:
        """Whether a record begins at `at`, or the data end there."""
        return at == end or self._plausible(at, end)

    def _is_chunked(self) -> bool:
        return any(span.head is not None for span in (*self.spans[:1], *self.spans[-1:]))

    def _next(self, at: int, end: int) -> int:
        """The next place from `at` on where a record begins, and another one after it; `end` for none.

        In a file of chunks only chunks and what stands between them are looked for: a message that is found inside
        of a chunk would escape the chunk's checksum.
        """
        kinds = [CHUNK, MESSAGE_INDEX, DATA_END]
        if not self._is_chunked():
            kinds += [SCHEMA, CHANNEL, MESSAGE]
        for place in candidates(self._source, at, end, bytes(kinds)):
            self._checks += 1
            if self._checks > MAX_CHECKS:
                break
            if self._plausible(place, end):
                kind, size = self._kind_and_size(place)
                if kind == MESSAGE:
                    number = int.from_bytes(self._peek(place, 11)[9:], "little")
                    if self.definitions.channels and number not in self.definitions.channels:
                        continue
                if self._joins(min(place + 9 + size, end), end):
                    return place
        return end

    def _kind_and_size(self, at: int) -> tuple[int, int]:
        head = self._peek(at, RECORD.size)
        return head[0], int.from_bytes(head[1:], "little")

    def _peek(self, at: int, size: int) -> bytes:
        """The `size` bytes at `at`, fewer at the end of the file."""
        begin = at - self._buffer_at
        if begin < 0 or begin + size > len(self._buffer):
            self._buffer, self._buffer_at = self._source.read(at, max(size, _PEEK_BYTES)), at
            begin = 0
        return self._buffer[begin : begin + size]


def _is_index(head: bytes, size: int) -> bool:
    """Whether this is a message index by its own size, whatever its kind says."""
    return size >= 22 and int.from_bytes(head[11:15], "little") == size - 6 and (size - 6) % 16 == 0


class _Run:
    """Messages outside of chunks, one behind the other."""

    def __init__(self, at: int) -> None:
        self.at = self.end = self.last_at = at
        self.first_ns, self.last_ns = 2**64, 0
        self.counts: dict[int, int] = {}
        self._last_channel = -1

    def add(self, at: int, after: int, channel: int, log_ns: int) -> None:
        self.last_at, self.end, self._last_channel = at, after, channel
        self.counts[channel] = self.counts.get(channel, 0) + 1
        self.first_ns, self.last_ns = min(self.first_ns, log_ns), max(self.last_ns, log_ns)

    def drop_last(self) -> int:
        """Take the last message back; gives its channel."""
        self.counts[self._last_channel] -= 1
        self.end = self.last_at
        return self._last_channel

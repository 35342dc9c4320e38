"""MCAP files, whole or damaged, of any profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from perception_batch.errors import LogError
from perception_batch.read.containers.byte_source import ByteSource
from perception_batch.read.containers.log_order import in_log_order
from perception_batch.read.containers.logfile import MAX_NS, Channel, Message
from perception_batch.read.containers.mcap_layout import Layout, layout_of
from perception_batch.read.containers.mcap_spans import (
    Content,
    Entry,
    Span,
    SpanDamaged,
    parse_around_damage,
    parse_messages,
    read_span,
)
from perception_batch.read.containers.span_losses import SpanLosses
from perception_batch.read.containers.unpacking import ZSTD_MAGIC
from perception_batch.read.containers.zstd_message import unpack
from perception_batch.types import Loss


class McapFile:
    """An open MCAP file; see `LogFile`.

    Each chunk with wanted messages is read once, as a whole, and its checksum is verified where it has one. The
    checksum over the whole data section, which some writers add, is not: it cannot say which message is damaged.
    """

    counts_by_index = True

    def __init__(self, path: Path, max_message_bytes: int) -> None:
        """Open `path`; see `open_log_file`.

        Raises:
            LogError: damaged so far that not one topic is left, or more chunks than are allowed.
        """
        self.path = path
        self._max_message_bytes = max_message_bytes
        self._source = ByteSource(path)
        try:
            self._layout: Layout = layout_of(self._source)
            if self._layout.scanned and not self._layout.definitions.channels:
                raise LogError(path, "damaged or cut off: no topic is left in it")  # noqa: TRY301
        except BaseException:
            self._source.close()
            raise
        layout = self._layout
        self.salvaged = layout.scanned
        """The counts come from a scan of what is left, not from the file's own summary."""
        self.channels: tuple[Channel, ...] = layout.definitions.readable()
        self._counts = layout.counts()
        self.message_count = sum(self._counts.values())
        self.start_ns, self.stop_ns = layout.time_range() if self.message_count else (MAX_NS, 0)
        self._losses = SpanLosses(
            {number: record.topic for number, record in layout.definitions.channels.items()}
        )
        for missing in layout.missing:
            self._losses.missing(missing)
        for span in layout.spans:
            if span.at in layout.unreadable:
                self._losses.span(span, layout.unreadable[span.at])
            elif span.cut:
                self._losses.cut(span)
        for number, count in sorted(self._counts.items()):
            if count and number not in layout.definitions.channels:
                self._losses.undefined(number, count)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """See `LogFile`."""
        return self._losses.all

    def counts(self) -> Mapping[int, int]:
        """See `LogFile`."""
        return self._counts

    def messages(
        self, channels: Sequence[Channel], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """See `LogFile`."""
        wanted = {c.id: c for c in channels}
        spans = [
            span
            for span in self._layout.spans
            if (start_ns is None or span.last_ns >= start_ns)
            and (stop_ns is None or span.first_ns < stop_ns)
            and span.may_hold(wanted)
            and span.at not in self._layout.unreadable
        ]

        def load(span: Span) -> tuple[Content, list[Entry]] | None:
            return self._load(span, wanted, start_ns, stop_ns)

        if not wanted:
            return
        for (log_ns, begin, end, channel, publish_ns), data in in_log_order(spans, load):
            message = bytes(data[begin:end])
            if message[:4] == ZSTD_MAGIC and channel.encoding == "cdr":
                try:
                    message = unpack(message, self._max_message_bytes)
                except ValueError as error:
                    self._losses.message(channel.topic, log_ns, (log_ns, begin), str(error))
                    continue
            yield Message(log_ns, channel, message, publish_ns)

    def close(self) -> None:
        """See `LogFile`."""
        self._source.close()
        self._layout.kept.clear()

    def _load(
        self, span: Span, wanted: Mapping[int, Channel], start_ns: int | None, stop_ns: int | None
    ) -> tuple[Content, list[Entry]] | None:
        try:
            content = self._layout.kept.pop(span.at, None) or read_span(self._source, span)
            parsed = parse_messages(content, wanted, start_ns, stop_ns)
        except SpanDamaged as error:
            self._losses.span(span, str(error))
            return None
        if parsed.broken_at >= 0 and not span.cut:
            parsed = parse_around_damage(self._source, span, content, parsed, wanted, start_ns, stop_ns)
        if not span.cut and (parsed.broken_at >= 0 or not content.verified):
            self._losses.incomplete(span, parsed)
        return content, parsed.entries

"""What an MCAP file holds and where, from its summary or else from a scan, before any message is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from perception_batch.errors import LogError
from perception_batch.read.containers.byte_source import ByteSource
from perception_batch.read.containers.logfile import MAX_NS
from perception_batch.read.containers.mcap_definitions import Definitions
from perception_batch.read.containers.mcap_records import (
    CHANNEL,
    MAGIC,
    SCHEMA,
    Statistics,
    records_in,
)
from perception_batch.read.containers.mcap_scan import MAX_SPANS, Missing, Scan
from perception_batch.read.containers.mcap_spans import (
    Content,
    Span,
    SpanDamaged,
    pack_counts,
    parse_messages,
    read_span,
)
from perception_batch.read.containers.mcap_summary import (
    Summary,
    read_summary,
    span_of,
)

KEPT_BYTES = 64 << 20
"""Unpacked, of chunks that were read for the definitions in them: they are not read again for their messages."""

SEARCHED_BYTES = 256 << 20
"""Packed, of chunks that are searched for a channel's definition that does not stand where it is first used."""


@dataclass(slots=True)
class Layout:
    """An MCAP file's content."""

    spans: list[Span]
    """In the order of the file."""
    definitions: Definitions
    """Schemas and channels."""
    scanned: bool
    """No summary was there that could be believed."""
    statistics: Statistics | None = None
    """As the summary says."""
    missing: list[Missing] = field(default_factory=list)
    """What is lost, as far as a look at the records' heads tells."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Spans that cannot be read, as far as that was tried, by their places: the reason."""
    kept: dict[int, Content] = field(default_factory=dict)
    """Spans that were read already, by their places."""

    def counts(self) -> dict[int, int]:
        """Messages by channel."""
        if self.statistics is not None and any(span.packed_counts is None for span in self.spans):
            return dict(self.statistics.counts)
        # Where the two differ, the sum is right: it comes from one entry a message.
        total: Counter[int] = Counter()
        for span in self.spans:
            total.update(span.counts)
        return dict(total)

    def time_range(self) -> tuple[int, int]:
        """Log time of the first message, and just after that of the last one, ns."""
        full = [s for s in self.spans if s.packed_counts is None or any(s.counts.values())]
        if not full:
            return MAX_NS, 0
        return min(s.first_ns for s in full), max(s.last_ns for s in full) + 1


def layout_of(source: ByteSource) -> Layout:
    """Look at the file's summary, and where that is absent or wrong at all its records."""
    summary = read_summary(source)
    layout = None if summary is None else _by_summary(source, summary)
    if layout is None:
        scan = Scan(source)
        scan.walk(len(MAGIC), source.size)
        layout = Layout(scan.spans, scan.definitions, True, missing=scan.missing)
        if not scan.ended and not any(span.cut for span in scan.spans):
            last_ns = max((span.last_ns for span in scan.spans), default=0)
            layout.missing.append(Missing(-1, last_ns, 0, 0, "the file ends before its end was written"))
    _Definitions(source, layout).find()
    if summary is not None and not layout.scanned:
        layout.missing += _short_of(summary, layout)
    return layout


def _short_of(summary: Summary, layout: Layout) -> list[Missing]:
    """Messages that the summary counts, and that are not in the file."""
    outside = any(span.head is None for span in layout.spans)
    if summary.statistics is None or not (summary.verified or outside):
        return []
    counts, (start_ns, stop_ns) = layout.counts(), layout.time_range()
    reason = "the summary counts more messages than there are"
    return [
        Missing(channel, start_ns, stop_ns, stated - counts.get(channel, 0), reason)
        for channel, stated in sorted(summary.statistics.counts.items())
        if stated > counts.get(channel, 0)
    ]


def _by_summary(source: ByteSource, summary: Summary) -> Layout | None:
    """The summary's chunks and what stands between them; None where they do not fit into the file."""
    spans: list[Span] = []
    if len(summary.chunks) > MAX_SPANS:
        raise LogError(source.path, f"more than {MAX_SPANS} chunks, which is the limit")
    between = Scan(source)
    at = len(MAGIC)
    for chunk in summary.chunks:
        if chunk.at < at or chunk.at + chunk.size + chunk.index_size > summary.data_end:
            return None
        between.walk(at, chunk.at)
        if between.damage or between.ended:
            return None
        if chunk.size <= 49 or chunk.data_size > chunk.size:
            return None
        spans.append(span_of(chunk))
        at = chunk.at + chunk.size + chunk.index_size
    between.walk(at, summary.data_end)
    if between.damage or between.ended:
        return None
    # Messages outside of chunks, and chunks that the summary leaves out.
    if between.spans:
        spans = sorted([*spans, *between.spans], key=lambda span: span.at)
    summary.definitions.take_all(between.definitions)
    return Layout(spans, summary.definitions, False, summary.statistics)


class _Definitions:
    """Finds schemas and channels that stand in chunks only, and counts where no index does."""

    def __init__(self, source: ByteSource, layout: Layout) -> None:
        self._source = source
        self._layout = layout
        self._kept_bytes = 0
        self._opened: set[int] = set()

    def find(self) -> None:
        """Open as few chunks as possible."""
        layout = self._layout
        must_count = layout.statistics is None
        hopeless: set[int] = set()
        searched = 0
        for i, span in enumerate(layout.spans):
            if span.head is None:
                continue
            if span.packed_counts is None:
                if must_count or not layout.definitions.channels:
                    self._open(i, count=must_count)
                continue
            unknown = {
                c for c, n in span.counts.items() if n and not layout.definitions.defines(c)
            } - hopeless
            # Where it is first used, and else before.
            for j in range(i, -1, -1):
                if not unknown:
                    break
                candidate = layout.spans[j]
                if candidate.head is None or candidate.at in self._opened:
                    continue
                if j < i:
                    searched += candidate.size
                    if searched > SEARCHED_BYTES:
                        break
                self._open(j, count=False)
                unknown = {c for c in unknown if not layout.definitions.defines(c)}
            hopeless |= unknown

    def _open(self, position: int, *, count: bool) -> None:
        layout, span = self._layout, self._layout.spans[position]
        self._opened.add(span.at)
        try:
            content = read_span(self._source, span)
        except SpanDamaged as error:
            layout.unreadable[span.at] = str(error)
            # Messages of other chunks need what is defined here, and there is no checksum to refuse it.
            if error.rest is not None:
                self._take_definitions(error.rest)
            return
        self._take_definitions(content)
        if count or self._layout.scanned:
            parsed = parse_messages(content, {}, None, None)
            if span.packed_counts is None or content.verified:
                layout.spans[position] = replace(span, packed_counts=pack_counts(parsed.found.items()))
        self._kept_bytes += len(content.data)
        if self._kept_bytes <= KEPT_BYTES:
            layout.kept[span.at] = content

    def _take_definitions(self, content: Content) -> None:
        view = memoryview(content.data)
        for kind, begin, end in records_in(content.data, content.begin, len(content.data)):
            if kind in (SCHEMA, CHANNEL):
                self._layout.definitions.take(kind, view[begin:end])

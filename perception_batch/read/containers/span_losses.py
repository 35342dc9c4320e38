"""What an MCAP file turns out to have lost, once for each place, however often it is read."""

from __future__ import annotations

from collections.abc import Mapping

from perception_batch.errors import printable
from perception_batch.read.containers.lost_messages import LostMessages
from perception_batch.read.containers.mcap_scan import Missing
from perception_batch.read.containers.mcap_spans import Parsed, Span
from perception_batch.types import Loss


class SpanLosses:
    """The losses of one file."""

    def __init__(self, topics: Mapping[int, str]) -> None:
        """Nothing is lost yet.

        Args:
            topics: by channel number.
        """
        self._topics = topics
        self._lost = LostMessages()

    @property
    def all(self) -> tuple[Loss, ...]:
        """By topic and reason."""
        return self._lost.as_losses()

    def missing(self, missing: Missing) -> None:
        """Messages that the file's records tell to be lost."""
        self._lost.add(
            self._topics.get(missing.channel, "*"),
            missing.reason,
            key=missing,
            start_ns=missing.first_ns,
            stop_ns=missing.stop_ns,
            count=missing.count,
        )

    def undefined(self, channel: int, count: int) -> None:
        """Messages of a channel that is not defined in what is left of the file."""
        reason = "their channel is not defined in what is left of the file"
        self._lost.add("*", reason, key=channel, count=count)

    def message(self, topic: str, log_ns: int, place: tuple[int, int], reason: str) -> None:
        """One message."""
        self._lost.add(topic, printable(reason), key=place, start_ns=log_ns, stop_ns=log_ns + 1)

    def span(self, span: Span, reason: str) -> None:
        """All messages of a chunk."""
        reason = f"a chunk is damaged: {printable(reason)}"
        if span.packed_counts is None:
            self._of_span(span, "*", reason, 0)
        for channel, count in span.counts.items():
            if count:
                self._of_span(span, self._topics.get(channel, "*"), reason, count)

    def cut(self, span: Span) -> None:
        """The end of the chunk in which the file ends."""
        self._of_span(span, "*", "the file ends inside a chunk", 0)

    def incomplete(self, span: Span, parsed: Parsed) -> None:
        """Messages that the index behind a chunk names and that are not in it."""
        reason = "a record in a chunk is damaged"
        for channel, count in span.counts.items():
            short = count - parsed.found.get(channel, 0)
            if short > 0:
                self._of_span(span, self._topics.get(channel, "*"), reason, short)
        if span.packed_counts is None and parsed.broken_at >= 0:
            self._of_span(span, "*", reason, 0)

    def _of_span(self, span: Span, topic: str, reason: str, count: int) -> None:
        self._lost.add(
            topic,
            reason,
            key=(span.at, topic),
            start_ns=span.first_ns,
            stop_ns=span.last_ns + 1,
            count=count,
        )

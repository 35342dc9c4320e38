"""Several files as one sequence of messages in log-time order, each byte read once."""

from __future__ import annotations

import heapq
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence

from perception_batch.errors import LogError, printable
from perception_batch.read.containers.logfile import MAX_NS, Channel, LogFile, Message, reason_of
from perception_batch.types import Loss

log = logging.getLogger(__name__)

LossSink = Callable[[Loss], None]

_NO_CHANNEL = Channel(-1, "", "", "cdr", "", False)


def merged(
    files: Sequence[LogFile],
    topics: Collection[str],
    start_ns: int | None,
    stop_ns: int | None,
    lose: LossSink,
) -> Iterator[Message]:
    """Messages of `topics` of all files in log-time order; a file that breaks ends there, with a `Loss`."""
    runs = []
    for file in files:
        channels = [c for c in file.channels if c.topic in topics]
        beyond = (stop_ns is not None and file.start_ns >= stop_ns) or (
            start_ns is not None and file.stop_ns <= start_ns
        )
        if channels and not beyond:
            runs.append(_guarded(file, channels, start_ns, stop_ns, lose))
    return (m for m in heapq.merge(*runs, key=_log_ns) if m.channel is not _NO_CHANNEL)


def _log_ns(message: Message) -> int:
    return message.log_ns


def _guarded(
    file: LogFile, channels: Sequence[Channel], start_ns: int | None, stop_ns: int | None, lose: LossSink
) -> Iterator[Message]:
    # A mark that costs nothing, so that merging does not open every split of a long drive at once.
    begin = max(file.start_ns, -MAX_NS if start_ns is None else start_ns)
    yield Message(begin, _NO_CHANNEL, b"")
    came: Counter[int] = Counter()
    last_ns = begin
    try:
        for message in file.messages(channels, start_ns, stop_ns):
            came[message.channel.id] += 1
            last_ns = message.log_ns
            yield message
    except Exception as error:
        detail = error.detail if isinstance(error, LogError) else reason_of(error)
        reason = f"{printable(file.path.name)} is damaged: {detail}"
        log.warning("%s: stopped at %d ns: %s", printable(file.path), last_ns, detail)
        whole = start_ns is None and stop_ns is None
        counts = file.counts()
        all_known = sum(counts.values()) == file.message_count
        told = Counter[str]()
        for loss in file.losses:
            told[loss.topic] += loss.count
        for topic in dict.fromkeys(channel.topic for channel in channels):
            ids = [channel.id for channel in channels if channel.topic == topic]
            missing = sum(counts.get(i, 0) - came[i] for i in ids) - told[topic] if whole else 0
            if missing > 0 or not (whole and all_known):
                end = file.stop_ns if stop_ns is None else min(file.stop_ns, stop_ns)
                lose(Loss(topic, last_ns, max(end, last_ns), max(missing, 0), reason))


class Tape:
    """A sequence of messages whose beginning is kept, to be looked at and then played once."""

    def __init__(
        self, messages: Iterator[Message], topics: frozenset[str], max_span_ns: float, max_bytes: float
    ) -> None:
        """Keep nothing yet.

        Args:
            messages: in log-time order.
            topics: all that `messages` may hold.
            max_span_ns: log time that is kept; one message more.
            max_bytes: size that is kept; one message more.
        """
        self.topics = topics
        self.kept: deque[Message] = deque()
        self.kept_bytes = 0
        self.ended = False
        self._messages = messages
        self._max_span_ns = max_span_ns
        self._max_bytes = max_bytes

    def wind(self) -> None:
        """Read and keep until a limit is passed, or to the end."""
        while not self._full() and self._pull() is not None:
            pass

    def first_of(self, topics: Collection[str]) -> dict[str, Message]:
        """The first message of each of `topics`, as far as the limits allow to look."""
        first: dict[str, Message] = {}
        for message in self.kept:
            first.setdefault(message.channel.topic, message)
        while not set(topics) <= set(first) and not self._full():
            pulled = self._pull()
            if pulled is None:
                break
            first.setdefault(pulled.channel.topic, pulled)
        return {topic: first[topic] for topic in topics if topic in first}

    def play(self) -> Iterator[Message]:
        """What was kept, giving it up, and then the rest."""
        while self.kept:
            yield self.kept.popleft()
        yield from self._messages

    def _full(self) -> bool:
        if not self.kept:
            return False
        span = self.kept[-1].log_ns - self.kept[0].log_ns
        return span > self._max_span_ns or self.kept_bytes > self._max_bytes

    def _pull(self) -> Message | None:
        """Read and keep one more message; None at the end."""
        message = next(self._messages, None)
        if message is None:
            self.ended = True
            return None
        self.kept.append(message)
        self.kept_bytes += len(message.data)
        return message

"""Several files as one sequence of messages in log-time order, each byte read once."""

from __future__ import annotations

import heapq
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence

from perception_batch.errors import LogError, printable
from perception_batch.read.logfile import MAX_NS, Channel, LogFile, Message, reason_of
from perception_batch.types import Loss

log = logging.getLogger(__name__)

LossSink = Callable[[Loss], None]

_NO_CHANNEL = Channel(-1, "", "", 0, 2, "", False)


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
        channels = [c for c in file.channels if c.topic in topics and c.count]
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
        for channel in channels:
            missing = channel.count - came[channel.id] if whole else 0
            if missing > 0 or not whole:
                end = file.stop_ns if stop_ns is None else min(file.stop_ns, stop_ns)
                lose(Loss(channel.topic, last_ns, max(end, last_ns), missing, reason))


class Tape:
    """A sequence of messages whose beginning is kept, to be looked at and then played once."""

    def __init__(self, messages: Iterator[Message], topics: frozenset[str]) -> None:
        self.topics = topics
        self.kept: deque[Message] = deque()
        self.kept_bytes = 0
        self.ended = False
        self._messages = messages

    def pull(self) -> Message | None:
        """Read and keep one more message; None at the end."""
        message = next(self._messages, None)
        if message is None:
            self.ended = True
            return None
        self.kept.append(message)
        self.kept_bytes += len(message.data)
        return message

    def play(self) -> Iterator[Message]:
        """What was kept, giving it up, and then the rest."""
        while self.kept:
            yield self.kept.popleft()
        yield from self._messages

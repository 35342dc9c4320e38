"""The messages of motion in the first seconds of a log, kept to try sources on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from perception_batch.read.containers.logfile import Message
from perception_batch.read.motion.foxglove_motion import as_ros

MAX_KEPT = 2000
"""Messages of one topic that are kept."""


@dataclass(frozen=True, slots=True)
class MotionMessage:
    """One parsed message that tells motion."""

    topic: str
    """Its topic."""
    msgtype: str
    """Its type."""
    content: Any
    """With the fields of the type, or of its twin in ROS."""
    log_ns: int
    """Log time."""

    @classmethod
    def of(cls, message: Message, content: Any) -> MotionMessage:
        """From a message of a log and what it holds.

        Raises:
            AttributeError, TypeError, ValueError: `content` has not the fields of its type.
        """
        channel = message.channel
        return cls(channel.topic, channel.msgtype, as_ros(channel.msgtype, content), message.log_ns)

    @property
    def is_static(self) -> bool:
        """True for transforms that do not change."""
        return self.topic.rsplit("/", 1)[-1] == "tf_static"


class MotionHead:
    """What the head of a log tells of motion."""

    def __init__(self) -> None:
        self.messages: list[MotionMessage] = []
        """In log-time order; static transforms are not kept."""
        self._kept: Counter[str] = Counter()
        self._newest_ns: dict[str, int] = {}

    def keep(self, message: MotionMessage) -> None:
        """Keep a message, unless it was looked at before or its topic has enough."""
        newest = self._newest_ns.get(message.topic)
        again = newest is not None and message.log_ns < newest
        if message.is_static or again or self._kept[message.topic] >= MAX_KEPT:
            return
        self._newest_ns[message.topic] = message.log_ns
        self._kept[message.topic] += 1
        self.messages.append(message)

    def has_enough(self, topic: str) -> bool:
        """True where more messages of a topic need not be parsed."""
        return self._kept[topic] >= MAX_KEPT

    def first(self) -> list[MotionMessage]:
        """The first message of each topic, by topic."""
        first: dict[str, MotionMessage] = {}
        for message in self.messages:
            first.setdefault(message.topic, message)
        return [first[topic] for topic in sorted(first)]

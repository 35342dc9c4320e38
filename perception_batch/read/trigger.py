"""The stamps of a topic that makes timesteps: a camera trigger's, a lidar's; only the stamp is read, never the points.

A message tells its time by its ``std_msgs/Header`` where that comes first (`PointCloud2`, `TimeReference` and nearly
every other), by being a Header or a Time itself, or, of Foxglove's types, by ``timestamp``. One clock is chosen for
the whole topic, by the rules of `read.images.clock`; without a usable stamp it is the time of publishing or recording.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Literal

from perception_batch.read.containers.logfile import Channel, Message
from perception_batch.read.images.clock import Clock, Times, choose_clock, median_skew_ns, plausible
from perception_batch.read.images.foxglove_image import protobuf_stamp_ns
from perception_batch.read.images.frames import int64
from perception_batch.read.images.image_message import MalformedMessage
from perception_batch.read.images.stamps import FAR_NS
from perception_batch.read.small_message import first_field
from perception_batch.types import Loss, Trigger

_TIMES = ("builtin_interfaces/msg/Time", "std_msgs/msg/Time")
_HEADERS = ("std_msgs/msg/Header", "std_msgs/msg/header")
_MAX_JSON_BYTES = 4 << 20
_KEPT = 4096  # triggers of the head that are looked at


class TriggerReader:
    """Makes the triggers of one topic.

    Args:
        topic: its name.
        setting: the config's `read.clock`.
    """

    def __init__(self, topic: str, setting: str) -> None:
        self.topic = topic
        self.clock: Clock = "log"
        """Which time the triggers carry; decided by `decide`."""
        self.skew_ns = 0
        """Median of log time less stamp in the head, ns."""
        self.bad = 0
        """Messages without a plausible stamp, of the last stream."""
        self._setting = setting
        self._seen: list[Times] = []
        self._readers: dict[tuple[str, str, str, bytes], Callable[[bytes], int | None]] = {}

    def look_at(self, message: Message) -> None:
        """Keep the times of a message of the head."""
        if len(self._seen) < _KEPT:
            self._seen.append(Times(self._header_ns(message) or 0, message.publish_ns, message.log_ns))

    @property
    def saw_none(self) -> bool:
        """True as long as no message was looked at."""
        return not self._seen

    def decide(self) -> tuple[tuple[int, int], ...]:
        """Choose the clock from what was looked at; gives (stamp_ns, log_ns) of all that is plausible by it."""
        has_stamps = any(times.header_ns for times in self._seen)
        setting = "auto" if self._setting == "header" and not has_stamps else self._setting
        self.clock = choose_clock(setting, self._seen)
        pairs = [
            (int64(times.of(self.clock)), int64(times.log_ns))
            for times in self._seen
            if self.clock == "log" or plausible(times.of(self.clock), times.log_ns)
        ]
        self.skew_ns = 0 if self.clock == "log" else median_skew_ns(pairs)
        self._seen = []
        return tuple(pair for pair in pairs if abs(pair[1] - pair[0] - self.skew_ns) <= FAR_NS)

    def make(self, message: Message) -> Trigger | None:
        """The trigger of one message; None, and counted, where its stamp cannot be."""
        stamp_ns: int | None = message.log_ns
        if self.clock == "header":
            stamp_ns = self._header_ns(message)
        elif self.clock == "publish":
            stamp_ns = message.publish_ns
        if stamp_ns is None or not (self.clock == "log" or plausible(stamp_ns, message.log_ns)):
            self.bad += 1
            return None
        return Trigger(int64(stamp_ns), int64(message.log_ns))

    def losses(self, judged_bad: int) -> tuple[Loss, ...]:
        """Messages that made no timestep because nobody knows their time; so many more were found to have a wild one."""
        count = self.bad + judged_bad
        return (Loss(self.topic, 0, 0, count, "triggers without a plausible stamp"),) if count else ()

    def _header_ns(self, message: Message) -> int | None:
        """The stamp in the message, ns; None where it holds none."""
        channel = message.channel
        key = (channel.encoding, channel.msgtype, channel.definition, channel.schema)
        if key not in self._readers:
            self._readers[key] = _reader_of(channel)
        if channel.encoding == "file":
            return message.publish_ns
        try:
            return self._readers[key](message.data)
        except (ValueError, struct.error, IndexError):
            return None


def _reader_of(channel: Channel) -> Callable[[bytes], int | None]:
    """What finds the stamp in the bytes of a message."""
    if channel.encoding == "protobuf":
        return lambda data: protobuf_stamp_ns(data, channel.msgtype, channel.schema)
    if channel.encoding == "json":
        return _of_json
    kind = _kind(channel)
    if kind is None:
        return lambda _: None
    if channel.encoding == "ros1":  # a Header begins with its number
        at = 4 if kind == "header" else 0
        return lambda data: _joined(struct.unpack_from("<II", data, at))
    return lambda data: _joined(struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4))


def _joined(parts: tuple[int, int]) -> int:
    return parts[0] * 1_000_000_000 + parts[1]


def _kind(channel: Channel) -> Literal["header", "time"] | None:
    """What a ROS message begins with."""
    if channel.msgtype in _HEADERS:
        return "header"
    if channel.msgtype in _TIMES:
        return "time"
    first = first_field(channel)
    if first in _HEADERS:
        return "header"
    return "time" if first in _TIMES else None


def _of_json(data: bytes) -> int | None:
    """Of a message with ``timestamp`` (Foxglove) or ``header.stamp``, or of a time itself."""
    if len(data) > _MAX_JSON_BYTES:
        raise MalformedMessage(f"JSON of {len(data)} bytes")
    try:
        message = json.loads(data)
    except RecursionError:
        return None
    if not isinstance(message, dict):
        return None
    header = message.get("header")
    time = message.get("timestamp", header.get("stamp") if isinstance(header, dict) else message)
    if not isinstance(time, dict):
        return None
    seconds = time.get("sec", time.get("seconds"))
    nanos = time.get("nsec", time.get("nanosec", time.get("nanos", 0)))
    if type(seconds) is not int or type(nanos) is not int or max(abs(seconds), abs(nanos)) >= 2**63:
        return None
    return seconds * 1_000_000_000 + nanos

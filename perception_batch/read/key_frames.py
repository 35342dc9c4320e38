"""Where to begin reading, so that every video has a key frame before the range that is wanted."""

from __future__ import annotations

from collections.abc import Iterable

from perception_batch.read.containers.drive_files import DriveFiles
from perception_batch.read.images.frames import parse_image
from perception_batch.types import VideoPayload

KEY_SEARCH_NS = 5_000_000_000
"""How far back a key frame is looked for at first; each further look goes twice as far."""


def before_key_frames(files: DriveFiles, topics: Iterable[str], low_ns: int) -> int:
    """A log time before which every video has a key frame that is near `low_ns`; else the first of the log.

    Args:
        files: the log.
        topics: of the videos.
        low_ns: log time from which their pictures are wanted.
    """
    wanted = set(topics)
    begin, span_ns = low_ns, KEY_SEARCH_NS
    while wanted and begin > files.start_ns:
        begin -= span_ns
        keys: dict[str, int] = {}
        for message in files.messages(wanted, begin, begin + span_ns):
            payload = parse_image(message).payload
            if isinstance(payload, VideoPayload) and payload.is_key:
                keys[message.channel.topic] = message.log_ns
        for topic, log_ns in keys.items():
            wanted.discard(topic)
            low_ns = min(low_ns, log_ns)
        span_ns *= 2
    return min(low_ns, begin) if wanted else low_ns

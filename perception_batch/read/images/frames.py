"""Image messages as `EncodedFrame`: which clock, which stamp, which number."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from perception_batch.errors import printable
from perception_batch.read.containers.logfile import Message
from perception_batch.read.images.image_header import UNKNOWN, still_header
from perception_batch.read.images.image_message import MalformedMessage, parse_raw, parse_still
from perception_batch.read.small_message import COMPRESSED
from perception_batch.types import EncodedFrame, RawPayload, StillPayload

Clock = Literal["header", "log"]

DAY_NS = 86_400 * 1_000_000_000
"""A stamp further than this from the log time is no time of this recording."""

_MAX_SIDE_PX = 2**31 - 1


def int64(value_ns: int) -> int:
    """The nearest time that 64 bits hold; MCAP's log times have no sign."""
    return min(max(value_ns, -(2**63)), 2**63 - 1)


def plausible(stamp_ns: int, log_ns: int) -> bool:
    """True for a header stamp that can be the time of this recording."""
    return stamp_ns != 0 and abs(stamp_ns - log_ns) <= DAY_NS


@dataclass(frozen=True, slots=True)
class ParsedImage:
    """An image message, parsed; `ok` is False where the bytes hold none."""

    ok: bool
    """False: all else is empty."""
    stamp_ns: int = 0
    """Header stamp, ns."""
    frame_id: str = ""
    """Header frame."""
    encoding: str = UNKNOWN
    """As in `EncodedFrame`."""
    width_px: int = 0
    """As claimed."""
    height_px: int = 0
    """As claimed."""
    is_depth: bool = False
    """True for the compressedDepth transport."""
    payload: StillPayload | RawPayload = field(default_factory=lambda: StillPayload(b""))
    """The image."""


def parse_image(message: Message) -> ParsedImage:
    """Parse an image message of either type, without copying the image."""
    channel = message.channel
    ros: Literal[1, 2] = 1 if channel.encoding == "ros1" else 2
    try:
        if channel.msgtype == COMPRESSED:
            still = parse_still(message.data, ros)
            encoding, *claimed = still_header(still.data)
            width, height = _believed(*claimed)
            depth = "compresseddepth" in still.format.lower()
            return ParsedImage(
                True,
                still.stamp_ns,
                still.frame_id,
                encoding,
                width,
                height,
                depth,
                StillPayload(still.data),
            )
        raw = parse_raw(message.data, ros)
    except MalformedMessage:
        return ParsedImage(False)
    width, height = _believed(raw.width_px, raw.height_px)
    return ParsedImage(
        True,
        raw.stamp_ns,
        raw.frame_id,
        printable(raw.encoding.strip().lower())[:40] or UNKNOWN,
        width,
        height,
        False,
        RawPayload(raw.data, raw.step_bytes, raw.is_bigendian),
    )


def _believed(width_px: int, height_px: int) -> tuple[int, int]:
    """A claimed size, or 0 x 0 for one that no image has."""
    believed = min(width_px, height_px) > 0 and max(width_px, height_px) <= _MAX_SIDE_PX
    return (width_px, height_px) if believed else (0, 0)


def choose_clock(setting: str, stamps_ns: Sequence[tuple[int, int]]) -> Clock:
    """The clock of a topic from (header stamp, log time) pairs: header where the majority is plausible."""
    if setting == "header":
        return "header"
    good = sum(plausible(stamp, log) for stamp, log in stamps_ns)
    return "log" if setting == "log" or 2 * good <= len(stamps_ns) else "header"


def median_skew_ns(pairs_ns: Sequence[tuple[int, int]]) -> int:
    """Median of log time less stamp, ns; 0 for no pairs."""
    return statistics.median_low([log - stamp for stamp, log in pairs_ns]) if pairs_ns else 0


class FrameMaker:
    """Makes the frames of one camera, in log order."""

    def __init__(self, camera: str, clock: Clock, skew_ns: int, offset_ns: int) -> None:
        self._camera = camera
        self._clock = clock
        self._skew_ns = skew_ns
        self._offset_ns = offset_ns
        self._sequence = 0

    def make(self, message: Message) -> EncodedFrame:
        """The frame of one message; a message that cannot be parsed is a frame without an image."""
        image = parse_image(message)
        stamp_ok = True
        if self._clock == "log":
            original = message.log_ns
        elif not image.ok:
            # Counted like every frame, near where its picture would have been.
            original = message.log_ns - self._skew_ns - self._offset_ns
        else:
            original = image.stamp_ns
            stamp_ok = plausible(original, message.log_ns)
        frame = EncodedFrame(
            camera=self._camera,
            stamp_ns=int64(original + self._offset_ns),
            log_ns=int64(message.log_ns),
            payload=image.payload,
            encoding=image.encoding,
            sequence=self._sequence,
            width_px=image.width_px,
            height_px=image.height_px,
            original_stamp_ns=int64(original),
            unused="" if stamp_ok else "bad_stamp",
        )
        self._sequence += 1
        return frame

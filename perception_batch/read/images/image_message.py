"""Image messages straight from their bytes: header and fields by struct, pixels as a view, nothing copied.

Layouts: ``sensor_msgs/Image`` and ``CompressedImage`` in ROS 1 serialisation (little endian, packed, the header
begins with a sequence number, strings without a final zero) and in CDR (OMG: a four-byte header that states the
byte order, fields aligned to their size counted from behind it, strings with a final zero).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

MAX_NAME_BYTES = 4096
"""Longest frame id, format or encoding that is believed."""


class MalformedMessage(ValueError):
    """The bytes do not hold such a message."""


@dataclass(frozen=True, slots=True)
class StillMessage:
    """A ``sensor_msgs/CompressedImage``."""

    stamp_ns: int
    """Header stamp, ns."""
    frame_id: str
    """Header frame."""
    format: str
    """As the driver wrote it; not to be trusted."""
    data: memoryview
    """The compressed image."""


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A ``sensor_msgs/Image``."""

    stamp_ns: int
    """Header stamp, ns."""
    frame_id: str
    """Header frame."""
    width_px: int
    """As claimed."""
    height_px: int
    """As claimed."""
    encoding: str
    """As in the message."""
    is_bigendian: bool
    """Byte order of the pixels."""
    step_bytes: int
    """Bytes a row."""
    data: memoryview
    """The pixels."""


class _Fields:
    """Reads one field after the other; never beyond the end."""

    __slots__ = ("_align", "_at", "_data", "_end", "_order", "_zero")

    def __init__(self, data: bytes, ros: Literal[1, 2]) -> None:
        self._data = memoryview(data)
        self._end = len(data)
        self._align = ros == 2
        self._order = "<"
        self._at = 0
        self._zero = 0
        if ros == 2:
            # Second byte of the encapsulation header: 0/1 plain CDR, 6/7 plain CDR2, big/little endian. CDR2
            # differs in the alignment of eight-byte fields only, and images have none.
            if self._end < 4 or data[0] != 0 or data[1] not in (0, 1, 6, 7):
                raise MalformedMessage("no CDR header")
            self._order = "<" if data[1] & 1 else ">"
            self._at = self._zero = 4

    def words(self, letters: str) -> tuple[int, ...]:
        """Four-byte integers: ``i`` signed, ``I`` unsigned."""
        if self._align:
            self._at += -(self._at - self._zero) % 4
        stop = self._at + 4 * len(letters)
        if stop > self._end:
            raise MalformedMessage("cut off")
        values = struct.unpack_from(self._order + letters, self._data, self._at)
        self._at = stop
        return values

    def byte(self) -> int:
        if self._at >= self._end:
            raise MalformedMessage("cut off")
        self._at += 1
        return self._data[self._at - 1]

    def text(self) -> str:
        (size,) = self.words("I")
        if size > MAX_NAME_BYTES:
            raise MalformedMessage(f"a name of {size} bytes")
        return bytes(self._take(size)).rstrip(b"\0").decode("utf-8", "replace")

    def blob(self) -> memoryview:
        (size,) = self.words("I")
        return self._take(size)

    def _take(self, size: int) -> memoryview:
        stop = self._at + size
        if stop > self._end:
            raise MalformedMessage("cut off")
        view = self._data[self._at : stop]
        self._at = stop
        return view


def _header(fields: _Fields, ros: Literal[1, 2]) -> tuple[int, str]:
    if ros == 1:
        _, seconds, nanoseconds = fields.words("III")
    else:
        seconds, nanoseconds = fields.words("iI")
    return seconds * 1_000_000_000 + nanoseconds, fields.text()


def parse_still(data: bytes, ros: Literal[1, 2]) -> StillMessage:
    """A ``sensor_msgs/CompressedImage``.

    Raises:
        MalformedMessage: the bytes do not hold one.
    """
    fields = _Fields(data, ros)
    stamp_ns, frame_id = _header(fields, ros)
    return StillMessage(stamp_ns, frame_id, fields.text(), fields.blob())


def parse_raw(data: bytes, ros: Literal[1, 2]) -> RawMessage:
    """A ``sensor_msgs/Image``.

    Raises:
        MalformedMessage: the bytes do not hold one.
    """
    fields = _Fields(data, ros)
    stamp_ns, frame_id = _header(fields, ros)
    height, width = fields.words("II")
    encoding = fields.text()
    is_bigendian = bool(fields.byte())
    (step,) = fields.words("I")
    return RawMessage(stamp_ns, frame_id, width, height, encoding, is_bigendian, step, fields.blob())

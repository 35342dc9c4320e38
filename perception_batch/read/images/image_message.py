"""Image messages of ROS straight from their bytes: fields by struct, pixels as a view, nothing copied.

Two serialisations: ROS 1 (little endian, packed, a header begins with a sequence number, strings without a final
zero) and CDR (OMG: a four-byte header that states the byte order, fields aligned to their size counted from behind
it, strings with a final zero). The fields and their order are tables; for types that changed over the years
(``FFMPEGPacket``) and for Foxglove's, the definition in the file goes over the table.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from perception_batch.read.images.camera_types import FFMPEG_PACKET
from perception_batch.read.small_message import COMPRESSED, IMAGE

MAX_NAME_BYTES = 4096
"""Longest frame id, format or encoding that is believed."""

Layout = tuple[tuple[str, str], ...]
"""(field of `ImageMessage` or other name, kind) of each field, in order. Kinds: ``header``, ``time``, ``text``,
``blob``, or the size of a number in bytes."""

_HEADER = (("header", "header"),)
_STAMPED = (("timestamp", "time"), ("frame_id", "text"))
_LAYOUTS: dict[str, Layout] = {
    COMPRESSED: (*_HEADER, ("format", "text"), ("data", "blob")),
    IMAGE: (
        *_HEADER,
        ("height", "4"),
        ("width", "4"),
        ("encoding", "text"),
        ("is_bigendian", "1"),
        ("step", "4"),
        ("data", "blob"),
    ),
    "foxglove_msgs/msg/CompressedImage": (*_STAMPED, ("data", "blob"), ("format", "text")),
    "foxglove_msgs/msg/CompressedVideo": (*_STAMPED, ("data", "blob"), ("format", "text")),
    "foxglove_msgs/msg/RawImage": (
        *_STAMPED,
        ("width", "4"),
        ("height", "4"),
        ("encoding", "text"),
        ("step", "4"),
        ("data", "blob"),
    ),
    FFMPEG_PACKET: (
        *_HEADER,
        ("width", "4"),
        ("height", "4"),
        ("encoding", "text"),
        ("pts", "8"),
        ("flags", "1"),
        ("is_bigendian", "1"),
        ("data", "blob"),
    ),
}
_KINDS = {
    "std_msgs/Header": "header",
    "std_msgs/msg/Header": "header",
    "Header": "header",
    "time": "time",
    "builtin_interfaces/Time": "time",
    "builtin_interfaces/msg/Time": "time",
    "string": "text",
    "uint8[]": "blob",
    "byte[]": "blob",
    "char[]": "blob",
    **dict.fromkeys(("bool", "byte", "char", "int8", "uint8"), "1"),
    **dict.fromkeys(("int16", "uint16"), "2"),
    **dict.fromkeys(("int32", "uint32", "float32"), "4"),
    **dict.fromkeys(("int64", "uint64", "float64"), "8"),
}
_OLD_NAMES = {"img_width": "width", "img_height": "height"}  # FFMPEGPacket of ROS 1


class MalformedMessage(ValueError):
    """The bytes do not hold such a message."""


@dataclass(frozen=True, slots=True)
class ImageMessage:
    """What an image message says, whatever its type and serialisation."""

    stamp_ns: int
    """Acquisition time, ns; 0 where the message has none."""
    frame_id: str
    """Optical frame."""
    format: str
    """Format or encoding, as the driver wrote it; not to be trusted."""
    width_px: int
    """As claimed; 0 where the type does not say."""
    height_px: int
    """As claimed; 0 where the type does not say."""
    step_bytes: int
    """Bytes a row of raw pixels; else 0."""
    is_bigendian: bool
    """Byte order of raw pixels."""
    data: bytes | memoryview
    """The image."""


def parse_ros(
    data: bytes, serialization: Literal["ros1", "cdr"], msgtype: str, definition: str = ""
) -> ImageMessage:
    """An image message of ROS.

    Args:
        data: the message.
        serialization: ROS 1 or CDR.
        msgtype: a camera type of ROS.
        definition: the type's definition as the file has it; empty where it has none, or only IDL.

    Raises:
        MalformedMessage: the bytes do not hold one.
    """
    layout = _LAYOUTS.get(msgtype)
    if layout is None:
        raise MalformedMessage("no image type of ROS")
    if definition and msgtype not in (COMPRESSED, IMAGE):
        layout = _defined(definition) or layout
    return _read(Fields(data, serialization == "cdr"), layout)


def _read(fields: Fields, layout: Layout) -> ImageMessage:
    values: dict[str, int] = {}
    stamp_ns, frame_id, name = 0, "", ""
    data: bytes | memoryview = b""
    for field, kind in layout:
        if kind == "text":
            text = fields.text()
            if field == "frame_id":
                frame_id = text
            elif field in ("format", "encoding"):
                name = text
        elif kind == "header":
            fields.sequence_number()
            stamp_ns = fields.time()
            frame_id = fields.text()
        elif kind == "time":
            stamp = fields.time()
            if field == "timestamp":
                stamp_ns = stamp
        elif kind == "blob":
            blob = fields.blob()
            if field == "data":
                data = blob
        else:
            values[field] = fields.number(int(kind))
    return ImageMessage(
        stamp_ns,
        frame_id,
        name,
        values.get("width", 0),
        values.get("height", 0),
        values.get("step", 0),
        bool(values.get("is_bigendian", 0)),
        data,
    )


@lru_cache(maxsize=64)
def _defined(definition: str) -> Layout | None:
    """The layout that a definition in the msg language states; None where it has a field that is not known here."""
    layout: list[tuple[str, str]] = []
    for line in definition.splitlines():
        words = line.split("#", 1)[0].split()
        if line.startswith("==="):  # the types of its fields follow
            break
        if len(words) < 2 or "=" in "".join(words[1:]):  # a constant is no field
            continue
        kind = _KINDS.get(words[0].split("<=", 1)[0])
        if kind is None:
            return None
        layout.append((_OLD_NAMES.get(words[1], words[1]), kind))
    return tuple(layout) if ("data", "blob") in layout else None


class Fields:
    """Reads one field of a ROS message after the other; never beyond the end."""

    __slots__ = ("_align", "_at", "_data", "_end", "_order", "_widest", "_zero")

    def __init__(self, data: bytes, is_cdr: bool) -> None:
        self._data = memoryview(data)
        self._end = len(data)
        self._align = is_cdr
        self._order = "<"
        self._widest = 8
        self._at = 0
        self._zero = 0
        if is_cdr:
            # Second byte of the encapsulation header: 0/1 plain CDR, 6/7 plain CDR2, big/little endian. CDR2
            # aligns fields of eight bytes to four.
            if self._end < 4 or data[0] != 0 or data[1] not in (0, 1, 6, 7):
                raise MalformedMessage("no CDR header")
            self._order = "<" if data[1] & 1 else ">"
            self._widest = 8 if data[1] < 6 else 4
            self._at = self._zero = 4

    def number(self, size: int) -> int:
        """An unsigned number of 1, 2, 4 or 8 bytes."""
        if self._align:
            self._at += -(self._at - self._zero) % min(size, self._widest)
        return int.from_bytes(self._take(size), "little" if self._order == "<" else "big")

    def sequence_number(self) -> None:
        """Skip what a header of ROS 1 begins with."""
        if not self._align:
            self.number(4)

    def time(self) -> int:
        """A stamp, ns; its seconds have a sign in ROS 2."""
        if self._align:
            self._at += -(self._at - self._zero) % 4
        seconds, nanoseconds = struct.unpack(
            self._order + ("iI" if self._align else "II"), self._take(8)
        )  # fmt: skip
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def text(self) -> str:
        """A string without final zeros."""
        size = self.number(4)
        if size > MAX_NAME_BYTES:
            raise MalformedMessage(f"a name of {size} bytes")
        return bytes(self._take(size)).rstrip(b"\0").decode("utf-8", "replace")

    def blob(self) -> memoryview:
        """Bytes, as a view."""
        return self._take(self.number(4))

    def _take(self, size: int) -> memoryview:
        stop = self._at + size
        if stop > self._end:
            raise MalformedMessage("cut off")
        view = self._data[self._at : stop]
        self._at = stop
        return view

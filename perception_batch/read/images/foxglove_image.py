"""Foxglove's image messages: protobuf on the wire without copying the pixels, and JSON.

The official protobuf package copies an image twice, into its message and out of it; walking the few fields of the
wire format gives a view. Field numbers come from the schema in the file where it has one: a log may have been
written with a layout of its own. (protobuf.dev/programming-guides/encoding, foxglove-sdk's schemas.)
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from perception_batch.read.images.image_message import MAX_NAME_BYTES, ImageMessage, MalformedMessage

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Field numbers of foxglove-schemas-protobuf 0.4.
_STATED: dict[str, dict[int, str]] = {
    "foxglove.CompressedImage": {1: "timestamp", 2: "data", 3: "format", 4: "frame_id"},
    "foxglove.CompressedVideo": {1: "timestamp", 2: "frame_id", 3: "data", 4: "format"},
    "foxglove.RawImage": {
        1: "timestamp",
        2: "width",
        3: "height",
        4: "encoding",
        5: "step",
        6: "data",
        7: "frame_id",
    },
}
_TIMESTAMP = "google.protobuf.Timestamp"
_TIME = {1: "seconds", 2: "nanos"}  # google.protobuf.Timestamp
_MAX_SCHEMA_BYTES = 1 << 20
_MAX_FIELDS = 1000
_MAX_TYPES = 10_000


class _Numbers(NamedTuple):
    """Field names by number."""

    message: dict[int, str]
    time: dict[int, str]


def parse_protobuf(data: bytes, msgtype: str, schema: bytes = b"") -> ImageMessage:
    """A Foxglove image message in protobuf; its image is a view of `data`.

    Args:
        data: the message.
        msgtype: such as ``foxglove.RawImage``.
        schema: the file's FileDescriptorSet; empty where it has none.

    Raises:
        MalformedMessage: the bytes do not hold one.
    """
    numbers = _numbers(msgtype, schema)
    values: dict[str, int] = {}
    texts: dict[str, memoryview] = {}
    stamp_ns = 0
    image: bytes | memoryview = b""
    for number, value in _wire(memoryview(data)):
        name = numbers.message.get(number)
        if isinstance(value, int):
            if name is not None:
                values[name] = value
        elif name == "data":
            image = value
        elif name == "timestamp":
            stamp_ns = _stamp_ns(value, numbers.time)
        elif name is not None:
            texts[name] = value
    return ImageMessage(
        stamp_ns,
        _text(texts.get("frame_id")),
        _text(texts.get("format", texts.get("encoding"))),
        values.get("width", 0) & 0xFFFFFFFF,
        values.get("height", 0) & 0xFFFFFFFF,
        values.get("step", 0) & 0xFFFFFFFF,
        False,  # Foxglove: little endian
        image,
    )


def protobuf_stamp_ns(data: bytes, msgtype: str, schema: bytes) -> int | None:
    """The field ``timestamp`` of any message in protobuf, or the message itself where it is a Timestamp.

    Only the fields' lengths are read on the way there, whatever they hold.

    Raises:
        MalformedMessage: the bytes do not hold one.
    """
    if msgtype == _TIMESTAMP:
        return _stamp_ns(memoryview(data), _TIME)
    number, time = _timestamp(msgtype, schema)
    for at, value in _wire(memoryview(data)) if number else ():
        if at == number and isinstance(value, memoryview):
            return _stamp_ns(value, time)
    return None


def parse_json(data: bytes) -> ImageMessage:
    """A Foxglove image message in JSON: its image is in base64.

    Raises:
        MalformedMessage: the bytes do not hold one.
    """
    try:
        message = json.loads(data)
        image = base64.b64decode(message["data"], validate=True)
        time = message.get("timestamp") or {}
        seconds, nanoseconds = time.get("sec", 0), time.get("nsec", 0)
        numbers = [message.get(name, 0) for name in ("width", "height", "step")]
        texts = [message.get(name) for name in ("frame_id", "format", "encoding")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise MalformedMessage(f"no JSON image: {error}") from None
    if not all(type(number) is int and abs(number) < 2**63 for number in (seconds, nanoseconds, *numbers)):
        raise MalformedMessage("a number of the image is none")
    frame_id, image_format, encoding = (
        text if isinstance(text, str) and len(text) <= MAX_NAME_BYTES else "" for text in texts
    )
    width, height, step = numbers
    return ImageMessage(
        seconds * 1_000_000_000 + nanoseconds,
        frame_id,
        image_format or encoding,
        max(width, 0),
        max(height, 0),
        max(step, 0),
        False,
        image,
    )


def _wire(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field: an unsigned number, or a view."""
    at, end = 0, len(data)
    for _ in range(_MAX_FIELDS):
        if at == end:
            return
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise MalformedMessage("a field without number")
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
        elif kind == _BYTES:
            size, at = _varint(data, at)
            if at + size > end:
                raise MalformedMessage("cut off")
            yield number, data[at : at + size]
            at += size
        elif kind in (_FIXED32, _FIXED64):
            size, letter = (4, "<I") if kind == _FIXED32 else (8, "<Q")
            if at + size > end:
                raise MalformedMessage("cut off")
            yield number, struct.unpack_from(letter, data, at)[0]
            at += size
        else:
            raise MalformedMessage(f"wire type {kind}")
    raise MalformedMessage(f"more than {_MAX_FIELDS} fields")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise MalformedMessage("cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise MalformedMessage("a number without end")


def _stamp_ns(time: memoryview, names: dict[int, str]) -> int:
    parts = {names.get(number, ""): value for number, value in _wire(time) if isinstance(value, int)}
    seconds, nanos = parts.get("seconds", 0), parts.get("nanos", 0) & 0xFFFFFFFF
    if seconds >= 2**63:  # int64
        seconds -= 2**64
    if nanos >= 2**31:  # int32
        nanos -= 2**32
    return seconds * 1_000_000_000 + nanos


def _text(value: memoryview | None) -> str:
    if value is None:
        return ""
    if len(value) > MAX_NAME_BYTES:
        raise MalformedMessage(f"a name of {len(value)} bytes")
    return bytes(value).decode("utf-8", "replace")


@lru_cache(maxsize=64)
def _numbers(msgtype: str, schema: bytes) -> _Numbers:
    stated = _Numbers(_STATED.get(msgtype, {}), _TIME)
    if not schema or len(schema) > _MAX_SCHEMA_BYTES:
        return stated
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.message import DecodeError

    try:
        types = _types(FileDescriptorSet.FromString(schema))
    except DecodeError:
        return stated
    own = types.get(msgtype)
    if own is None or not any(field.name == "data" for field in own):
        return stated
    time = _TIME
    for field in own:
        of_time = types.get(field.type_name.lstrip("."))
        if field.name == "timestamp" and of_time is not None:
            time = {f.number: _time_part(f.name) for f in of_time}
    return _Numbers({field.number: field.name for field in own}, time)


@lru_cache(maxsize=64)
def _timestamp(msgtype: str, schema: bytes) -> tuple[int, dict[int, str]]:
    """Number of a type's field ``timestamp`` and the fields of its time; 0 where there is none."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.message import DecodeError

    if not schema or len(schema) > _MAX_SCHEMA_BYTES:  # every type of Foxglove's that has one has it first
        return int(msgtype.startswith("foxglove.")), _TIME
    try:
        types = _types(FileDescriptorSet.FromString(schema))
    except DecodeError:
        return 0, _TIME
    for field in types.get(msgtype, ()):
        if field.name == "timestamp":
            own = types.get(field.type_name.lstrip("."))
            return field.number, {f.number: _time_part(f.name) for f in own} if own else _TIME
    return 0, _TIME


def _types(files: Any) -> dict[str, list[Any]]:
    """Fields of the messages of a FileDescriptorSet, by full name."""
    types: dict[str, list[Any]] = {}
    for file in files.file:
        for message in file.message_type:
            if len(types) < _MAX_TYPES:
                types[f"{file.package}.{message.name}".lstrip(".")] = list(message.field)
    return types


def _time_part(name: str) -> str:
    if name in ("sec", "secs", "seconds"):
        return "seconds"
    return "nanos" if name in ("nsec", "nsecs", "nanos", "nanosec", "nanoseconds") else name

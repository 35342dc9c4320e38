"""Any camera message, of any type and serialisation, as what a frame needs of it; pixels are not copied."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from perception_batch.errors import printable
from perception_batch.read.containers.logfile import VIDEO_FILE, Message
from perception_batch.read.images.camera_types import family_of, is_file_type
from perception_batch.read.images.foxglove_image import parse_json, parse_protobuf
from perception_batch.read.images.image_header import STILL_KINDS, UNKNOWN, still_header
from perception_batch.read.images.image_message import ImageMessage, MalformedMessage, parse_ros
from perception_batch.read.images.video_packet import (
    CODECS,
    NOTHING,
    PacketFacts,
    codec_of,
    packet_facts,
    with_start_codes,
)
from perception_batch.types import BrokenPayload, Payload, RawPayload, StillPayload, VideoPayload

BROKEN_MESSAGE = "broken_message"
"""Why a frame whose message cannot be parsed is undecodable."""

_MAX_SIDE_PX = 2**31 - 1
_MAX_ENCODING = 40


@dataclass(frozen=True, slots=True)
class ParsedImage:
    """An image message, parsed; `ok` is False where the bytes hold none."""

    ok: bool
    """False: all else is empty, but for the payload, which says why."""
    stamp_ns: int = 0
    """Stamp that the message carries, ns."""
    frame_id: str = ""
    """Optical frame."""
    encoding: str = UNKNOWN
    """As in `EncodedFrame`."""
    width_px: int = 0
    """As claimed."""
    height_px: int = 0
    """As claimed."""
    is_depth: bool = False
    """True for the compressedDepth transport."""
    payload: Payload = field(default_factory=lambda: BrokenPayload(BROKEN_MESSAGE))
    """The image."""
    packet: PacketFacts = NOTHING
    """Of video: what the packet says of itself."""


def parse_image(message: Message) -> ParsedImage:
    """Parse an image message, without copying the image.

    What its bytes show goes over what the message says of them: a JPEG is one whatever its format is called, and a
    ``CompressedImage`` may carry a video. An image in a format that nobody here knows is a frame nevertheless.
    """
    channel = message.channel
    try:
        if is_file_type(channel.msgtype):
            return _of_file(message)
        if channel.encoding in ("ros1", "cdr"):
            serialization: Literal["ros1", "cdr"] = "ros1" if channel.encoding == "ros1" else "cdr"
            definition = "" if channel.is_idl else channel.definition
            image = parse_ros(message.data, serialization, channel.msgtype, definition)
        elif channel.encoding == "protobuf":
            image = parse_protobuf(message.data, channel.msgtype, channel.schema)
        else:
            image = parse_json(message.data)
    except MalformedMessage as error:
        detail = f"{channel.msgtype} of {len(message.data)} bytes: {error}"
        return ParsedImage(False, payload=BrokenPayload(BROKEN_MESSAGE, printable(detail)))
    if family_of(channel.msgtype) == "raw":
        return _raw(image)
    kind, width, height = still_header(image.data)
    codec = codec_of(image.format)
    if kind == UNKNOWN and family_of(channel.msgtype) == "video":
        return _video(image, codec) if codec in CODECS else _unknown_video(image)
    if kind == UNKNOWN and codec in CODECS:
        return _video(image, codec)
    return _still(image, kind, *believed(width, height))


def _of_file(message: Message) -> ParsedImage:
    """A picture file or a packet of a video file: its time stands beside it."""
    channel = message.channel
    image = ImageMessage(message.publish_ns, "", "", 0, 0, 0, False, message.data)
    if not channel.msgtype.startswith(VIDEO_FILE):
        kind, width, height = still_header(message.data)
        return _still(image, kind, *believed(width, height))
    name = channel.msgtype.removeprefix(VIDEO_FILE).strip()
    codec = codec_of(name)
    if codec in CODECS:
        return _video(image, codec, channel.extradata)
    kind, width, height = still_header(message.data)
    if kind != UNKNOWN:  # Motion JPEG
        return _still(image, kind, *believed(width, height))
    return _unknown_video(ImageMessage(image.stamp_ns, "", name, 0, 0, 0, False, image.data))


def _raw(image: ImageMessage) -> ParsedImage:
    width, height = believed(image.width_px, image.height_px)
    payload = RawPayload(image.data, image.step_bytes, image.is_bigendian)
    return ParsedImage(
        True, image.stamp_ns, image.frame_id, _shown(image.format), width, height, False, payload
    )


def _still(image: ImageMessage, kind: str, width: int, height: int) -> ParsedImage:
    depth = "compresseddepth" in image.format.lower()
    if kind == UNKNOWN and not any(known in image.format.lower() for known in (*STILL_KINDS, "jpg")):
        kind = _shown(image.format)
    payload = StillPayload(image.data)
    return ParsedImage(True, image.stamp_ns, image.frame_id, kind, width, height, depth, payload)


def _video(image: ImageMessage, codec: str, extradata: bytes = b"") -> ParsedImage:
    packet = packet_facts(codec, image.data, extradata)
    data = image.data
    if packet.has_lengths and not extradata:  # in a log: a decoder without extradata expects start codes
        data = with_start_codes(data)
    size = believed(packet.width_px, packet.height_px)
    if size == (0, 0):
        size = believed(image.width_px, image.height_px)
    payload = VideoPayload(
        data,
        codec,
        packet.is_key,
        extradata=extradata,
        is_restart=packet.is_restart,
        is_leading=packet.is_leading,
        has_picture=packet.has_picture,
    )
    return ParsedImage(True, image.stamp_ns, image.frame_id, codec, *size, False, payload, packet)


def _unknown_video(image: ImageMessage) -> ParsedImage:
    name = _shown(image.format)
    detail = f"a video packet of {len(image.data)} bytes in {name!r}; decoded are {', '.join(CODECS)}, mjpeg"
    payload = BrokenPayload("unknown_encoding", detail)
    size = believed(image.width_px, image.height_px)
    return ParsedImage(True, image.stamp_ns, image.frame_id, name, *size, False, payload)


def _shown(name: str) -> str:
    """A format's or encoding's name as a table can hold it."""
    return printable(name.strip().lower())[:_MAX_ENCODING] or UNKNOWN


def believed(width_px: int, height_px: int) -> tuple[int, int]:
    """A claimed size, or 0 x 0 for one that no image has."""
    plausible = min(width_px, height_px) > 0 and max(width_px, height_px) <= _MAX_SIDE_PX
    return (width_px, height_px) if plausible else (0, 0)

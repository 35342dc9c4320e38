"""Camera messages of every type as frames: payload, encoding, size, stamp, and what is lost."""

from __future__ import annotations

import base64
import json
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_batch.read.containers.logfile import STILL_FILE, VIDEO_FILE, Channel, Message
from perception_batch.read.images.camera_types import family_of
from perception_batch.read.images.frames import FrameMaker
from perception_batch.read.images.parsed_image import ParsedImage, parse_image
from perception_batch.simulate.encode import open_encoder
from perception_batch.types import BrokenPayload, EncodedFrame, RawPayload, StillPayload, VideoPayload

STAMP = 1_700_000_000_123_456_789
SIZE = (64, 48)


def channel(msgtype: str, encoding: str = "json", extradata: bytes = b"") -> Channel:
    return Channel(1, "/cam", msgtype, encoding, "", False, extradata=extradata)  # type: ignore[arg-type]


def json_message(kind: str, data: bytes, log_ns: int = STAMP, **fields: Any) -> Message:
    stamp = {"sec": log_ns // 10**9, "nsec": log_ns % 10**9}
    content = {"timestamp": stamp, "frame_id": "optical", "data": base64.b64encode(data).decode(), **fields}
    return Message(log_ns, channel(f"foxglove.{kind}"), json.dumps(content).encode())


def file_message(msgtype: str, data: bytes, publish_ns: int = STAMP, extradata: bytes = b"") -> Message:
    return Message(publish_ns + 5, channel(msgtype, "file", extradata), data, publish_ns)


def picture(suffix: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(suffix, np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))[1])


def video(codec: str, count: int = 6) -> list[bytes]:
    """Packets of the simulator's encoder at two pictures a second: a key frame in two."""
    encoder = open_encoder(codec, SIZE, 2.0, 90)  # type: ignore[arg-type]
    images = [np.full((SIZE[1], SIZE[0], 3), 20 * i, np.uint8) for i in range(count)]
    return [encoder.encode(image).data.tobytes() for image in images]


def sets_of(codec: str, packet: bytes) -> tuple[bytes, bytes]:
    """The parameter sets of an Annex B packet and the rest of it."""
    kinds = {7, 8} if codec == "h264" else {32, 33, 34}
    parts = [part for part in packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if part]
    sets = [p for p in parts if (p[0] & 31 if codec == "h264" else p[0] >> 1 & 63) in kinds]
    return (
        b"".join(b"\0\0\0\1" + part for part in sets),
        b"".join(b"\0\0\0\1" + part for part in parts if part not in sets),
    )


def frames_of(messages: list[Message]) -> list[EncodedFrame]:
    maker = FrameMaker("cam", "header", 0, 0)
    return [maker.make(message) for message in messages]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_stills_by_their_bytes(suffix: str) -> None:
    data = picture(suffix)
    name = {".jpg": "jpeg"}.get(suffix, suffix[1:])
    for message in (
        json_message("CompressedImage", data, format="whatever"),
        json_message("CompressedVideo", data, format="h264"),
        file_message(STILL_FILE, data),
        file_message(f"{VIDEO_FILE} mjpeg", data),
    ):
        image = parse_image(message)
        assert (image.ok, image.encoding, image.width_px, image.height_px) == (True, name, *SIZE)
        assert isinstance(image.payload, StillPayload)
        assert bytes(image.payload.data) == data
        assert image.stamp_ns == STAMP


def test_raw() -> None:
    fields = {"width": 3, "height": 2, "step": 12, "encoding": " RGB8 "}
    image = parse_image(json_message("RawImage", bytes(24), **fields))
    assert (image.encoding, image.width_px, image.height_px, image.frame_id) == ("rgb8", 3, 2, "optical")
    assert image.payload == RawPayload(bytes(24), 12, False)
    too_wide = parse_image(json_message("RawImage", b"", **{**fields, "width": 2**31}))
    assert (too_wide.ok, too_wide.width_px, too_wide.height_px) == (True, 0, 0)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_video_of_every_message(codec: str) -> None:
    data = video(codec)[0]
    for message in (
        json_message("CompressedVideo", data, format=codec.upper()),
        json_message("CompressedImage", data, format={"h264": "libx264", "h265": "hevc;yuv420p"}[codec]),
        file_message(f"{VIDEO_FILE} {codec}", data),
    ):
        image = parse_image(message)
        assert (image.encoding, image.width_px, image.height_px) == (codec, *SIZE)
        assert image.payload == VideoPayload(data, codec, True, is_restart=True)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_packets_before_the_first_key_frame_lead_in(codec: str) -> None:
    packets = video(codec)
    messages = [
        json_message("CompressedVideo", data, STAMP + i, format=codec) for i, data in enumerate(packets)
    ]
    whole = frames_of(messages)
    assert [frame.unused for frame in whole] == [""] * 6
    assert [frame.payload.is_key for frame in whole] == [True, False] * 3  # type: ignore[union-attr]
    assert {(frame.width_px, frame.height_px) for frame in whole} == {SIZE}
    cut = frames_of(messages[1:])
    assert [frame.unused for frame in cut] == ["lead_in", "", "", "", ""]
    assert [frame.sequence for frame in cut] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_parameter_sets_that_come_once(codec: str) -> None:
    packets = video(codec)
    sets, first = sets_of(codec, packets[0])
    bare = [first, *(sets_of(codec, packet)[1] for packet in packets[1:])]
    separate = [
        json_message("CompressedVideo", data, STAMP + i, format=codec) for i, data in enumerate([sets, *bare])
    ]
    frames = frames_of(separate)
    assert [frame.unused for frame in frames] == ["lead_in", *[""] * 6], "parameter sets alone are no picture"
    assert [frame.payload.is_key for frame in frames[1:]] == [True, False] * 3  # type: ignore[union-attr]
    assert bytes(frames[1].payload.data) == sets + first  # type: ignore[union-attr]
    assert all(frame.width_px == SIZE[0] for frame in frames)
    assert {frame.unused for frame in frames_of(separate[1:])} == {"lead_in"}, (
        "without them nothing is decoded"
    )


def test_lengths_become_start_codes_in_a_log_and_stay_in_a_file() -> None:
    packet = video("h264")[0]
    sets, rest = sets_of("h264", packet)
    units = [part for part in (sets + rest).split(b"\0\0\0\1") if part]
    data = b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
    in_log = parse_image(json_message("CompressedVideo", data, format="h264"))
    assert in_log.payload == VideoPayload(sets + rest, "h264", True, is_restart=True)
    sps, pps = (part for part in sets.split(b"\0\0\0\1") if part)
    extradata = b"\1\x64\0\x1f\xff\xe1" + len(sps).to_bytes(2, "big") + sps + b"\1"
    extradata += len(pps).to_bytes(2, "big") + pps
    in_file = parse_image(file_message(f"{VIDEO_FILE} h264", data, extradata=extradata))
    assert in_file.payload == VideoPayload(data, "h264", True, extradata=extradata, is_restart=True)
    assert (in_file.width_px, in_file.height_px) == SIZE


@pytest.mark.parametrize(
    ("kind", "name", "encoding"),
    [
        ("CompressedVideo", "vp8", "vp8"),
        ("CompressedVideo", "", "unknown"),
        ("CompressedVideo", "\x1b[31mX" + "y" * 90, "\\x1b[31mx" + "y" * 31),
        ("CompressedImage", "Draco", "draco"),
        ("CompressedImage", "rgb8; jpeg compressed bgr8", "unknown"),
        ("CompressedImage", "", "unknown"),
    ],
)
def test_unknown_formats_are_frames(kind: str, name: str, encoding: str) -> None:
    frame = frames_of([json_message(kind, b"\0\0\0\1\x67 something", format=name)])[0]
    assert (frame.encoding, frame.stamp_ns, frame.unused) == (encoding, STAMP, "")
    if kind == "CompressedVideo":
        assert isinstance(frame.payload, BrokenPayload)
        assert frame.payload.reason == "unknown_encoding"


@pytest.mark.parametrize(
    "msgtype", ["foxglove.CompressedImage", "foxglove.RawImage", "foxglove.CompressedVideo"]
)
@pytest.mark.parametrize("encoding", ["json", "protobuf", "ros1", "cdr"])
def test_messages_that_cannot_be_parsed_are_frames(msgtype: str, encoding: str) -> None:
    frame = FrameMaker("cam", "header", 1000, 0).make(
        Message(STAMP, channel(msgtype, encoding), b"\x0b broken")
    )
    assert isinstance(frame.payload, BrokenPayload)
    assert (frame.payload.reason, frame.stamp_ns, frame.unused) == ("broken_message", STAMP - 1000, "")


@given(
    data=st.binary(max_size=150),
    msgtype=st.sampled_from(
        [
            *(f"{package}{kind}" for package in ("foxglove.", "foxglove_msgs/msg/")
              for kind in ("CompressedImage", "RawImage", "CompressedVideo")),
            *("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", STILL_FILE, f"{VIDEO_FILE} h264"),
            *(f"{VIDEO_FILE} zzz", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"),
        ]
    ),
    encoding=st.sampled_from(["json", "protobuf", "ros1", "cdr", "file"]),
)  # fmt: skip
def test_any_bytes_of_any_type(data: bytes, msgtype: str, encoding: str) -> None:
    assert family_of(msgtype)
    maker = FrameMaker("cam", "log", 0, 0)
    for start in (b"", b"\0\1\0\0", b"\0\0\0\1\x67"):
        message = Message(7, channel(msgtype, encoding), start + data)
        assert isinstance(parse_image(message), ParsedImage)
        assert maker.make(message).stamp_ns == 7


def test_other_types_are_no_cameras() -> None:
    for msgtype in ("foxglove.PointCloud", "sensor_msgs/msg/Imu", "", "video packets", "video packet"):
        assert family_of(msgtype) is None

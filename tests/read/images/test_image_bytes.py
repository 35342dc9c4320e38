"""Image messages and image headers from raw bytes, compared with rosbags and OpenCV."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_writer import message_types

from perception_batch.read.images.image_header import still_header
from perception_batch.read.images.image_message import ImageMessage, MalformedMessage, parse_ros

NAMES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=12)
STORES = {1: message_types("bag1"), 2: message_types("mcap")}


def _message(ros: int, sec: int, nanosec: int, frame: str, kind: str, *rest: object) -> tuple[object, str]:
    types = STORES[ros].types
    stamp = types["builtin_interfaces/msg/Time"](sec, nanosec)
    header = types["std_msgs/msg/Header"](*((7, stamp, frame) if ros == 1 else (stamp, frame)))
    return types[kind](header, *rest), kind


def _bytes(ros: int, message: object, kind: str, little: bool) -> bytes:
    if ros == 1:
        return bytes(STORES[1].serialize_ros1(message, kind))
    return bytes(STORES[2].serialize_cdr(message, kind, little_endian=little))


def parse_still(raw: bytes, ros: int) -> ImageMessage:
    return parse_ros(raw, "ros1" if ros == 1 else "cdr", "sensor_msgs/msg/CompressedImage")


def parse_raw(raw: bytes, ros: int) -> ImageMessage:
    return parse_ros(raw, "ros1" if ros == 1 else "cdr", "sensor_msgs/msg/Image")


@given(
    ros=st.sampled_from([1, 2]),
    little=st.booleans(),
    sec=st.integers(0, 2**31 - 1),
    nanosec=st.integers(0, 10**9 - 1),
    frame=NAMES,
    fmt=NAMES,
    data=st.binary(max_size=40),
)
def test_still_agrees_with_rosbags(
    ros: int, little: bool, sec: int, nanosec: int, frame: str, fmt: str, data: bytes
) -> None:
    message, kind = _message(
        ros, sec, nanosec, frame, "sensor_msgs/msg/CompressedImage", fmt, np.frombuffer(data, np.uint8)
    )
    raw = _bytes(ros, message, kind, little)
    got = parse_still(raw, ros)
    store = STORES[ros]
    slow = store.deserialize_ros1(raw, kind) if ros == 1 else store.deserialize_cdr(raw, kind)
    assert got.stamp_ns == slow.header.stamp.sec * 10**9 + slow.header.stamp.nanosec
    assert (got.frame_id, got.format) == (slow.header.frame_id, slow.format) == (frame, fmt)
    assert bytes(got.data) == slow.data.tobytes() == data
    assert got.data.obj is raw, "the image is a view of the message, no copy"


@given(
    ros=st.sampled_from([1, 2]),
    little=st.booleans(),
    frame=NAMES,
    encoding=NAMES,
    size=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    step=st.integers(0, 2**32 - 1),
    big=st.booleans(),
    data=st.binary(max_size=40),
)
def test_raw_agrees_with_rosbags(
    ros: int,
    little: bool,
    frame: str,
    encoding: str,
    size: tuple[int, int],
    step: int,
    big: bool,
    data: bytes,
) -> None:
    h, w = size
    message, kind = _message(
        ros,
        1,
        2,
        frame,
        "sensor_msgs/msg/Image",
        h,
        w,
        encoding,
        int(big),
        step,
        np.frombuffer(data, np.uint8),
    )
    raw = _bytes(ros, message, kind, little)
    got = parse_raw(raw, ros)
    assert (got.height_px, got.width_px, got.step_bytes, got.is_bigendian) == (h, w, step, big)
    assert (got.frame_id, got.format, bytes(got.data), got.stamp_ns) == (frame, encoding, data, 10**9 + 2)
    for cut in range(len(raw)):
        with pytest.raises(MalformedMessage):
            parse_raw(raw[: min(cut, len(raw) - len(data) - 1)], ros)


@given(data=st.binary(max_size=200), ros=st.sampled_from([1, 2]))
def test_any_bytes_are_a_message_or_malformed(data: bytes, ros: int) -> None:
    for parse in (parse_raw, parse_still):
        for candidate in (data, b"\0\1\0\0" + data):
            try:
                parse(candidate, ros)
            except MalformedMessage:
                continue


@pytest.mark.parametrize("size", [(1, 1), (17, 5), (640, 480), (3000, 20)])
@pytest.mark.parametrize(
    ("suffix", "encoding"),
    [(".jpg", "jpeg"), (".png", "png"), (".bmp", "bmp"), (".webp", "webp"), (".tiff", "tiff")],
)
def test_size_of_what_opencv_wrote(size: tuple[int, int], suffix: str, encoding: str) -> None:
    w, h = size
    data = bytes(cv2.imencode(suffix, np.zeros((h, w, 3), np.uint8))[1])
    assert still_header(data) == (encoding, w, h)
    assert still_header(memoryview(data)) == (encoding, w, h)
    for cut in range(0, min(len(data), 300), 7):
        assert still_header(data[:cut])[1:] in ((0, 0), (w, h))


@pytest.mark.parametrize(
    ("kind", "options", "encoding"),
    [
        ("WEBP", {"lossless": True}, "webp"),
        ("WEBP", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}, "webp"),
        ("GIF", {}, "gif"),
        ("TIFF", {"compression": "tiff_lzw"}, "tiff"),
        ("JPEG2000", {}, "jpeg2000"),
        ("JPEG2000", {"no_jp2": True}, "jpeg2000"),
        ("AVIF", {}, "avif"),
    ],
)
def test_size_of_what_pillow_wrote(kind: str, options: dict[str, object], encoding: str) -> None:
    image_file = pytest.importorskip("PIL.Image")
    features = pytest.importorskip("PIL.features")
    need = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}.get(kind)
    if need is not None and not features.check(need):
        pytest.skip(f"this Pillow writes no {kind}")
    out = io.BytesIO()
    image_file.new("RGB", (333, 77), (9, 200, 30)).save(out, kind, **options)
    assert still_header(out.getvalue()) == (encoding, 333, 77)


def test_jpeg_headers_in_the_way() -> None:
    exif = b"\xff\xe1" + struct.pack(">H", 2 + 6) + b"\xff\xc0\0\0\0\0"  # a frame marker inside EXIF is none
    fill = b"\xff\xff\xff"
    frame = b"\xc2" + struct.pack(">HBHHB", 11, 8, 480, 640, 3)
    assert still_header(b"\xff\xd8" + exif + fill + frame) == ("jpeg", 640, 480)
    assert still_header(b"\xff\xd8" + exif + b"\xff\xda\0\4\0\0") == ("jpeg", 0, 0)
    assert still_header(b"\xff\xd8\xff\xe1\0\0\xff") == ("jpeg", 0, 0)
    assert still_header(b"\x89PNG\r\n\x1a\n\0\0") == ("png", 0, 0)


@given(st.binary(max_size=100))
def test_still_header_never_fails(data: bytes) -> None:
    for start in (
        *(
            b"",
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"RIFF\0\0\0\0WEBP",
            b"RIFF\0\0\0\0WEBPVP8L",
            b"GIF89a",
        ),
        *(b"BM" + bytes(12) + b"\x28\0\0\0", b"II*\0", b"MM\0*\0\0\0\x08", b"\xff\x4f\xff\x51"),
        *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0\x10ftypavif" + bytes(4)),
    ):
        _, w, h = still_header(start + data)
        assert w >= 0
        assert h >= 0

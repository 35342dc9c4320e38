"""Stills and raw images to pixels; damaged and hostile ones to a stable reason."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.decode import decode_frame
from perception_batch.errors import DecodeError
from perception_batch.types import EncodedFrame, RawPayload, StillPayload

RNG = np.random.default_rng(5)
PHOTO = cv2.GaussianBlur(RNG.integers(0, 256, (120, 200, 3), np.uint8), (0, 0), 2)
PHOTO[..., 0] = 220  # red in RGB: a channel mix-up shows
PHOTO[..., 2] = 30


def still(data: bytes, width: int = 200, height: int = 120) -> EncodedFrame:
    return EncodedFrame("cam", 7, 8, StillPayload(data), "jpeg", 0, width, height, 7)


def raw(data: bytes | np.ndarray, encoding: str, width: int, height: int, step: int) -> EncodedFrame:
    return EncodedFrame("cam", 7, 8, RawPayload(data, step, False), encoding, 0, width, height, 7)


def encode(image: np.ndarray, suffix: str, *options: int) -> bytes:
    """A file of an RGB, grey or RGBA image."""
    order = {2: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    code = order[image.ndim if image.ndim == 2 else image.shape[2]]
    return cv2.imencode(suffix, image if code is None else cv2.cvtColor(image, code), list(options))[
        1
    ].tobytes()


def reason(frame: EncodedFrame, limit_mpx: float = 64) -> str:
    with pytest.raises(DecodeError) as caught:
        decode_frame(frame, limit_mpx)
    assert caught.value.camera == "cam"
    assert caught.value.stamp_ns == 7
    assert "\n" not in str(caught.value)
    return caught.value.reason


JPEG = encode(PHOTO, ".jpg")
PNG = encode(PHOTO, ".png")


def test_jpeg_is_rgb() -> None:
    frame = decode_frame(still(JPEG), 64)
    assert (frame.camera, frame.stamp_ns) == ("cam", 7)
    assert frame.image.flags.c_contiguous
    assert np.abs(frame.image.astype(int) - PHOTO).mean() < 8
    bgr = cv2.imdecode(np.frombuffer(JPEG, np.uint8), cv2.IMREAD_COLOR)
    assert (frame.image == bgr[:, :, ::-1]).all()


def test_memoryview_and_unclaimed_size_are_fine() -> None:
    assert decode_frame(still(memoryview(JPEG), 0, 0), 64).image.shape == (120, 200, 3)


def test_exif_orientation_is_ignored() -> None:
    tiff = (
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHIHH", 1, 0x0112, 3, 1, 6, 0) + struct.pack("<I", 0)
    )
    exif = b"Exif\0\0" + tiff
    turned = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (200, 120, 3), (
        "EXIF counts"
    )
    assert (decode_frame(still(turned), 64).image == decode_frame(still(JPEG), 64).image).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_of_any_kind(channels: int, bits: int) -> None:
    image = RNG.integers(0, 256, (20, 30, channels), np.uint8)
    wide = image.astype(np.uint16) * 257 if bits == 16 else image
    decoded = decode_frame(still(encode(wide[:, :, 0] if channels == 1 else wide, ".png"), 30, 20), 64).image
    expected = np.repeat(image, 3, 2) if channels == 1 else image[:, :, :3]
    assert (decoded == expected).all()


def test_grey_and_progressive_jpeg() -> None:
    grey = decode_frame(still(encode(PHOTO[:, :, 1], ".jpg")), 64).image
    assert (grey[:, :, 0] == grey[:, :, 2]).all()
    progressive = encode(PHOTO, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert np.abs(decode_frame(still(progressive), 64).image.astype(int) - PHOTO).mean() < 8
    assert reason(still(progressive[:-400])) == "broken_jpeg"


@pytest.mark.parametrize("tail", [b"\0" * 500, b"\xff" * 9, b"garbage", JPEG])
def test_anything_after_the_end_of_a_jpeg_is_legal(tail: bytes) -> None:
    assert (decode_frame(still(JPEG + tail), 64).image == decode_frame(still(JPEG), 64).image).all()


def test_a_cut_jpeg_never_passes() -> None:
    for length in [*range(3, 700, 7), *range(700, len(JPEG), 97), len(JPEG) - 2, len(JPEG) - 1]:
        assert reason(still(JPEG[:length])) == "broken_jpeg", length


def test_an_embedded_thumbnail_does_not_hide_the_cut() -> None:
    thumbnail = encode(PHOTO[:16, :16].copy(), ".jpg")
    with_thumbnail = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + JPEG[2:]
    assert decode_frame(still(with_thumbnail), 64).image.shape == (120, 200, 3)
    assert reason(still(with_thumbnail[:-300])) == "broken_jpeg"


def test_a_hole_in_a_jpeg_that_leaves_rows_empty_is_found() -> None:
    middle = len(JPEG) // 2
    assert reason(still(JPEG[:middle] + JPEG[middle + 500 :])) == "broken_jpeg"
    assert reason(still(JPEG[:middle] + bytes(400) + JPEG[middle + 400 :])) == "broken_jpeg"


def test_a_corner_that_is_really_mid_grey_is_no_damage() -> None:
    image = PHOTO.copy()
    image[-40:, -40:] = 128
    decoded = decode_frame(still(encode(image, ".jpg")), 64).image
    assert (decoded[-8:, -8:] == 128).all(), "the suspicion is tested"


@pytest.mark.parametrize("sampling", [0x411111, 0x221111, 0x111111])
@pytest.mark.parametrize("interval", [1, 7, 1000])
def test_lost_restart_intervals_are_found(sampling: int, interval: int) -> None:
    data = encode(
        PHOTO, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, interval, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling
    )
    assert np.abs(decode_frame(still(data), 64).image.astype(int) - PHOTO).mean() < 20
    grey = encode(PHOTO[:, :, 1], ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, interval)
    assert decode_frame(still(grey), 64).image.shape == (120, 200, 3)
    if interval < 1000:
        marks = [i for i in range(600, len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
        assert reason(still(data[: marks[2]] + data[marks[3] :])) == "broken_jpeg"


def test_a_cut_png_never_passes() -> None:
    for length in [*range(8, 60), *range(60, len(PNG), 509), len(PNG) - 12, len(PNG) - 1]:
        assert reason(still(PNG[:length])) == "broken_png", length
    assert decode_frame(still(PNG + b"\0" * 99), 64).image.shape == (120, 200, 3)


@settings(max_examples=40, deadline=None)
@given(at=st.integers(8, len(PNG) - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_in_a_png_never_passes_unless_harmless(at: int, bit: int) -> None:
    data = bytearray(PNG)
    data[at] ^= 1 << bit
    try:
        decoded = decode_frame(still(bytes(data)), 64).image
    except DecodeError as error:
        assert error.reason in ("broken_png", "too_large")
    else:
        assert (decoded == PHOTO).all()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_huge_claims_are_refused_before_decoding() -> None:
    header = struct.pack(">IIBBBBB", 65000, 65000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(b""))
        + _chunk(b"IEND", b"")
    )
    assert reason(still(bomb, 0, 0)) == "too_large"
    assert reason(still(JPEG, 65000, 65000)) == "too_large"
    start = JPEG.index(b"\xff\xc0")
    claim = JPEG[: start + 5] + struct.pack(">HH", 60000, 60000) + JPEG[start + 9 :]
    assert reason(still(claim, 0, 0)) == "too_large"
    frame_header = claim[start : start + 19]
    two = JPEG[:start] + frame_header + JPEG[start:]
    assert reason(still(two, 0, 0)) == "broken_jpeg"
    assert reason(still(JPEG), 0.02) == "too_large"
    assert decode_frame(still(JPEG), 0.024).image.size
    assert reason(raw(b"", "rgb8", 10**9, 10**9, 3 * 10**9)) == "too_large"


def test_endless_progressive_scans_are_refused() -> None:
    progressive = encode(PHOTO, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = progressive.rindex(b"\xff\xda")
    assert reason(still(progressive[:-2] + progressive[last:-2] * 600 + b"\xff\xd9")) == "broken_jpeg"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "unknown_encoding"),
        (b"\xff\xd8", "unknown_encoding"),
        (b"GIF89a" + bytes(50), "unknown_encoding"),
        (b"\xff\xd8\xff\xd9", "broken_jpeg"),
        (b"\xff\xd8\xff\xc0\x00\x00", "broken_jpeg"),
        (b"\xff\xd8\xff" + b"\xff" * 4000, "broken_jpeg"),
        (b"\x89PNG\r\n\x1a\n", "broken_png"),
        (b"\x89PNG\r\n\x1a\n" + _chunk(b"IEND", b""), "broken_png"),
    ],
)
def test_files_that_are_none(data: bytes, expected: str) -> None:
    assert reason(still(data)) == expected


def test_a_12_bit_or_lossless_jpeg_is_named_unsupported() -> None:
    start = JPEG.index(b"\xff\xc0")
    assert reason(still(JPEG[: start + 4] + b"\x0c" + JPEG[start + 5 :])) == "unsupported_encoding"
    assert reason(still(JPEG[: start + 1] + b"\xc3" + JPEG[start + 2 :])) == "unsupported_encoding"


@settings(max_examples=60, deadline=None)
@given(at=st.integers(3, 620), value=st.integers(0, 255), length=st.integers(1, 4))
def test_damaged_jpeg_headers_end_in_pixels_or_a_reason(at: int, value: int, length: int) -> None:
    data = bytearray(JPEG)
    data[at : at + length] = bytes([value]) * length
    try:
        image = decode_frame(still(bytes(data), 0, 0), 1).image
    except DecodeError as error:
        assert error.reason in ("broken_jpeg", "too_large", "unsupported_encoding")
    else:
        assert image.dtype == np.uint8


RAW_ORDERS = {
    "rgb8": (0, 1, 2),
    "bgr8": (2, 1, 0),
    "8uc3": (2, 1, 0),
    "rgba8": (0, 1, 2, 1),
    "bgra8": (2, 1, 0, 1),
    "8uc4": (2, 1, 0, 1),
}


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from([*RAW_ORDERS, "mono8", "8UC1", "8UC3", "BGR8"]),
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    padding=st.integers(0, 7),
    trim=st.booleans(),
    kind=st.sampled_from([bytes, memoryview, np.ndarray]),
)
def test_raw_rows_with_any_padding(
    encoding: str, width: int, height: int, padding: int, trim: bool, kind: type
) -> None:
    image = np.random.default_rng(width * 10 + height).integers(0, 256, (height, width, 3), np.uint8)
    order = RAW_ORDERS.get(encoding.lower(), (1,))
    step = width * len(order) + padding
    rows = np.full((height, step), 99, np.uint8)
    for y in range(height):
        for x in range(width):
            for i, channel in enumerate(order):
                rows[y, x * len(order) + i] = image[y, x, channel]
    data = rows.tobytes()[: len(rows.tobytes()) - (padding if trim else 0)]
    payload = (
        data if kind is bytes else memoryview(data) if kind is memoryview else np.frombuffer(data, np.uint8)
    )
    decoded = decode_frame(raw(payload, encoding, width, height, step), 64).image
    assert (decoded == (image if len(order) > 1 else image[:, :, 1:2])).all()
    assert decoded.flags.c_contiguous
    short = data[: step * (height - 1) + width * len(order) - 1]
    assert reason(raw(short, encoding, width, height, step)) == "short_data"


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (raw(bytes(100), "rgb8", 10, 10, 0), "bad_step"),
        (raw(bytes(100), "rgb8", 10, 10, 29), "bad_step"),
        (raw(bytes(100), "rgb8", 10, 10, -30), "bad_step"),
        (raw(bytes(100), "rgb8", 0, 10, 0), "no_pixels"),
        (raw(bytes(30), "rgb8", 640, 480, 1920), "short_data"),
        (raw(b"", "mono8", 1, 1, 1), "short_data"),
        (raw(bytes(400), "32FC1", 10, 10, 40), "unsupported_encoding"),
        (raw(bytes(100), "\x1b[31mevil\n", 10, 10, 30), "unknown_encoding"),
        (raw(bytes(100), "unknown", 10, 10, 30), "unknown_encoding"),
        (raw(bytes(100), "", 10, 10, 30), "unknown_encoding"),
    ],
)
def test_raw_images_that_are_none(frame: EncodedFrame, expected: str) -> None:
    assert reason(frame) == expected


def test_a_step_of_zero_is_taken_as_no_padding_where_the_length_says_so() -> None:
    assert (decode_frame(raw(PHOTO.tobytes(), "rgb8", 200, 120, 0), 64).image == PHOTO).all()


def test_decoding_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    for data in (JPEG[:-300], PNG[:-300], PNG[:200] + b"\0\0" + PNG[202:]):
        reason(still(data))
    assert capfd.readouterr() == ("", "")


def test_the_file_helper_writes_what_it_says() -> None:
    """The fixtures themselves: an unaltered PNG is lossless and RGB."""
    assert (decode_frame(still(io.BytesIO(PNG).getvalue()), 64).image == PHOTO).all()

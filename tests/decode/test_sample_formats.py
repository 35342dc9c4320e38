"""Grey, colour and Bayer samples of 8 and 16 bits, against decoders that go pixel by pixel."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.decode import decode_frame
from perception_batch.decode.deep import BitDepth, depth_of, to_8_bits
from perception_batch.decode.raw import ENCODINGS
from perception_batch.errors import DecodeError
from perception_batch.simulate.encode import open_encoder
from perception_batch.types import EncodedFrame, Image, RawPayload

# Which sample of a pixel is red, green and blue, and how many there are.
LAYOUTS = {
    "rgb16": ((0, 1, 2), 3),
    "rgba16": ((0, 1, 2), 4),
    "bgr16": ((2, 1, 0), 3),
    "bgra16": ((2, 1, 0), 4),
    "mono16": ((0, 0, 0), 1),
    "16UC1": ((0, 0, 0), 1),
    "16UC3": ((2, 1, 0), 3),
    "16UC4": ((2, 1, 0), 4),
}
PATTERNS = {"rggb": "RGGB", "bggr": "BGGR", "gbrg": "GBRG", "grbg": "GRBG"}


def raw(
    data: bytes, encoding: str, width: int, height: int, step: int, is_bigendian: bool = False
) -> EncodedFrame:
    return EncodedFrame("cam", 7, 7, RawPayload(data, step, is_bigendian), encoding, 0, width, height, 7)


def psnr_db(image: Image, truth: Image) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((image.astype(float) - truth) ** 2), 1e-9)))


def street(height: int, width: int) -> Image:
    """Flat coloured boxes with soft edges."""
    rng = np.random.default_rng(3)
    image = np.full((height, width, 3), (120, 120, 125), np.float64)
    image[: height // 2] = (140, 180, 230)
    for _ in range(16):
        y, x = rng.integers(0, height), rng.integers(0, width)
        image[y : y + 24, x : x + 40] = rng.integers(30, 225, 3)
    edged = np.pad(image, ((1, 1), (1, 1), (0, 0)), "edge")
    soft = sum(edged[i : i + height, j : j + width] for i in range(3) for j in range(3))
    return (soft / 9).astype(np.uint8)


def test_every_encoding_of_the_field_is_known() -> None:
    field = [
        "rgb8",
        "rgba8",
        "bgr8",
        "bgra8",
        "mono8",
        "mono16",
        "rgb16",
        "bgr16",
        "rgba16",
        "bgra16",
        "8uc1",
        "8uc3",
        "8uc4",
        "16uc1",
        "16uc3",
        "uyvy",
        "yuv422",
        "yuyv",
        "yuv422_yuy2",
        "nv12",
        "nv21",
        "nv24",
        "i420",
        "yuv420p",
    ]
    field += [f"bayer_{p}{bits}" for p in PATTERNS for bits in (8, 16)]
    assert set(field) <= set(ENCODINGS)


@settings(max_examples=80, deadline=None)
@given(
    encoding=st.sampled_from([*LAYOUTS, "MONO16", "Bgr16"]),
    width=st.integers(1, 8),
    height=st.integers(1, 6),
    padding=st.integers(0, 7),
    is_bigendian=st.booleans(),
    bits=st.sampled_from([6, 8, 10, 12, 13, 14, 16]),
    bit_depth=st.sampled_from(["auto", 8, 10, 12, 16]),
)
def test_words_of_either_order_with_any_padding(
    encoding: str,
    width: int,
    height: int,
    padding: int,
    is_bigendian: bool,
    bits: int,
    bit_depth: BitDepth,
) -> None:
    order, count = LAYOUTS.get(encoding) or LAYOUTS[encoding.lower()]
    samples = np.random.default_rng(width + 10 * height).integers(0, 1 << bits, (height, width, count))
    if count == 4:
        samples[..., 3] = 65535
    data = b""
    for y in range(height):
        for x in range(width):
            for sample in samples[y, x]:
                data += struct.pack(">H" if is_bigendian else "<H", int(sample))
        data += b"\xaa" * padding
    step = 2 * count * width + padding
    image = decode_frame(raw(data, encoding, width, height, step, is_bigendian), 64, bit_depth).image

    brightest = max(int(samples[y, x, c]) for y in range(height) for x in range(width) for c in order)
    if bit_depth == "auto":
        bit_depth = min(b for b in (8, 10, 12, 14, 16) if brightest < 2**b)
    for y in range(height):
        for x in range(width):
            for c in range(3):
                value = int(samples[y, x, order[c]]) // 2 ** (bit_depth - 8)
                assert image[y, x, c] == min(value, 255)


@pytest.mark.parametrize(
    ("peak", "bits"),
    [(0, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16384, 16), (65535, 16)],
)
def test_the_depth_that_a_peak_shows(peak: int, bits: int) -> None:
    assert depth_of(peak) == bits


def test_a_12_bit_camera_is_not_black() -> None:
    """Field notes: scaled by 1/257 it comes out nearly black; both ends of the word are in use in the field."""
    ramp = np.linspace(0, 4095, 64).astype(np.uint16)[None]
    low = decode_frame(raw(ramp.tobytes(), "mono16", 64, 1, 128), 64).image[0, :, 0]
    high = decode_frame(raw((ramp << 4).tobytes(), "mono16", 64, 1, 128), 64).image[0, :, 0]
    assert (low == high).all()
    assert (low[0], low[-1]) == (0, 255)
    dark = (ramp // 5).astype(np.uint16)
    assert decode_frame(raw(dark.tobytes(), "mono16", 64, 1, 128), 64, 12).image.max() == 51
    assert to_8_bits(np.zeros((0, 3), np.uint16), "auto").shape == (0, 3)


def filtered(image: Image, pattern: str) -> np.ndarray:
    """(H, W) what the sensor sees: of each pixel the colour that the pattern's letter names."""
    out = np.zeros(image.shape[:2], np.int64)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = image[y, x, "RGB".index(PATTERNS[pattern][y % 2 * 2 + x % 2])]
    return out


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("is_bigendian", [False, True])
def test_bayer_keeps_its_samples_and_finds_the_others(pattern: str, bits: int, is_bigendian: bool) -> None:
    image = street(90, 121)
    samples = filtered(image, pattern)
    pitch = 130 * bits // 8 + 1
    rows = np.full((90, pitch), 77, np.uint8)
    words = samples.astype(np.uint8) if bits == 8 else (samples << 8).astype(">u2" if is_bigendian else "<u2")
    rows[:, : 121 * bits // 8] = words.view(np.uint8).reshape(90, -1)
    frame = raw(rows.tobytes(), f"bayer_{pattern}{bits}", 121, 90, pitch, is_bigendian)
    decoded = decode_frame(frame, 64, "auto" if bits == 8 else 16).image
    assert psnr_db(decoded, image) > 35
    assert psnr_db(decoded[:3], image[:3]) > 30, "the border too"
    assert psnr_db(decoded[:, -3:], image[:, -3:]) > 30
    for y in range(90):
        for x in range(121):
            assert decoded[y, x, "RGB".index(PATTERNS[pattern][y % 2 * 2 + x % 2])] == samples[y, x]


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=15, deadline=None)
@given(
    width=st.integers(2, 9),
    height=st.integers(2, 9),
    color=st.tuples(*[st.integers(0, 255)] * 3),
)
def test_bayer_of_one_colour_is_that_colour(
    pattern: str, width: int, height: int, color: tuple[int, int, int]
) -> None:
    image = np.full((height, width, 3), color, np.uint8)
    data = filtered(image, pattern).astype(np.uint8).tobytes()
    assert (decode_frame(raw(data, f"bayer_{pattern}8", width, height, width), 64).image == image).all()


def test_a_bayer_picture_without_all_colours_is_refused() -> None:
    for width, height in ((1, 8), (8, 1)):
        with pytest.raises(DecodeError) as caught:
            decode_frame(raw(bytes(8), "bayer_rggb8", width, height, width), 64)
        assert caught.value.reason == "no_pixels"


def test_bayer_of_the_simulator_comes_back_above_35_db() -> None:
    image = street(200, 320)
    picture = open_encoder("bayer_rggb8", (320, 200), 10.0, 90).encode(image)
    frame = raw(picture.data.tobytes(), "bayer_rggb8", 320, 200, picture.step_bytes)
    assert psnr_db(decode_frame(frame, 64).image, image) > 35


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("32FC1", "unsupported_encoding"),
        ("64FC3", "unsupported_encoding"),
        ("16SC1", "unsupported_encoding"),
        ("8SC1", "unsupported_encoding"),
        ("8UC2", "unsupported_encoding"),
        ("16UC2", "unsupported_encoding"),
        ("bayer_rggb12", "unsupported_encoding"),
        ("mono12", "unsupported_encoding"),
        ("yuv444p", "unsupported_encoding"),
        ("nv16", "unsupported_encoding"),
        ("jpeg", "unknown_encoding"),
        ("rgbd8\x1b[2J" * 99, "unsupported_encoding"),
        ("", "unknown_encoding"),
    ],
)
def test_formats_that_are_none(encoding: str, expected: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_frame(raw(bytes(400), encoding, 4, 4, 32), 64)
    assert caught.value.reason == expected
    assert "\x1b" not in str(caught.value)

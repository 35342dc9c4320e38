"""Image files other than plain JPEG and PNG: right pixels, or a reason; damage inside a JPEG."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.decode import decode_frame
from perception_batch.errors import DecodeError
from perception_batch.types import EncodedFrame, Image, StillPayload

RNG = np.random.default_rng(11)
PHOTO = np.asarray(cv2.GaussianBlur(RNG.integers(0, 256, (72, 100, 3), np.uint8), (0, 0), 2))
PHOTO[..., 0] = 220  # red in RGB: a channel mix-up shows
PHOTO[..., 2] = np.arange(100)  # left and right differ


def still(data: bytes) -> EncodedFrame:
    return EncodedFrame("cam", 7, 8, StillPayload(data), "jpeg", 0, 0, 0, 7)


def saved(image: Image | PIL.Image.Image, kind: str, **options: object) -> bytes:
    """A file written by Pillow: another writer than the reader under test."""
    file = io.BytesIO()
    picture = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
    picture.save(file, kind, **options)
    return file.getvalue()


def reason(data: bytes, limit_mpx: float = 64) -> str:
    with pytest.raises(DecodeError) as caught:
        decode_frame(still(data), limit_mpx)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def opencv(suffix: str, image: np.ndarray, *options: int) -> bytes:
    """A file written by OpenCV from RGB or grey."""
    bgr = image[..., ::-1] if image.ndim == 3 else image
    return cv2.imencode(suffix, np.ascontiguousarray(bgr), list(options))[1].tobytes()


LOSSLESS: dict[str, bytes] = {
    "webp": saved(PHOTO, "WEBP", lossless=True),
    "bmp": saved(PHOTO, "BMP"),
    "tiff": saved(PHOTO, "TIFF"),
    "jpeg2000": saved(PHOTO, "JPEG2000"),
    "avif": opencv(".avif", PHOTO, cv2.IMWRITE_AVIF_QUALITY, 100),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_the_pixels_are_the_picture(kind: str) -> None:
    image = decode_frame(still(LOSSLESS[kind]), 64).image
    assert image.flags.c_contiguous
    assert (image == PHOTO).all()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("WEBP", {"quality": 95}),
        ("JPEG2000", {"no_jp2": True, "irreversible": False}),
        ("JPEG2000", {"tile_size": (64, 64)}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
        ("TIFF", {"compression": "jpeg", "quality": 95}),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
    ],
)
def test_forms_of_each_format(kind: str, options: dict[str, object]) -> None:
    error = decode_frame(still(saved(PHOTO, kind, **options)), 64).image.astype(float) - PHOTO
    assert np.abs(error).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA"])
def test_grey_palette_and_alpha(kind: str, mode: str) -> None:
    picture = PIL.Image.fromarray(PHOTO).convert(mode)
    if mode in ("RGBA", "LA"):
        picture.putalpha(90)
    try:
        data = saved(picture, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    except OSError:
        pytest.skip(f"Pillow writes no {kind} of mode {mode}")
    if kind == "TIFF" and picture.mode in ("RGBA", "LA"):
        assert reason(data) == "unsupported_encoding", "OpenCV would darken it"
        return
    expected = picture.convert("RGBA" if mode in ("RGBA", "LA") else "RGB")
    assert (decode_frame(still(data), 64).image == np.asarray(expected)[..., :3]).all()


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jp2"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_16_bits_by_the_same_policy(suffix: str, channels: int, bits: int) -> None:
    words = RNG.integers(0, 1 << bits, (64, 80, 3)).astype(np.uint16)
    options = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000] if suffix == ".jp2" else []
    if channels == 4:
        if suffix == ".tiff":
            pytest.skip("OpenCV writes it against the standard")
        bgra = np.dstack([words[..., ::-1], np.full((64, 80), 65535, np.uint16)])
        data = cv2.imencode(suffix, bgra, options)[1].tobytes()
    else:
        data = opencv(suffix, words[..., 0] if channels == 1 else words, *options)
    wanted = words[..., :1] if channels == 1 else words
    tolerance = 1 if suffix == ".jp2" else 0
    for bit_depth, shift in (("auto", bits - 8), (16, 8)):
        image = decode_frame(still(data), 64, bit_depth).image.astype(int)  # type: ignore[arg-type]
        assert image.shape == (64, 80, 3)
        assert np.abs(image - (wanted >> shift)).max() <= tolerance


def test_orientation_is_ignored_or_refused() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = saved(PHOTO, kind, exif=exif, **options)
        assert (decode_frame(still(data), 64).image == PHOTO).all()
    assert reason(saved(PHOTO, "TIFF", tiffinfo={274: 6})) == "unsupported_encoding"


@pytest.mark.parametrize("color", [(255, 0, 0), (10, 200, 30), (250, 250, 250), (0, 0, 0)])
def test_a_jpeg_in_printing_colours(color: tuple[int, int, int]) -> None:
    data = saved(PIL.Image.new("RGB", (32, 24), color).convert("CMYK"), "JPEG", quality=95)
    image = decode_frame(still(data), 64).image
    assert np.abs(image.astype(int) - color).max() <= 3


@pytest.mark.parametrize("sampling", [0x411111, 0x221111, 0x211111, 0x121111, 0x111111])
def test_jpeg_of_every_subsampling_is_as_opencv_has_it(sampling: int) -> None:
    data = opencv(".jpg", PHOTO, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling)
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert theirs is not None
    assert (decode_frame(still(data), 64).image == theirs[..., ::-1]).all()


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_cut_file_never_passes(kind: str) -> None:
    data = LOSSLESS[kind]
    for length in [*range(12, 200, 7), *range(200, len(data), len(data) // 40), len(data) - 4]:
        assert reason(data[:length]) == f"broken_{kind}", length


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_size_above_the_limit_is_refused_before_decoding(kind: str) -> None:
    assert reason(LOSSLESS[kind], 0.007) == "too_large"
    assert decode_frame(still(LOSSLESS[kind]), 0.0072).image.size


CLAIMS: dict[str, Callable[[bytes], bytes]] = {
    "webp": lambda d: d[:21] + struct.pack("<I", 0x0FFFFFFF) + d[25:],
    "tiff": lambda d: d.replace(
        struct.pack("<HHII", 256, 4, 1, 100), struct.pack("<HHII", 256, 4, 1, 3 * 10**9)
    ),
    "jpeg2000": lambda d: d.replace(struct.pack(">II", 100, 72), struct.pack(">II", 10**9, 10**9)),
    "avif": lambda d: d.replace(struct.pack(">II", 100, 72), struct.pack(">II", 65000, 65000)),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_huge_claims(kind: str) -> None:
    data = CLAIMS[kind](LOSSLESS[kind])
    assert data != LOSSLESS[kind]
    assert reason(data) in ("too_large", f"broken_{kind}")


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1), value=st.integers(0, 255), length=st.integers(1, 4), early=st.booleans())
def test_damaged_files_end_in_pixels_or_a_reason(
    kind: str, at: float, value: int, length: int, early: bool
) -> None:
    data = bytearray(LOSSLESS[kind])
    place = 12 + int(at * ((200 if early else len(data)) - 12 - length))
    data[place : place + length] = bytes([value]) * length
    try:
        image = decode_frame(still(bytes(data)), 1).image
    except DecodeError as error:
        assert error.reason in (f"broken_{kind}", "too_large", "unsupported_encoding")
    else:
        assert image.dtype == np.uint8
        assert image.size <= 3e6


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved(PIL.Image.fromarray(PHOTO), "GIF"), "unknown_encoding"),
        (
            saved(PHOTO, "WEBP", save_all=True, append_images=[PIL.Image.fromarray(PHOTO[::-1])]),
            "unsupported_encoding",
        ),
        (
            saved(PHOTO, "AVIF", save_all=True, append_images=[PIL.Image.fromarray(PHOTO[::-1])]),
            "unsupported_encoding",
        ),
        (saved(PIL.Image.fromarray(PHOTO[..., 0].astype(np.float32)), "TIFF"), "unsupported_encoding"),
        (saved(PIL.Image.fromarray(PHOTO).convert("CMYK"), "TIFF"), "unsupported_encoding"),
        (b"BM" + bytes(10), "broken_bmp"),
        (b"BM" + bytes(100), "broken_bmp"),
        (b"II*\0" + bytes(100), "broken_tiff"),
        (b"II*\0" + b"\xff" * 100, "broken_tiff"),
        (b"RIFF" + bytes(4) + b"WEBP" + bytes(100), "broken_webp"),
        (b"\xff\x4f\xff\x51" + bytes(100), "broken_jpeg2000"),
        (b"\0\0\0\x0cjP  " + bytes(100), "broken_jpeg2000"),
        (b"\0\0\0\x20ftypavif" + bytes(100), "broken_avif"),
    ],
)
def test_files_that_are_none(data: bytes, expected: str) -> None:
    assert reason(data) == expected


# --- damage inside a JPEG's coded data ------------------------------------------------------------------------

STREET = np.asarray(cv2.GaussianBlur(RNG.integers(0, 256, (240, 320, 3), np.uint8), (0, 0), 1.2))
JPEG = saved(STREET, "JPEG", quality=90)
FIRST = JPEG.index(b"\xff\xda") + 14


def test_lost_bytes_in_the_middle_of_a_jpeg_are_found() -> None:
    """Holes and overwritten stretches; what passes has fallen into step with the right number of blocks."""
    found = 0
    for at in range(FIRST, len(JPEG) - 300, (len(JPEG) - 300 - FIRST) // 40):
        hole = JPEG[:at] + JPEG[at + 200 :]
        zeros = JPEG[:at] + bytes(200) + JPEG[at + 200 :]
        for data in (hole, zeros):
            try:
                decode_frame(still(data), 64)
            except DecodeError as error:
                assert error.reason == "broken_jpeg"
                found += 1
    assert found >= 45, found  # 32 of 82 before libjpeg-turbo was asked


@pytest.mark.parametrize("extra", [b"\0", b"\0\0\0", b"\x12\x34\x56\x78\x9a"])
def test_a_webcams_few_bytes_too_many_are_no_damage(extra: bytes) -> None:
    whole = decode_frame(still(JPEG), 64).image
    assert (decode_frame(still(JPEG[:-2] + extra + JPEG[-2:]), 64).image == whole).all()


def test_many_bytes_too_many_are_damage() -> None:
    assert reason(JPEG[:-2] + bytes(range(100)) + JPEG[-2:]) == "broken_jpeg"


def test_an_odd_header_is_no_damage() -> None:
    at = JPEG.index(b"JFIF\0") + 5
    odd = JPEG[:at] + b"\x09" + JPEG[at + 1 :]
    assert (decode_frame(still(odd), 64).image == decode_frame(still(JPEG), 64).image).all()


def test_damage_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    reason(JPEG[: len(JPEG) // 2] + JPEG[-2:])
    decode_frame(still(JPEG[:-2] + bytes(5) + JPEG[-2:]), 64)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("size", [(72, 100), (71, 99), (65, 97), (9, 8), (1, 1)])
def test_a_jpeg_at_a_fraction_is_the_mean_of_its_pixels(size: tuple[int, int], factor: int) -> None:
    height, width = size
    photo = np.ascontiguousarray(cv2.GaussianBlur(PHOTO, (0, 0), 3)[:height, :width])
    asked: list[tuple[int, int]] = []

    def reduce_by(image_hw: tuple[int, int]) -> int:
        asked.append(image_hw)
        return factor

    data = saved(photo, "JPEG", quality=98, subsampling=0)
    frame = decode_frame(still(data), 64, "auto", reduce_by)
    assert asked == [size] and frame.original_hw == size
    rows, columns = -(-height // factor), -(-width // factor)
    assert frame.image.shape == (rows, columns, 3) and frame.image.flags.c_contiguous
    # a pixel stands for factor x factor of the original's, the last ones of odd sizes for fewer
    filled = np.pad(photo, ((0, rows * factor - height), (0, columns * factor - width), (0, 0)), "edge")
    means = filled.reshape(rows, factor, columns, factor, 3).mean((1, 3))
    assert np.abs(frame.image - means).max() <= 8 and np.abs(frame.image - means).mean() < 2


def test_only_jpegs_are_reduced_and_damage_is_found_in_them_too() -> None:
    for data in LOSSLESS.values():
        frame = decode_frame(still(data), 64, "auto", lambda _: 2)
        assert frame.image.shape[:2] == frame.original_hw == (72, 100)
    printing = saved(PIL.Image.new("RGB", (33, 25), (10, 200, 30)).convert("CMYK"), "JPEG", quality=95)
    frame = decode_frame(still(printing), 64, "auto", lambda _: 2)
    assert frame.image.shape == (13, 17, 3) and np.abs(frame.image.astype(int) - (10, 200, 30)).max() <= 3
    data = saved(PHOTO, "JPEG", quality=90)
    for broken in (data[: len(data) // 2], data[: len(data) // 2] + data[len(data) // 2 + 90 :]):
        with pytest.raises(DecodeError, match="broken_jpeg"):
            decode_frame(still(broken), 64, "auto", lambda _: 2)
    with pytest.raises(DecodeError, match="too_large"):
        decode_frame(still(data), 0.007, "auto", lambda _: 8)  # its own size counts, not the reduced one

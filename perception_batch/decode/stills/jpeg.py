"""JPEG: complete, known form, and decoded by a library that tells what it had to guess.

The right pixels or none. libjpeg-turbo fills what is missing with grey and steps over what it cannot read; OpenCV
hides that. So the markers are checked before (ITU-T T.81), and libjpeg-turbo is asked to tell of damaged data. What no
decoder can notice stays: damage after which the code falls into step again with the right number of blocks, mostly a
few bits.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg  # type: ignore[import-untyped]  # it has no py.typed

from perception_batch.decode.undecodable import UndecodableError
from perception_batch.types import Image

MAGIC = b"\xff\xd8\xff"
# A marker that is neither a stuffed zero, nor a fill byte, nor a restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_SOI, _EOI, _SOS, _DRI = 0xD8, 0xD9, 0xDA, 0xDD
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset((0xC0, 0xC1, 0xC9))
_DECODABLE = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
# libjpeg-turbo's own fuzzers stop here; a progressive file of a few kB with more costs minutes to decode.
_MAX_SCANS = 500
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd[0-9]")
# libjpeg's warnings (jerror.h) that mean lost or wrong pixels.
_DAMAGE = ("Corrupt JPEG data", "Premature end", "Inconsistent progression")
# Webcams end their data, or a restart interval, with a few bytes too many, and the picture is whole. Damage mostly
# leaves more over (of street images: 7 to 236).
_HARMLESS_BYTES = 8
# By reduction; the reduced ones give BGR.
_OPENCV_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class Jpeg(NamedTuple):
    """What a JPEG's markers say."""

    width_px: int
    """As the pixels lie in the file; EXIF rotation is not applied."""
    height_px: int
    """Likewise."""
    components: int
    """1 grey, 3 colour, 4 printing colours."""
    is_sequential: bool
    """One pass, not progressive."""


def decode_jpeg(data: memoryview, jpeg: Jpeg, factor: int = 1) -> Image:
    """(H, W, 3) RGB of what `read_jpeg` took; EXIF rotation is not applied.

    With a `factor` of 2, 4 or 8 the sides are that fraction, rounded up: fewer coefficients of each block are turned into
    pixels, which costs less than scaling them afterwards.

    Raises:
        UndecodableError: ``broken_jpeg``.
    """
    try:
        return _decode_by_libjpeg(data, jpeg, factor, strict=True)
    except ValueError as problem:
        complaint = " ".join(str(problem).split())
    if _tells_of_damage(complaint):
        raise _broken(complaint)
    image = _decode_leniently(data, jpeg, factor)
    if jpeg.is_sequential and _ends_early(image, data):
        raise _broken("its data end before its last row")
    return image


def _decode_by_libjpeg(data: memoryview, jpeg: Jpeg, factor: int, *, strict: bool) -> Image:
    if factor == 1:
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=strict), np.uint8)
    # It takes the smallest scale that gives at least so much.
    height, width = -(-jpeg.height_px // factor), -(-jpeg.width_px // factor)
    pixels = simplejpeg.decode_jpeg(
        data, "RGB", min_height=height, min_width=width, min_factor=factor, strict=strict
    )
    return np.asarray(pixels, np.uint8)


def _tells_of_damage(complaint: str) -> bool:
    """False for what leaves the pixels alone: an odd JFIF version, a broken colour profile, a form of file that
    only OpenCV turns to RGB.
    """
    left_over = _EXTRANEOUS.search(complaint)
    if left_over:
        return int(left_over[1]) > _HARMLESS_BYTES
    return complaint.startswith(_DAMAGE) and "ICC" not in complaint


def _decode_leniently(data: memoryview, jpeg: Jpeg, factor: int) -> Image:
    try:
        return _decode_by_libjpeg(data, jpeg, factor, strict=False)
    except ValueError:  # printing colours, unusual subsampling
        flags = _OPENCV_FLAGS[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as problem:
        raise _broken(" ".join(str(problem).split())) from None
    if image is None:
        raise _broken("the decoder refused it")
    return np.asarray(image if factor == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def read_jpeg(data: memoryview) -> Jpeg:
    """Walk the markers from start to end-of-image (ITU-T T.81, annex B). Bytes after the end are legal.

    Raises:
        UndecodableError: ``broken_jpeg``; ``unsupported_encoding``: not 8 bits, or lossless.
    """
    position, scans, interval = 2, 0, 0
    header: Jpeg | None = None
    blocks = 0
    while True:
        found = _MARKER.search(data, position)
        if found is None:
            raise _broken(f"cut off: no end-of-image marker in {len(data)} bytes")
        if scans and interval and blocks:
            _check_restarts(data[position : found.start()], interval, blocks)
            blocks = 0
        code, position = data[found.end() - 1], found.end()
        if code == _EOI:
            break
        if code in (_SOI, 0x01):
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        segment = data[position + 2 : position + length]
        if length < 2 or len(segment) < length - 2:
            raise _broken(f"cut off inside segment {code:#04x}")
        if code in _FRAME_HEADERS:
            if header is not None:
                raise _broken("it has two frame headers")
            header, blocks = _read_frame_header(code, segment)
        elif code == _DRI and len(segment) >= 2:
            interval = int.from_bytes(segment[:2], "big")
        elif code == _SOS:
            scans += 1
            if header is not None and segment[:1] != bytes((header.components,)):
                blocks = 0  # not interleaved: each scan has its own count
            if scans > _MAX_SCANS:
                raise _broken(f"more than {_MAX_SCANS} scans")
        position += length
    if header is None or not scans:
        raise _broken("it holds no image data")
    return header


def _read_frame_header(code: int, segment: memoryview) -> tuple[Jpeg, int]:
    """Size and kind, and the number of MCUs where one interleaved scan holds the whole image (else 0)."""
    if len(segment) < 6:
        raise _broken("its frame header is cut off")
    precision, components = segment[0], segment[5]
    height = int.from_bytes(segment[1:3], "big")
    width = int.from_bytes(segment[3:5], "big")
    if code not in _DECODABLE or precision != 8:
        raise UndecodableError(
            "unsupported_encoding",
            f"a JPEG of {precision} bits, process {code:#04x}; decoded is 8-bit lossy JPEG",
        )
    if not width or not height:
        raise _broken(f"its header says {width}x{height} pixels")
    sequential = code in _SEQUENTIAL
    if not sequential or len(segment) < 6 + 3 * components or not components:
        return Jpeg(width, height, components, sequential), 0
    factors = [segment[7 + 3 * i] for i in range(components)]
    across = 8 * max(f >> 4 for f in factors) if components > 1 else 8
    down = 8 * max(f & 15 for f in factors) if components > 1 else 8
    blocks = -(-width // across) * -(-height // down) if across and down else 0
    return Jpeg(width, height, components, sequential), blocks


def _check_restarts(entropy: memoryview, interval: int, blocks: int) -> None:
    """Restart markers count 0..7 round and round, one after every `interval` MCUs: a gap is lost data."""
    seen = b"".join(_RESTART.findall(entropy))
    expected = -(-blocks // interval) - 1
    cycle = bytes(range(0xD0, 0xD8))
    # Some encoders close the last interval too.
    if len(seen) - expected in (0, 1) and seen == (cycle * (len(seen) // 8 + 1))[: len(seen)]:
        return
    raise _broken(f"its {len(seen)} restart markers are not the {expected} that belong there, in order")


def _ends_early(image: Image, data: memoryview) -> bool:
    """True where the entropy-coded data of a whole-looking JPEG run out before the picture is full.

    The lenient decoders fill what is missing with mid-grey. So only a picture whose last pixel has that luma is
    suspect (its colour may come from neighbours, by chroma interpolation), and FFmpeg's stricter decoder has
    the word.
    """
    red, green, blue = map(float, image[-1, -1])
    if abs(0.299 * red + 0.587 * green + 0.114 * blue - 128) > 1:
        return False
    import av

    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    decoder.thread_count = 1
    try:
        frames = decoder.decode(av.Packet(bytes(data)))
    except av.error.InvalidDataError:
        return True
    except av.error.FFmpegError:  # a form that FFmpeg does not take says nothing about the data
        return False
    return any(frame.is_corrupt for frame in frames)


def _broken(detail: str) -> UndecodableError:
    return UndecodableError("broken_jpeg", detail)

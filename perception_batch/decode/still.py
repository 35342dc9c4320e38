"""JPEG and PNG files, told apart by their first bytes.

The right pixels or none: OpenCV's decoders take some damaged files without a word, so the file's structure
is checked before (complete, known form, not too large) and the picture after. What no decoder can notice
stays: damage inside a JPEG's entropy-coded data after which the code falls into step again.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

import cv2
import numpy as np

from perception_batch.errors import DecodeError
from perception_batch.types import EncodedFrame, Image, StillPayload

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
# A marker that is neither a stuffed zero, nor a fill byte, nor a restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_SOI, _EOI, _SOS, _DRI = 0xD8, 0xD9, 0xDA, 0xDD
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset((0xC0, 0xC1, 0xC9))
_DECODABLE = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
# libjpeg-turbo's own fuzzers stop here; a progressive file of a few kB with more costs minutes to decode.
_MAX_SCANS = 500


class _BrokenError(Exception):
    """The file's structure is damaged."""


class _UnsupportedError(Exception):
    """A form of JPEG that the decoder does not know."""


class _Jpeg(NamedTuple):
    """What a JPEG's markers say."""

    width: int
    height: int
    components: int
    sequential: bool


def decode_still(frame: EncodedFrame, payload: StillPayload, max_image_mpx: float) -> Image:
    """(H, W, 3) RGB from a JPEG or PNG file.

    EXIF orientation is ignored: the pixels stay as the sensor gave them, as the calibration expects.
    Grey becomes three equal channels, alpha is dropped, of 16 bits the upper eight are kept.

    Raises:
        DecodeError: ``broken_jpeg``, ``broken_png``, ``too_large``, ``unknown_encoding``,
            ``unsupported_encoding``.
    """

    def error(reason: str, detail: str) -> DecodeError:
        return DecodeError("", frame.camera, frame.stamp_ns, reason, detail)

    data = memoryview(payload.data).cast("B")
    head = bytes(data[:8])
    jpeg: _Jpeg | None = None
    if head.startswith(_JPEG_MAGIC):
        broken = "broken_jpeg"
    elif head == _PNG_MAGIC:
        broken = "broken_png"
    else:
        raise error(
            "unknown_encoding", f"{len(data)} bytes that begin with {head.hex()}: neither JPEG nor PNG"
        )
    try:
        if broken == "broken_jpeg":
            jpeg = _read_jpeg(data)
            width, height = jpeg.width, jpeg.height
        else:
            width, height = _read_png(data)
    except _BrokenError as problem:
        raise error(broken, str(problem)) from None
    except _UnsupportedError as problem:
        raise error("unsupported_encoding", str(problem)) from None
    if width * height > max_image_mpx * 1e6:
        raise error(
            "too_large",
            f"{width}x{height} pixels, allowed are {max_image_mpx:g} million (read.max_image_mpx)",
        )
    try:
        image = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as problem:
        raise error(broken, " ".join(str(problem).split())) from None
    if image is None:
        raise error(broken, "the decoder refused it")
    if image.shape != (height, width, 3):
        raise error(
            broken, f"its header says {width}x{height}, decoded were {image.shape[1]}x{image.shape[0]}"
        )
    if jpeg is not None and jpeg.sequential and _ends_early(image, data):
        raise error(broken, "its data end before its last row")
    return np.ascontiguousarray(image, np.uint8)


def _read_jpeg(data: memoryview) -> _Jpeg:
    """Walk the markers from start to end-of-image (ITU-T T.81, annex B). Bytes after the end are legal."""
    position, scans, interval = 2, 0, 0
    header: _Jpeg | None = None
    blocks = 0
    while True:
        found = _MARKER.search(data, position)
        if found is None:
            raise _BrokenError(f"cut off: no end-of-image marker in {len(data)} bytes")
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
            raise _BrokenError(f"cut off inside segment {code:#04x}")
        if code in _FRAME_HEADERS:
            if header is not None:
                raise _BrokenError("it has two frame headers")
            header, blocks = _read_frame_header(code, segment)
        elif code == _DRI and len(segment) >= 2:
            interval = int.from_bytes(segment[:2], "big")
        elif code == _SOS:
            scans += 1
            if header is not None and segment[:1] != bytes((header.components,)):
                blocks = 0  # not interleaved: each scan has its own count
            if scans > _MAX_SCANS:
                raise _BrokenError(f"more than {_MAX_SCANS} scans")
        position += length
    if header is None or not scans:
        raise _BrokenError("it holds no image data")
    return header


def _read_frame_header(code: int, segment: memoryview) -> tuple[_Jpeg, int]:
    """Size and kind, and the number of MCUs where one interleaved scan holds the whole image (else 0)."""
    if len(segment) < 6:
        raise _BrokenError("its frame header is cut off")
    precision, components = segment[0], segment[5]
    height = int.from_bytes(segment[1:3], "big")
    width = int.from_bytes(segment[3:5], "big")
    if code not in _DECODABLE or precision != 8:
        raise _UnsupportedError(
            f"a JPEG of {precision} bits, process {code:#04x}; decoded is 8-bit lossy JPEG"
        )
    if not width or not height:
        raise _BrokenError(f"its header says {width}x{height} pixels")
    sequential = code in _SEQUENTIAL
    if not sequential or len(segment) < 6 + 3 * components or not components:
        return _Jpeg(width, height, components, sequential), 0
    factors = [segment[7 + 3 * i] for i in range(components)]
    across = 8 * max(f >> 4 for f in factors) if components > 1 else 8
    down = 8 * max(f & 15 for f in factors) if components > 1 else 8
    blocks = -(-width // across) * -(-height // down) if across and down else 0
    return _Jpeg(width, height, components, sequential), blocks


def _check_restarts(entropy: memoryview, interval: int, blocks: int) -> None:
    """Restart markers count 0..7 round and round, one after every `interval` MCUs: a gap is lost data."""
    seen = b"".join(_RESTART.findall(entropy))
    expected = -(-blocks // interval) - 1
    cycle = bytes(range(0xD0, 0xD8))
    # Some encoders close the last interval too.
    if len(seen) - expected in (0, 1) and seen == (cycle * (len(seen) // 8 + 1))[: len(seen)]:
        return
    raise _BrokenError(f"its {len(seen)} restart markers are not the {expected} that belong there, in order")


def _ends_early(image: Image, data: memoryview) -> bool:
    """True where the entropy-coded data of a whole-looking JPEG run out before the picture is full.

    libjpeg fills what is missing with mid-grey, tells standard error and reports success. So only a picture
    whose last pixel has that luma is suspect (its colour may come from neighbours, by chroma interpolation),
    and FFmpeg's stricter decoder has the word: a few milliseconds for one image in a hundred.
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


def _read_png(data: memoryview) -> tuple[int, int]:
    """Width and height; checks that all critical chunks are there and whole (PNG specification, 5)."""
    position, size, pixels = 8, (0, 0), False
    while True:
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if end > len(data):
            raise _BrokenError(f"cut off: it ends within a chunk, at {len(data)} of at least {end} bytes")
        kind = bytes(data[position + 4 : position + 8])
        critical = not kind[0] & 0x20
        if critical:
            stored = int.from_bytes(data[end - 4 : end], "big")
            if zlib.crc32(data[position + 4 : end - 4]) != stored:
                raise _BrokenError(f"checksum of its {kind.decode('latin-1')!r} chunk differs")
        if position == 8:
            if kind != b"IHDR" or length != 13:
                raise _BrokenError("it does not begin with an image header")
            size = (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
            if not all(size):
                raise _BrokenError(f"its header says {size[0]}x{size[1]} pixels")
        pixels = pixels or kind == b"IDAT"
        if kind == b"IEND":
            break
        position = end
    if not pixels:
        raise _BrokenError("it holds no image data")
    return size

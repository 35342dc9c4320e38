"""What kind of image some bytes are, and its size, without decoding."""

from __future__ import annotations

import struct

Buffer = bytes | memoryview

UNKNOWN = "unknown"
JPEG, PNG, WEBP, BMP, TIFF, JPEG2000, AVIF, GIF = (
    "jpeg",
    "png",
    "webp",
    "bmp",
    "tiff",
    "jpeg2000",
    "avif",
    "gif",
)
STILL_KINDS = (JPEG, PNG, WEBP, BMP, TIFF, JPEG2000, AVIF, GIF)
"""Kinds that `still_header` tells apart."""

# Start-of-frame markers (ITU-T T.81, table B.1): C0..CF without DHT (C4), JPG (C8) and DAC (CC).
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers that stand alone, without a length: TEM and RST0..RST7.
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
# Sizes of the header that follows a BMP's file header, old and new.
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_MAX_ENTRIES = 4096
_MAX_BOXES = 64


def still_header(data: Buffer) -> tuple[str, int, int]:
    """Encoding, width and height (px) of a compressed still, from its own bytes.

    Returns:
        One of `STILL_KINDS` or ``unknown``, and the size as stored, whatever an orientation tag says; 0 x 0 where
        the header is cut off or does not say.
    """
    start = bytes(data[:16])
    if start[:3] == b"\xff\xd8\xff":
        return JPEG, *_jpeg_size(data)
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        if len(data) >= 24 and data[12:16] == b"IHDR":
            return PNG, *struct.unpack_from(">II", data, 16)
        return PNG, 0, 0
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return WEBP, *_webp_size(data)
    if start[:2] == b"BM" and len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in _BMP_HEADERS:
        return BMP, *_bmp_size(data)
    if start[:4] in (b"II*\0", b"MM\0*"):
        return TIFF, *_tiff_size(data)
    if start[:12] == b"\0\0\0\x0cjP  \r\n\x87\n" or start[:4] == b"\xff\x4f\xff\x51":
        return JPEG2000, *_jpeg2000_size(data)
    if start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis"):
        return AVIF, *_avif_size(data)
    if start[:6] in (b"GIF87a", b"GIF89a"):
        return GIF, *(struct.unpack_from("<HH", data, 6) if len(data) >= 10 else (0, 0))
    return UNKNOWN, 0, 0


def _jpeg_size(data: Buffer) -> tuple[int, int]:
    """Width and height in the first start-of-frame segment; (0, 0) where there is none."""
    at, end = 2, len(data)
    while at + 4 <= end:
        if data[at] != 0xFF:
            return 0, 0
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes (T.81, B.1.1.2)
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _SOF:
            if at + 9 > end:
                return 0, 0
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker in (0xD9, 0xDA):  # end of image, start of scan: no frame header came before
            return 0, 0
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return 0, 0


def _webp_size(data: Buffer) -> tuple[int, int]:
    """RFC 9649, 2.5 to 2.7: lossy, lossless, extended."""
    if len(data) < 30:
        return 0, 0
    kind = bytes(data[12:16])
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return 0, 0


def _bmp_size(data: Buffer) -> tuple[int, int]:
    """Width and height of the header after the file header; rows from the top down have a negative height."""
    if len(data) < 26:
        return 0, 0
    if struct.unpack_from("<I", data, 14)[0] in (12, 16):
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return (width, abs(height)) if width > 0 else (0, 0)


def _tiff_size(data: Buffer) -> tuple[int, int]:
    """Tags 256 and 257 of the first directory (TIFF 6.0, section 2)."""
    order = "<" if data[:1] == b"I" else ">"
    if len(data) < 8:
        return 0, 0
    (at,) = struct.unpack_from(order + "I", data, 4)
    if at + 2 > len(data):
        return 0, 0
    (entries,) = struct.unpack_from(order + "H", data, at)
    found = {256: 0, 257: 0}
    for i in range(min(entries, _MAX_ENTRIES)):
        entry = at + 2 + 12 * i
        if entry + 12 > len(data):
            break
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in found and kind in (3, 4):  # SHORT, LONG
            (found[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
    return (found[256], found[257]) if all(found.values()) else (0, 0)


def _jpeg2000_size(data: Buffer) -> tuple[int, int]:
    """The SIZ segment of the codestream (ITU-T T.800, A.5.1), or the image header box of a JP2 file (I.5.3.1)."""
    if data[:4] == b"\xff\x4f\xff\x51":
        if len(data) < 24:
            return 0, 0
        right, bottom, left, top = struct.unpack_from(">IIII", data, 8)
        return max(right - left, 0), max(bottom - top, 0)
    found = _box(data, (b"jp2h", b"ihdr"), 0)
    if found is None or found[1] - found[0] < 8:
        return 0, 0
    height, width = struct.unpack_from(">II", data, found[0])
    return width, height


def _avif_size(data: Buffer) -> tuple[int, int]:
    """The first image spatial extents box (ISO/IEC 23008-12, 6.5.3): of the largest where there are several."""
    found = _box(data, (b"meta", b"iprp", b"ipco"), 0)
    if found is None:
        return 0, 0
    best = (0, 0)
    for kind, start, stop in _boxes(data, *found):
        if kind == b"ispe" and stop - start >= 12:
            best = max(best, struct.unpack_from(">II", data, start + 4), key=lambda size: size[0] * size[1])
    return best


def _box(data: Buffer, path: tuple[bytes, ...], start: int) -> tuple[int, int] | None:
    """Begin and end of the content of a box inside boxes (ISO/IEC 14496-12, 4.2)."""
    stop = len(data)
    for wanted in path:
        inside = next(((a, b) for kind, a, b in _boxes(data, start, stop) if kind == wanted), None)
        if inside is None:
            return None
        start, stop = inside
        start += 4 if wanted == b"meta" else 0  # version and flags
    return start, stop


def _boxes(data: Buffer, start: int, stop: int) -> list[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of the boxes in a range; those that are cut off end with it."""
    out: list[tuple[bytes, int, int]] = []
    while start + 8 <= stop and len(out) < _MAX_BOXES:
        (size,) = struct.unpack_from(">I", data, start)
        head = 8
        if size == 1 and start + 16 <= stop:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        end = stop if size == 0 else start + size
        if size and size < head:
            break
        out.append((bytes(data[start + 4 : start + 8]), start + head, min(end, stop)))
        start = end
    return out

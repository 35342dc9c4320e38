"""What kind of image some bytes are, and its size, without decoding."""

from __future__ import annotations

import struct

Buffer = bytes | memoryview

JPEG, PNG, UNKNOWN = "jpeg", "png", "unknown"
# Start-of-frame markers (ITU-T T.81, table B.1): C0..CF without DHT (C4), JPG (C8) and DAC (CC).
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers that stand alone, without a length: TEM and RST0..RST7.
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})


def still_header(data: Buffer) -> tuple[str, int, int]:
    """Encoding, width and height (px) of a compressed still, from its own bytes.

    Returns:
        ``jpeg``, ``png`` or ``unknown``, and the size; 0 x 0 where the header is cut off.
    """
    if data[:3] == b"\xff\xd8\xff":
        return JPEG, *_jpeg_size(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        if len(data) >= 24 and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
            return PNG, width, height
        return PNG, 0, 0
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

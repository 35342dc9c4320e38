"""PNG: complete, and every critical chunk with its checksum."""

from __future__ import annotations

import zlib

from perception_batch.decode.stills.header import StillHeader
from perception_batch.decode.undecodable import UndecodableError

MAGIC = b"\x89PNG\r\n\x1a\n"


def read_png(data: memoryview) -> StillHeader:
    """Walk the chunks (PNG specification, 5). Bytes after the end are legal.

    Raises:
        UndecodableError: ``broken_png``.
    """
    position, pixels = len(MAGIC), False
    header: StillHeader | None = None
    while True:
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if end > len(data):
            raise _broken(f"cut off: it ends within a chunk, at {len(data)} of at least {end} bytes")
        kind = bytes(data[position + 4 : position + 8])
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(
            data[end - 4 : end], "big"
        ):
            raise _broken(f"checksum of its {kind.decode('latin-1')!r} chunk differs")
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise _broken("it does not begin with an image header")
            width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
            if not width or not height:
                raise _broken(f"its header says {width}x{height} pixels")
            header = StillHeader(width, height, data[24] == 16)
        pixels = pixels or kind == b"IDAT"
        if kind == b"IEND":
            break
        position = end
    if not pixels:
        raise _broken("it holds no image data")
    return header


def _broken(detail: str) -> UndecodableError:
    return UndecodableError("broken_png", detail)

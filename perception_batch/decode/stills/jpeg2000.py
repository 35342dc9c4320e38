"""JPEG 2000, as a file or a bare codestream: its size, and whether its end is there."""

from __future__ import annotations

from perception_batch.decode.stills.boxes import boxes
from perception_batch.decode.stills.header import StillHeader
from perception_batch.decode.undecodable import UndecodableError

FILE_MAGIC = b"\0\0\0\x0cjP  "
STREAM_MAGIC = b"\xff\x4f\xff\x51"
_END = b"\xff\xd9"
_MAX_TILES = 65535


def read_jpeg2000(data: memoryview) -> StillHeader:
    """Read the SIZ segment (ITU-T T.800, annex A.5.1 and, for the file, annex I).

    Raises:
        UndecodableError: ``broken_jpeg2000``, ``unsupported_encoding``.
    """
    stream = data
    if bytes(data[:8]) == FILE_MAGIC:
        found = next((body for kind, body in boxes(data, "broken_jpeg2000") if kind == b"jp2c"), None)
        if found is None:
            raise _broken("it holds no image data")
        stream = found
    if bytes(stream[:4]) != STREAM_MAGIC or len(stream) < 42:
        raise _broken("its image data do not begin with a size")
    right, bottom, left, top, tile_width, tile_height = (
        int.from_bytes(stream[at : at + 4], "big") for at in (8, 12, 16, 20, 24, 28)
    )
    count = int.from_bytes(stream[40:42], "big")
    components = bytes(stream[42 : 42 + 3 * count])
    width, height = right - left, bottom - top
    if width <= 0 or height <= 0 or not tile_width or not tile_height or len(components) < 3 * count:
        raise _broken(f"its header says {width}x{height} pixels in tiles of {tile_width}x{tile_height}")
    if -(-right // tile_width) * -(-bottom // tile_height) > _MAX_TILES:
        raise _broken("it has too many tiles")
    bits = {depth % 128 + 1 for depth in components[::3]}
    signed = any(depth > 127 for depth in components[::3])
    if count not in (1, 3, 4) or signed or max(bits) > 16 or set(components[1::3] + components[2::3]) != {1}:
        raise UndecodableError(
            "unsupported_encoding", f"a JPEG 2000 of {count} components, {sorted(bits)} bits"
        )
    if _END not in bytes(stream[-64:]):
        raise _broken("cut off: no end-of-codestream marker")
    return StillHeader(width, height, bits == {16})


def _broken(detail: str) -> UndecodableError:
    return UndecodableError("broken_jpeg2000", detail)

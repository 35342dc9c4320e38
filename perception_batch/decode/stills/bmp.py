"""BMP: complete, not run-length coded. There are no checksums."""

from __future__ import annotations

from perception_batch.decode.stills.header import StillHeader
from perception_batch.decode.undecodable import UndecodableError

MAGIC = b"BM"
_CORE_HEADER, _INFO_HEADER = 12, 40
_PLAIN, _BIT_FIELDS = 0, 3


def read_bmp(data: memoryview) -> StillHeader:
    """Size, and whether all rows are there (Microsoft's BITMAPFILEHEADER and BITMAPINFOHEADER).

    Raises:
        UndecodableError: ``broken_bmp``, ``unsupported_encoding``.
    """

    def number(at: int, size: int, signed: bool = False) -> int:
        return int.from_bytes(data[at : at + size], "little", signed=signed)

    if len(data) < 14 + _CORE_HEADER:
        raise _broken(f"cut off: {len(data)} bytes")
    start, header = number(10, 4), number(14, 4)
    if header == _CORE_HEADER:
        width, height, bits, compression = number(18, 2), number(20, 2), number(24, 2), _PLAIN
    elif header >= _INFO_HEADER and len(data) >= 14 + _INFO_HEADER:
        width, height = number(18, 4, signed=True), abs(number(22, 4, signed=True))
        bits, compression = number(28, 2), number(30, 4)
    else:
        raise _broken(f"its header says that it has {header} bytes")
    if width <= 0 or not height:
        raise _broken(f"its header says {width}x{height} pixels")
    if compression not in (_PLAIN, _BIT_FIELDS) or bits not in (1, 4, 8, 16, 24, 32):
        raise UndecodableError(
            "unsupported_encoding", f"a BMP of {bits} bits, compression {compression}; decoded are plain ones"
        )
    needed = start + (width * bits + 31) // 32 * 4 * height
    if len(data) < needed:
        raise _broken(f"cut off: {len(data)} of {needed} bytes")
    return StillHeader(width, height)


def _broken(detail: str) -> UndecodableError:
    return UndecodableError("broken_bmp", detail)

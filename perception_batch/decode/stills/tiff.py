"""TIFF: the first picture, all its strips or tiles inside the file, in a form that OpenCV decodes."""

from __future__ import annotations

import struct

from perception_batch.decode.stills.header import StillHeader
from perception_batch.decode.undecodable import UndecodableError

MAGICS = (b"II*\0", b"MM\0*")
_SIZES = {1: 1, 3: 2, 4: 4}  # bytes of the field types that are whole numbers: BYTE, SHORT, LONG
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 259, 262, 274
_STRIPS, _SAMPLES, _STRIP_BYTES, _PLANES, _ALPHA, _SAMPLE_FORMAT = 273, 277, 279, 284, 338, 339
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_READ = (
    frozenset((_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION))
    | frozenset((_STRIPS, _SAMPLES, _STRIP_BYTES, _PLANES, _ALPHA, _SAMPLE_FORMAT))
    | frozenset((_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES))
)
_DECODABLE = frozenset((1, 5, 7, 8, 32773, 32946))  # none, LZW, JPEG, deflate, PackBits, old deflate
_UNSIGNED = 1
_SEPARATE_ALPHA = 2
_MAX_PARTS = 1 << 20


def read_tiff(data: memoryview) -> StillHeader:
    """Read the first directory (TIFF 6.0, section 2).

    Raises:
        UndecodableError: ``broken_tiff``, ``unsupported_encoding``.
    """
    order = "<" if bytes(data[:2]) == b"II" else ">"
    fields = _read_fields(data, order)

    def one(tag: int, default: int) -> int:
        return next(iter(fields.get(tag, ())), default)

    width, height = one(_WIDTH, 0), one(_HEIGHT, 0)
    if not width or not height:
        raise _broken(f"its header says {width}x{height} pixels")
    bits = set(fields.get(_BITS, (1,)))
    compression, photometric = one(_COMPRESSION, 1), one(_PHOTOMETRIC, 1)
    deep = bits == {16}
    if (
        compression not in _DECODABLE
        # Grey from black, colour, palette; grey from white and coded colour where OpenCV turns them (8 bits).
        or photometric not in ((1, 2) if deep else (0, 1, 2, 3, 6))
        or set(fields.get(_SAMPLE_FORMAT, (_UNSIGNED,))) != {_UNSIGNED}
        or bits not in ({1}, {4}, {8}, {16})
        or one(_ORIENTATION, 1) != 1
        or (not deep and _SEPARATE_ALPHA in fields.get(_ALPHA, ()))  # OpenCV darkens the colours by it
        or (deep and (one(_PLANES, 1) != 1 or one(_SAMPLES, 1) not in (1, 3, 4)))
    ):
        raise UndecodableError(
            "unsupported_encoding",
            f"a TIFF of {sorted(bits)[:4]} bits, compression {compression}, colours {photometric}, "
            f"orientation {one(_ORIENTATION, 1)}, alpha {_ALPHA in fields}",
        )
    tile_px = one(_TILE_WIDTH, 0) * one(_TILE_HEIGHT, 0)
    if tile_px > 4 * max(width * height, 1 << 20):
        raise _broken(f"its tiles have {tile_px} pixels, the picture {width * height}")
    tiled = _TILES in fields
    starts = fields.get(_TILES if tiled else _STRIPS, ())
    lengths = fields.get(_TILE_BYTES if tiled else _STRIP_BYTES, ())
    if not starts or len(starts) != len(lengths):
        raise _broken("it does not say where its pixels are")
    for start, length in zip(starts, lengths, strict=True):
        if start + length > len(data):
            raise _broken(f"cut off: {len(data)} bytes, pixels up to {start + length}")
    return StillHeader(width, height, deep)


def _read_fields(data: memoryview, order: str) -> dict[int, tuple[int, ...]]:
    """The whole-number fields that matter, by tag."""
    try:
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        fields = {}
        for i in range(count):
            tag, kind, values = struct.unpack_from(order + "HHI", data, at + 2 + 12 * i)
            if tag not in _READ or kind not in _SIZES:
                continue
            if values > _MAX_PARTS:
                raise _broken(f"its field {tag} has {values} values")
            place = at + 10 + 12 * i
            if values * _SIZES[kind] > 4:
                (place,) = struct.unpack_from(order + "I", data, place)
            letter = {1: "B", 3: "H", 4: "I"}[kind]
            fields[tag] = struct.unpack_from(f"{order}{values}{letter}", data, place)
    except struct.error:
        raise _broken(f"cut off: {len(data)} bytes end within its directory") from None
    return fields


def _broken(detail: str) -> UndecodableError:
    return UndecodableError("broken_tiff", detail)

"""WebP: complete, one still picture. There are no checksums."""

from __future__ import annotations

from perception_batch.decode.stills.header import StillHeader
from perception_batch.decode.undecodable import UndecodableError

_ANIMATION = 0x02


def is_webp(head: bytes) -> bool:
    """True for the first twelve bytes of a WebP file."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def read_webp(data: memoryview) -> StillHeader:
    """Walk the chunks (WebP container specification; RFC 9649, 2).

    Raises:
        UndecodableError: ``broken_webp``; ``unsupported_encoding``: an animation.
    """
    stop = 8 + int.from_bytes(data[4:8], "little")
    if stop > len(data):
        raise _broken(f"cut off: {len(data)} of {stop} bytes")
    position, canvas = 12, (0, 0)
    picture: tuple[int, int] | None = None
    while position + 8 <= stop and picture is None:
        kind = bytes(data[position : position + 4])
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        body = data[position + 8 : position + 8 + length]
        if position + 8 + length > stop:
            raise _broken(f"it ends within its {kind.decode('latin-1')!r} chunk")
        if kind == b"VP8X" and length >= 10:
            if body[0] & _ANIMATION:
                raise UndecodableError("unsupported_encoding", "an animated WebP")
            canvas = (1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))
        elif kind == b"VP8 " and length >= 10 and bytes(body[3:6]) == b"\x9d\x01\x2a":
            picture = (
                int.from_bytes(body[6:8], "little") & 0x3FFF,
                int.from_bytes(body[8:10], "little") & 0x3FFF,
            )
        elif kind == b"VP8L" and length >= 5 and body[0] == 0x2F:
            bits = int.from_bytes(body[1:5], "little")
            picture = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        position += 8 + length + length % 2
    if picture is None or not all(picture):
        raise _broken("it holds no image data")
    if canvas not in ((0, 0), picture):
        raise _broken(f"its canvas has {canvas[0]}x{canvas[1]} pixels, its picture {picture[0]}x{picture[1]}")
    return StillHeader(*picture)


def _broken(detail: str) -> UndecodableError:
    return UndecodableError("broken_webp", detail)

"""AVIF: a still picture, all its boxes there."""

from __future__ import annotations

from perception_batch.decode.stills.boxes import boxes
from perception_batch.decode.stills.header import StillHeader
from perception_batch.decode.undecodable import UndecodableError

_BROKEN = "broken_avif"


def is_avif(head: bytes) -> bool:
    """True for the first twelve bytes of an AVIF file, still or animated."""
    return head[4:12] in (b"ftypavif", b"ftypavis")


def read_avif(data: memoryview) -> StillHeader:
    """The size of the largest picture in it (ISO/IEC 23008-12, 6.5.3): thumbnails and alpha are no larger.

    Raises:
        UndecodableError: ``broken_avif``; ``unsupported_encoding``: an animation.
    """
    if bytes(data[8:12]) == b"avis":
        raise UndecodableError("unsupported_encoding", "an animated AVIF")
    top = dict(boxes(data, _BROKEN))
    if b"meta" not in top or b"mdat" not in top:
        raise UndecodableError(_BROKEN, "it holds no image data")
    properties = dict(boxes(top[b"meta"], _BROKEN, 4)).get(b"iprp", memoryview(b""))
    container = dict(boxes(properties, _BROKEN)).get(b"ipco", memoryview(b""))
    sizes = [
        (int.from_bytes(body[4:8], "big"), int.from_bytes(body[8:12], "big"))
        for kind, body in boxes(container, _BROKEN)
        if kind == b"ispe" and len(body) >= 12
    ]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    if not width or not height:
        raise UndecodableError(_BROKEN, f"its header says {width}x{height} pixels")
    return StillHeader(width, height)

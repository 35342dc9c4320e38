"""Boxes, as ISO files (JPEG 2000, AVIF) are made of."""

from __future__ import annotations

from collections.abc import Iterator

from perception_batch.decode.undecodable import UndecodableError

_MAX_BOXES = 10_000


def boxes(data: memoryview, broken: str, start: int = 0) -> Iterator[tuple[bytes, memoryview]]:
    """The kind and the body of each box, in order (ISO/IEC 14496-12, 4.2; ITU-T T.800, I.4).

    Args:
        data: the file, or a box's body.
        broken: reason for a box that does not fit.
        start: where the first box begins.

    Raises:
        UndecodableError: a box goes beyond the data.
    """
    position = start
    for _ in range(_MAX_BOXES):
        if position == len(data):
            return
        length = int.from_bytes(data[position : position + 4], "big")
        kind = bytes(data[position + 4 : position + 8])
        header = 8
        if length == 1:
            length, header = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        elif length == 0:
            length = len(data) - position
        if length < header or position + length > len(data):
            raise UndecodableError(broken, f"cut off: {len(data)} bytes end within a box")
        yield kind, data[position + header : position + length]
        position += length
    raise UndecodableError(broken, f"it has more than {_MAX_BOXES} boxes")

"""Byte sequences that no stream of NAL units with start codes has, such as a lost sector leaves behind."""

from __future__ import annotations

import re

_ZEROS = re.compile(rb"\0{3,}")


def is_overwritten(data: bytes | memoryview) -> bool:
    """True where an H.264 or H.265 packet in Annex B holds bytes that an encoder never writes.

    Inside a NAL unit two zeros are followed by at least a 3 (H.264 and H.265, 7.4.1 and 7.4.2); longer runs of
    zeros stand only before a start code and at the end. Decoders take a stretch of zeros for data without a word.
    """
    whole = bytes(data)
    if not whole.startswith((b"\0\0\1", b"\0\0\0")):
        return False
    if b"\0\0\2" in whole:
        return True
    if whole.find(b"\0\0\0", 1) < 0:
        return False
    ends = (match.end() for match in _ZEROS.finditer(whole))
    return any(end < len(whole) and whole[end] != 1 for end in ends)

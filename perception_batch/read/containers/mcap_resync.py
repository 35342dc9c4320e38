"""Places in damaged MCAP data where a record may begin."""

from __future__ import annotations

import re
from collections.abc import Iterator

from perception_batch.read.containers.byte_source import ByteSource

MAX_CHECKS = 200_000
"""Places that are looked at in one file: a file of nothing but such places must not take for ever."""

_WINDOW_BYTES = 1 << 20


def candidates(source: ByteSource, at: int, end: int, kinds: bytes) -> Iterator[int]:
    """Places from `at` to `end` where one of `kinds` stands, and then a size of less than 4 GiB."""
    pattern = re.compile(b"(?=[" + re.escape(kinds) + rb"].{4}\0\0\0\0)", re.DOTALL)
    while at < end:
        window = source.read(at, min(_WINDOW_BYTES, end - at))
        for match in pattern.finditer(window):
            yield at + match.start()
        if at + len(window) >= end or not window:
            return
        at += len(window) - 8

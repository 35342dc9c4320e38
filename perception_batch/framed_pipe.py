"""Objects through a pipe between a process and those it has started: length, then pickle.

Only for pipes whose both ends are this program: a pickle is code.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

_HEAD = 8
_CHUNK = 1 << 16


def send(handle: int, item: object) -> None:
    """Write one object.

    Raises:
        BrokenPipeError: the other end has gone.
    """
    data = pickle.dumps(item)
    rest = memoryview(len(data).to_bytes(_HEAD, "little") + data)
    while rest:
        rest = rest[os.write(handle, rest) :]


class Inbox:
    """Objects that come out of a pipe."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._data = bytearray()
        self.ended = False
        """Whether the other end has gone."""

    def take(self) -> list[Any]:
        """Read once (waits where nothing is there), and give the objects that are whole now."""
        data = os.read(self._handle, _CHUNK)
        self.ended = not data
        self._data += data
        found = []
        while len(self._data) >= _HEAD:
            end = _HEAD + int.from_bytes(self._data[:_HEAD], "little")
            if len(self._data) < end:
                break
            found.append(pickle.loads(self._data[_HEAD:end]))  # noqa: S301 - written by this program
            del self._data[:end]
        return found

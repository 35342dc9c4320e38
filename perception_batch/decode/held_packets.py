"""Packets of one video whose pictures nobody wants: held back from one key frame to the next, in case a later one rests on them.

Decoding is a matter of whole groups of pictures: one in which a picture is wanted is decoded from its key frame to its end,
the others not at all. Where a key frame's leading pictures are wanted (H.265: shown before it and stored after it), the
group before it is decoded too: so every picture is the one that decoding from the start would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from perception_batch.types import Payload, VideoPayload

T = TypeVar("T")

LIMIT_BYTES = 32 << 20
"""Most that is held of a camera; a longer group of pictures is decoded, wanted or not."""


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    packet: T
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Turn(Generic[T]):
    """What is to be done when a packet has come."""

    feed: tuple[T, ...] = ()
    """To be decoded now, in order; the packet itself is the last, or it is held back."""
    is_end: bool = False
    """The decoder is done then: what comes next begins at a key frame, or is not wanted."""


class HeldPackets(Generic[T]):
    """The packets of one camera, in order of decoding."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.overflows = 0
        """Groups of pictures that were decoded because they are too long to be held."""
        self._limit_bytes = limit_bytes
        self._held: list[_Held[T]] = []
        self._bytes = 0
        self._start: int | None = None  # in _held: the key frame whose leading pictures may still come
        self._feeds = False

    def take(self, packet: T, payload: Payload, *, is_wanted: bool) -> Turn[T]:
        """The next packet; `payload` may be something that is no packet, which leaves a hole in the video."""
        video = payload if isinstance(payload, VideoPayload) else None
        begins = self._start is not None and video is not None and video.has_picture and not video.is_leading
        if begins:  # with the first picture after those that lead the key frame
            self._forget(self._start or 0)
        if video is not None and video.is_key and video.is_restart:
            self._start = len(self._held)
        self._held.append(_Held(packet, payload.size_bytes))
        self._bytes += payload.size_bytes
        if self._feeds:
            if self._bytes > self._limit_bytes:  # too much to hold back: the feeding goes on
                self._start = None
            elif begins and not is_wanted:
                self._feeds = False
                return Turn((packet,), is_end=True)
            self._keep_start()
            return Turn((packet,))
        if not is_wanted:
            if self._bytes <= self._limit_bytes:
                return Turn()
            self.overflows += 1
        self._feeds = True
        feed = tuple(held.packet for held in self._held)
        self._keep_start()
        return Turn(feed)

    def _forget(self, count: int) -> None:
        """Let go of the oldest: a whole group of pictures, or what stood before the first key frame."""
        gone, self._held = self._held[:count], self._held[count:]
        self._bytes -= sum(held.size_bytes for held in gone)
        self._start = None

    def _keep_start(self) -> None:
        """What is fed need not be held, but for a key frame with which the feeding may end."""
        start = len(self._held) if self._start is None else self._start
        self._held = self._held[start:]
        self._bytes = sum(held.size_bytes for held in self._held)
        self._start = None if self._start is None else 0

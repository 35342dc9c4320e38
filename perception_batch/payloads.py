"""What an image is on its way from the log to pixels: a file, raw pixels, a video's packet, a decoder's picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Buffer: TypeAlias = bytes | memoryview | npt.NDArray[np.uint8]


def _size_bytes(data: Buffer) -> int:
    return data.nbytes if isinstance(data, (memoryview, np.ndarray)) else len(data)


@dataclass(frozen=True, slots=True)
class StillPayload:
    """A compressed still image, as the camera driver wrote it."""

    data: bytes | memoryview
    """The image file: JPEG, PNG or another that its first bytes name."""

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        return _size_bytes(self.data)


@dataclass(frozen=True, slots=True)
class RawPayload:
    """Uncompressed pixels, as in ``sensor_msgs/Image``."""

    data: Buffer
    """At least ``step_bytes * height`` bytes when whole; `decode` checks."""
    step_bytes: int
    """Bytes from one row to the next, padding included."""
    is_bigendian: bool
    """Byte order of pixels wider than eight bits."""

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        return _size_bytes(self.data)


@dataclass(frozen=True, slots=True)
class VideoPayload:
    """One packet of a video stream: one picture, decodable only after those before it, from a key frame on."""

    data: bytes | memoryview
    """The packet: Annex B (H.264, H.265), OBUs (AV1) or a frame (VP9)."""
    codec: str
    """``h264``, ``h265``, ``av1`` or ``vp9``; lower case."""
    is_key: bool
    """Decoding can begin here: a key frame with its parameter sets."""
    is_warm_up: bool = False
    """Before the range that was asked for: it feeds the decoder and is no frame of its own."""
    extradata: bytes = b""
    """Parameter sets that the container keeps outside the packets; empty where they stand in the packets."""
    is_restart: bool = False
    """No picture after it needs one before it, those excepted that are ``is_leading``: a key frame after which all
    comes out the same wherever decoding began."""
    is_leading: bool = False
    """Shown before the key frame that stands before it, and may need pictures from before that one."""
    has_picture: bool = True
    """False: parameter sets alone, or damaged such that nobody knows what it was."""

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        return _size_bytes(self.data)


@dataclass(frozen=True, slots=True)
class SkippedPayload:
    """A packet of a video that was not decoded, because what comes of it is known from an earlier run."""

    size_bytes: int = 0
    """Bytes in memory: none."""


@dataclass(frozen=True, slots=True)
class PicturePayload:
    """A picture that a video decoder gave, not RGB yet."""

    picture: Any
    """The decoder's own picture: a private matter of `decode`."""
    size_bytes: int
    """Bytes in memory."""


@dataclass(frozen=True, slots=True)
class BrokenPayload:
    """What is left of an image that cannot be decoded, where that is known before decoding."""

    reason: str
    """One short stable word, as in ``frames.parquet``."""
    detail: str = ""
    """One line for people."""
    size_bytes: int = 0
    """Bytes in memory."""


Payload: TypeAlias = (
    StillPayload | RawPayload | VideoPayload | PicturePayload | BrokenPayload | SkippedPayload
)

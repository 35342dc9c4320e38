"""Which images of a camera show the same again, by a hash of what they look like from afar.

The hash is that of the low frequencies: the picture is reduced to 64x64 grey, and of its cosine transform the signs of the
16x16 lowest coefficients against their median are kept (C. Zauner 2010, *Implementation and Benchmarking of Perceptual
Image Hash Functions*, there with 8x8). Compression and sensor noise turn 0 to 4 of the 256 bits; a vehicle that drives
turns 10 to 30 in a tenth of a second.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Hash = npt.NDArray[np.uint64]
"""(4,) 256 bits."""
_SIDE = 16
_GROW = 1024


def hash_of_file(data: bytes | memoryview) -> Hash | None:
    """Of an image file, decoded at an eighth of its size where it is a JPEG; None where it cannot be read."""
    flags = cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if grey is None or not grey.size else hash_of_grey(np.asarray(grey, np.uint8))


def hash_of_image(rgb: npt.NDArray[np.uint8]) -> Hash:
    """Of (H, W, 3) pixels."""
    small = cv2.resize(rgb, (4 * _SIDE, 4 * _SIDE), interpolation=cv2.INTER_AREA)
    return hash_of_grey(np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8))


def hash_of_grey(grey: npt.NDArray[np.uint8]) -> Hash:
    """Of an (H, W) picture."""
    small = cv2.resize(grey, (4 * _SIDE, 4 * _SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:_SIDE, :_SIDE].ravel()
    low[0] = 0.0  # the mean brightness says nothing of what is seen
    return np.packbits(low > np.median(low)).view(np.uint64)


class SeenImages:
    """The hashes of the images that were kept, camera by camera: 32 bytes each."""

    def __init__(self, most_bits: int) -> None:
        self._most = most_bits
        self._hashes: dict[str, Hash] = {}
        self._counts: dict[str, int] = {}

    def is_new(self, camera: str, found: Hash) -> bool:
        """False where an image of this camera that looks the same was kept; a new one is remembered."""
        count = self._counts.get(camera, 0)
        known = self._hashes.setdefault(camera, np.zeros((_GROW, 4), np.uint64))
        if (
            count
            and int(np.bitwise_count(known[:count] ^ found).sum(axis=1, dtype=np.int64).min()) <= self._most
        ):
            return False
        if count == len(known):
            known = self._hashes[camera] = np.concatenate([known, np.zeros_like(known)])
        known[count] = found
        self._counts[camera] = count + 1
        return True

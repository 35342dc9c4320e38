"""Pixels of more than eight bits, to eight.

The policy: of the `bit_depth` bits that the camera uses, the upper eight are kept; a brighter value counts as white.
``auto`` takes for each picture the smallest of 8, 10, 12, 14 and 16 bits that holds its brightest value, alpha
apart. A 12-bit camera in 16-bit words comes out in its own brightness, whichever end of the word it uses, and the
same picture always gives the same pixels. The price: a picture in which nothing reaches a quarter of the sensor's
range is taken for one of fewer bits and comes out four times as bright. Where that matters, give the depth.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from perception_batch.types import Image

BitDepth: TypeAlias = int | Literal["auto"]

_SENSOR_BITS = (8, 10, 12, 14, 16)


def depth_of(peak: int) -> int:
    """The smallest bit depth of a sensor that holds the value `peak`, 0..65535."""
    return next(bits for bits in _SENSOR_BITS if peak < 1 << bits)


def to_8_bits(values: npt.NDArray[np.uint16], bit_depth: BitDepth) -> Image:
    """The same shape in 8 bits; `values` is overwritten. Alpha must be gone before.

    Args:
        values: any shape, C-contiguous, native byte order.
        bit_depth: bits that the camera uses, 8..16, or ``auto``: from the brightest value.
    """
    peak = int(values.max(initial=0))
    shift = (depth_of(peak) if bit_depth == "auto" else bit_depth) - 8
    if shift:
        np.right_shift(values, shift, out=values)
    if peak >> shift > 255:
        np.minimum(values, 255, out=values)
    return values.astype(np.uint8)

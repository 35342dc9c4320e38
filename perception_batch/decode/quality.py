"""Blur, darkness and overexposure of a decoded picture, from a sample of its rows.

The picture is scaled down by averaging blocks of ``n x n`` pixels, `n` a power of two such that its long side keeps
640..1279 (less where it has less): about what a detector sees, and about the same for a JPEG that was decoded at a
fraction of its size. Of it 8 rows are looked at, evenly spread: their sharpness of a street is within a fifth of that
of all rows, at a fiftieth of the time. Nearly all of it is the first touch of cold memory, so there is little to gain.
"""

from __future__ import annotations

import cv2
import numpy as np

from perception_batch.picture_quality import BRIGHT_LUMA, DARK_LUMA, PictureQuality
from perception_batch.types import Image

MOST_BANDS = 8
"""Rows of the small picture that are looked at, each with the one above and the one below it for the Laplacian."""
LEAST_LONG_SIDE_PX = 640
"""What the small picture's long side has at least, where the original has it."""
_REDUCTIONS = (1, 2, 4, 8)


def picture_quality(image: Image, original_hw: tuple[int, int]) -> PictureQuality:
    """How sharp and how well exposed a picture is.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy",
    ICPR 2000) of luma (ITU-R BT.601), with four neighbours. It grows with the square of the contrast and with the
    scene's detail, so it compares the pictures of one camera, not cameras. A picture that is less than three pixels
    high or wide has none: 0.

    Args:
        image: (H, W, 3) uint8 RGB, C-contiguous, not empty.
        original_hw: its height and width in the log, px; larger than `image` where that was decoded reduced.

    Returns:
        Its numbers, each one that float32 holds.
    """
    reduced = _reduced_by(image, original_hw)
    block = max(block_px(original_hw), reduced)
    inner = block // reduced  # side of a block in `image`
    rows, columns = (max(1, side // block) for side in original_hw)
    tall = min(3, rows)
    count = min(MOST_BANDS, max(1, rows // 3))
    # Bands one pitch apart, each as one row of an array: a view of the picture, so that one call takes them all.
    pitch, line = rows // count, inner * image.shape[1]
    start = (pitch - tall) // 2 * line
    whole = image[: count * pitch * inner].reshape(count, pitch * line, 3)
    luma = cv2.cvtColor(whole[:, start : start + tall * line], cv2.COLOR_RGB2GRAY)
    luma = luma.reshape(count * tall * inner, -1)[:, : columns * inner]
    small = np.asarray(cv2.resize(luma, (columns, count * tall), interpolation=cv2.INTER_AREA), np.uint8)
    deviation = 0.0
    if tall == 3 and columns >= 3:
        laplacian = cv2.Laplacian(small, cv2.CV_16S, ksize=1)
        deviation = float(cv2.meanStdDev(laplacian[1::3, 1:-1])[1][0, 0])
    here = small[tall // 2 :: tall]
    dark = np.count_nonzero(here <= DARK_LUMA) / here.size
    bright = np.count_nonzero(here >= BRIGHT_LUMA) / here.size
    return PictureQuality(*(float(np.float32(value)) for value in (deviation * deviation, dark, bright)))


def block_px(original_hw: tuple[int, int]) -> int:
    """Side of the blocks, px of the original image: a power of two."""
    block = 1
    while max(original_hw) >= 2 * block * LEAST_LONG_SIDE_PX and min(original_hw) >= 2 * block:
        block *= 2
    return block


def _reduced_by(image: Image, original_hw: tuple[int, int]) -> int:
    """By how much the image was scaled down when it was decoded."""
    height, width = original_hw
    sizes = {(-(-height // by), -(-width // by)): by for by in reversed(_REDUCTIONS)}
    return sizes[image.shape[0], image.shape[1]]

"""Text on pictures: one small set of sizes, antialiased, cached as masks because most of it repeats."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.types import Image

Color: TypeAlias = tuple[int, int, int]
Mask: TypeAlias = npt.NDArray[np.uint8]

_LONGEST = 96


def plain_text(text: str) -> str:
    """`text` in printable ASCII: names come from logs, and older OpenCV fonts know nothing else."""
    clean = text
    if not (text.isascii() and text.isprintable()):
        clean = "".join(c if " " <= c <= "~" else "?" for c in text)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 3] + "..."


def text_size(text: str, size_px: int, *, bold: bool = False) -> tuple[int, int]:
    """Width of `text` and height of a line, px."""
    mask = _mask(plain_text(text), size_px, bold)
    return mask.shape[1], mask.shape[0]


def fit_text(text: str, width_px: int, size_px: int, *, bold: bool = False) -> str:
    """`text`, shortened with dots so that it is at most `width_px` wide; empty if nothing fits."""
    text = plain_text(text)
    if text_size(text, size_px, bold=bold)[0] <= width_px:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_size(text[:middle] + "..", size_px, bold=bold)[0] <= width_px:
            low = middle
        else:
            high = middle - 1
    return text[:low] + ".." if low else ""


def draw_text(
    image: Image, text: str, left_top: tuple[int, int], size_px: int, color: Color, *, bold: bool = False
) -> int:
    """Draw one line with its top left corner at `left_top`; what lies outside the image is cut off.

    Returns:
        The x just right of the text, px.
    """
    mask = _mask(plain_text(text), size_px, bold)
    x, y = left_top
    height, width = mask.shape
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + width, image.shape[1]), min(y + height, image.shape[0])
    if x0 < x1 and y0 < y1:
        # By OpenCV, which needs a third of the time that NumPy does for so few pixels.
        part = cv2.cvtColor(mask[y0 - y : y1 - y, x0 - x : x1 - x], cv2.COLOR_GRAY2RGB)
        under = image[y0:y1, x0:x1]
        ink = cv2.multiply(part, (*color, 0), scale=1 / 255)
        under[...] = cv2.add(cv2.multiply(under, cv2.bitwise_not(part), scale=1 / 255), ink)
    return int(x + width)


@lru_cache(maxsize=4096)
def _mask(text: str, size_px: int, bold: bool) -> Mask:
    """(H, W) coverage 0..255 of one line; H depends on the size alone, so that baselines agree."""
    height, baseline = round(size_px * 1.3), round(size_px * 1.0)
    if not text:
        return np.zeros((height, 0), np.uint8)
    canvas = np.zeros((height, size_px * len(text) + 8, 3), np.uint8)
    white = (255, 255, 255)
    if hasattr(
        cv2, "FontFace"
    ):  # a new one each time: it remembers its last size, so threads cannot share it
        end, _ = cv2.putText(
            canvas, text, (1, baseline), white, cv2.FontFace("sans"), size_px, 650 if bold else 450
        )
        right = int(end[0])
    else:  # OpenCV before 5 has only its stroke fonts
        scale = size_px / 30.0
        cv2.putText(
            canvas, text, (1, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, white, 1 + bold, cv2.LINE_AA
        )
        right = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1 + bold)[0][0]
    inked = np.flatnonzero(canvas[:, :, 0].any(axis=0))
    right = max(right, int(inked[-1]) + 1 if len(inked) else 0)
    mask = canvas[:, : min(right + 1, canvas.shape[1]), 0].copy()
    mask.setflags(write=False)
    return mask
